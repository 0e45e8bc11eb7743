#include "tap/clock_error.h"

#include <criterion/criterion.h>
#include <sys/timex.h>

/* What chronyd leaves: both figures, and no STA_UNSYNC. */
static struct timex synchronised(long maxerror, long esterror) {
    return (struct timex){.status = STA_PLL, .maxerror = maxerror, .esterror = esterror};
}

Test(clock_error, the_bound_is_maxerror_not_the_estimate) {
    struct timex clock = synchronised(1234, 87);
    cr_assert_eq(clock_error_of(&clock), 1234000);
}

Test(clock_error, microseconds_even_where_the_rest_is_in_nanoseconds) {
    struct timex clock = synchronised(1234, 87);
    clock.status |= STA_NANO;
    cr_assert_eq(clock_error_of(&clock), 1234000);
}

Test(clock_error, unknown_when_not_synchronised) {
    struct timex clock = synchronised(1234, 87);
    clock.status |= STA_UNSYNC;
    cr_assert_eq(clock_error_of(&clock), 0);
    clock.status = STA_PLL | STA_CLOCKERR;
    cr_assert_eq(clock_error_of(&clock), 0);
}

Test(clock_error, unknown_as_the_kernel_begins) {
    struct timex clock = synchronised(16000000, 16000000);
    cr_assert_eq(clock_error_of(&clock), 0);
    clock.esterror = 3;
    cr_assert_eq(clock_error_of(&clock), 0, "the bound has run out");
}

Test(clock_error, a_bound_of_somebody_who_keeps_none_is_unknown) {
    /* systemd-timesyncd, at the update and 37 s behind it */
    struct timex clock = synchronised(0, 0);
    cr_assert_eq(clock_error_of(&clock), 0);
    clock.maxerror = 37 * 500;
    cr_assert_eq(clock_error_of(&clock), 0);
    /* phc2sys */
    clock = synchronised(500, 16000000);
    cr_assert_eq(clock_error_of(&clock), 0);
}

Test(clock_error, a_reference_clock_with_an_estimate_below_a_microsecond) {
    struct timex clock = synchronised(11, 0);
    cr_assert_eq(clock_error_of(&clock), 11000);
    clock.maxerror = 11 + 8 * 500;
    cr_assert_eq(clock_error_of(&clock), 4011000);
}

Test(clock_error, whole_multiples_count_when_there_is_an_estimate) {
    struct timex clock = synchronised(1500, 40);
    cr_assert_eq(clock_error_of(&clock), 1500000);
}

Test(clock_error, never_below_the_estimate) {
    struct timex clock = synchronised(40, 900);
    cr_assert_eq(clock_error_of(&clock), 900000);
    clock.esterror = 16000000;
    clock.maxerror = 41;
    cr_assert_eq(clock_error_of(&clock), 0, "the estimate says that nothing is known");
}

Test(clock_error, nonsense_is_unknown) {
    struct timex clock = synchronised(-1, -1);
    cr_assert_eq(clock_error_of(&clock), 0);
}

Test(clock_error, this_machine_answers_within_the_kernels_limit) {
    cr_assert_lt(clock_error_now(), UINT64_C(16000000000));
}
