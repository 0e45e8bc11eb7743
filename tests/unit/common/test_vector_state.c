/* What ISA-L leaves in the vector registers must not slow down everything that comes after it. */
#include "common/blocksum.h"
#include "common/crc32.h"
#include "common/crc32c.h"
#include "common/vector_state.h"

#include <criterion/criterion.h>
#include <stdint.h>

#if defined __x86_64__

#include <cpuid.h>

enum {
    UPPER_HALVES = 1 << 2,   /* XINUSE: bits 128 to 255 of a register */
    UPPER_QUARTERS = 1 << 6, /* bits 256 to 511 */
    BYTES = 4096,
};

static uint8_t data[BYTES];

/* XGETBV with ECX 1 tells what is in use (Intel SDM, volume 1, 13.6), where CPUID says that it is
 * there. */
static bool can_tell(void) {
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    return __builtin_cpu_supports("avx") &&
           __get_cpuid_count(0xd, 1, &eax, &ebx, &ecx, &edx) != 0 && (eax & 1 << 2) != 0;
}

static uint32_t in_use(void) {
    uint32_t low = 0, high = 0;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(1));
    return low & (UPPER_HALVES | UPPER_QUARTERS);
}

static void expect_clean(const char *after) {
    uint32_t used = in_use();
    cr_assert_eq(used, 0, "%s leaves vector state 0x%x in use", after, used);
}

Test(vector_state, nothing_is_left_in_use) {
    if (!can_tell())
        cr_skip_test("this processor doesn't tell what is in use");
    vector_state_clean();
    if (in_use() != 0)
        cr_skip_test("this processor tells of registers that are not in use, too");
    crc32c(0, data, sizeof data);
    expect_clean("crc32c");
    crc32_frame(0, data, sizeof data);
    expect_clean("crc32_frame");
    blocksum_add(0, data, sizeof data);
    expect_clean("blocksum_add");
}

#endif
