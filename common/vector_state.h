/*
 * vector_state: leave the vector registers as a function written in C would.
 *
 * ISA-L's assembly (2.30) returns with the upper halves of the vector registers in use. Code that
 * the compiler made for plain SSE then stops for more than 100 ns each time the processor goes from
 * one to the other: a monitor parsing writes of 4 KiB took 1.7 times as long (0.28 s instead of
 * 0.16 s for 256 MB, on a Xeon with AVX-512), with the time shown at innocent moves of 16 bytes.
 * Call this after each of ISA-L's functions. Any thread; costs a nanosecond.
 */
#ifndef SANREWIND_COMMON_VECTOR_STATE_H
#define SANREWIND_COMMON_VECTOR_STATE_H

#if defined __x86_64__

#include <immintrin.h>

__attribute__((target("avx"))) static inline void vector_state_zero_upper(void) {
    _mm256_zeroupper();
}

static inline void vector_state_clean(void) {
    if (__builtin_cpu_supports("avx"))
        vector_state_zero_upper();
}

#else

static inline void vector_state_clean(void) {
}

#endif

#endif
