/*
 * clock: two kinds of time that must not be mixed.
 *
 * Wall time is a plain uint64_t in names that end in _ns: nanoseconds since the Unix epoch (UTC, as
 * CLOCK_REALTIME counts). It stamps updates. Monotonic time is a struct, so that the compiler
 * refuses to mix them. It measures waiting.
 */
#ifndef SANREWIND_COMMON_CLOCK_H
#define SANREWIND_COMMON_CLOCK_H

#include <stdint.h>
#include <time.h>

#define NS_PER_SECOND UINT64_C(1000000000)
#define NS_PER_MS     UINT64_C(1000000)

struct mono {
    uint64_t ns;
};

static inline uint64_t clock_read_ns(clockid_t id) {
    struct timespec now;
    clock_gettime(id, &now);
    return (uint64_t)now.tv_sec * NS_PER_SECOND + (uint64_t)now.tv_nsec;
}

static inline uint64_t clock_wall_ns(void) {
    return clock_read_ns(CLOCK_REALTIME);
}

static inline struct mono clock_mono(void) {
    return (struct mono){clock_read_ns(CLOCK_MONOTONIC)};
}

/* Nanoseconds from `start` until now. */
static inline uint64_t clock_since_ns(struct mono start) {
    return clock_mono().ns - start.ns;
}

/* Moments and spans, in ns: what would leave the range of a number stays at its end. */
static inline uint64_t clock_plus(uint64_t a, uint64_t b) {
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}
static inline uint64_t clock_minus(uint64_t a, uint64_t b) {
    return a > b ? a - b : 0;
}

#endif
