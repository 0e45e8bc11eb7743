/* What sequence numbers prove (RFC 7143 4.2.2). */
#include "tap/iscsi/numbers.h"

#include <criterion/criterion.h>

enum { FAR = 1 << 20 };

static struct command_numbers n;
static struct status_numbers s;

static void start(void) {
    command_numbers_init(&n);
    s = (struct status_numbers){0};
}

static void end(void) {
    command_numbers_release(&n);
}

TestSuite(iscsi_numbers, .init = start, .fini = end);

#define TAKE(number, step)  cr_assert_eq(command_numbers_take(&n, (number)), (step))
#define REACH(number, step) cr_assert_eq(command_numbers_reach(&n, (number)), (step))
#define MISSING(count)      cr_assert_eq(command_numbers_missing(&n), (count))

Test(iscsi_numbers, in_order) {
    TAKE(7, NUMBERS_FIRST);
    REACH(8, NUMBERS_NEXT);
    TAKE(8, NUMBERS_NEXT);
    TAKE(9, NUMBERS_NEXT);
    REACH(10, NUMBERS_NEXT);
    REACH(9, NUMBERS_BEHIND);
    MISSING(0);
}

Test(iscsi_numbers, what_is_reached_first_is_not_taken) {
    REACH(7, NUMBERS_FIRST);
    TAKE(7, NUMBERS_NEXT);
    TAKE(8, NUMBERS_NEXT);
    MISSING(0);
}

Test(iscsi_numbers, ahead_and_filled) {
    TAKE(7, NUMBERS_FIRST);
    TAKE(10, NUMBERS_AHEAD);
    MISSING(2);
    TAKE(9, NUMBERS_BEHIND);
    MISSING(1);
    TAKE(9, NUMBERS_BEHIND);
    MISSING(1);
    TAKE(11, NUMBERS_NEXT);
    REACH(8, NUMBERS_BEHIND);
    MISSING(1);
    TAKE(8, NUMBERS_BEHIND);
    MISSING(0);
}

/* The target says that it expects more than was seen. */
Test(iscsi_numbers, reached_without_a_command) {
    TAKE(7, NUMBERS_FIRST);
    REACH(10, NUMBERS_AHEAD);
    MISSING(2);
    TAKE(10, NUMBERS_NEXT);
    TAKE(8, NUMBERS_BEHIND);
    MISSING(1);
}

Test(iscsi_numbers, before_the_first) {
    TAKE(0, NUMBERS_FIRST);
    TAKE(UINT32_MAX, NUMBERS_BEHIND);
    TAKE(UINT32_MAX - 1000, NUMBERS_BEHIND);
    MISSING(0);
    TAKE(1, NUMBERS_NEXT);
}

Test(iscsi_numbers, around_the_end) {
    for (uint32_t first = UINT32_MAX - 4; first != 4; first++) {
        command_numbers_forget(&n);
        TAKE(first, NUMBERS_FIRST);
        TAKE(first + 4, NUMBERS_AHEAD);
        MISSING(3);
        TAKE(first + 2, NUMBERS_BEHIND);
        REACH(first + 5, NUMBERS_NEXT);
        TAKE(first + 1, NUMBERS_BEHIND);
        TAKE(first + 3, NUMBERS_BEHIND);
        MISSING(0);
    }
}

/* Twice around: the numbers are widened from where they are. */
Test(iscsi_numbers, all_the_way_around) {
    uint32_t number = 5;
    TAKE(number, NUMBERS_FIRST);
    for (uint64_t done = 0; done < UINT64_C(2) << 32; done += FAR - 1) {
        number += FAR - 1;
        REACH(number, NUMBERS_AHEAD);
    }
    uint64_t missing = command_numbers_missing(&n);
    cr_assert_geq(missing, UINT64_C(2) << 32);
    TAKE(number - 1, NUMBERS_BEHIND);
    MISSING(missing - 1);
}

Test(iscsi_numbers, wild) {
    static const uint32_t far[] = {FAR, UINT32_C(1) << 31, (uint32_t)-FAR, (UINT32_C(1) << 31) - 1};
    for (size_t i = 0; i < sizeof far / sizeof *far; i++) {
        command_numbers_forget(&n);
        TAKE(6, NUMBERS_FIRST);
        TAKE(8, NUMBERS_AHEAD);
        TAKE(9 + far[i], NUMBERS_WILD);
        cr_assert_not(n.known);
        MISSING(0);
        TAKE(9, NUMBERS_FIRST);
        REACH(10 + far[i], NUMBERS_WILD);
    }
    command_numbers_forget(&n);
    TAKE(6, NUMBERS_FIRST);
    TAKE(7 + FAR - 1, NUMBERS_AHEAD);
    TAKE(8 + FAR - 1 - (FAR - 1), NUMBERS_BEHIND);
}

/* Every third number passes, as often as there is room. */
static void fill(unsigned ranges) {
    TAKE(0, NUMBERS_FIRST);
    for (unsigned i = 1; i <= ranges; i++)
        TAKE(4 * i, NUMBERS_AHEAD);
    MISSING(3 * ranges);
}

Test(iscsi_numbers, more_pieces_than_can_be_kept) {
    fill(NUMBERS_RANGES);
    TAKE(4 * NUMBERS_RANGES + 1, NUMBERS_NEXT);
    TAKE(4 * NUMBERS_RANGES + 4, NUMBERS_WILD);
    cr_assert_not(n.known);
    MISSING(0);
}

/* A missing one in the middle of three makes two pieces of one: then, too, all is lost, and said.
 */
Test(iscsi_numbers, a_piece_that_cannot_be_cut) {
    fill(NUMBERS_RANGES);
    TAKE(5, NUMBERS_BEHIND);
    MISSING(3 * NUMBERS_RANGES - 1);
    TAKE(10, NUMBERS_WILD);
    cr_assert_not(n.known);
    MISSING(0);
}

#define SEE(number, counts, step, lost_count)                                                      \
    do {                                                                                           \
        uint32_t lost = 99;                                                                        \
        cr_assert_eq(status_numbers_see(&s, (number), (counts), &lost), (step));                   \
        cr_assert_eq(lost, (lost_count));                                                          \
    } while (0)

Test(iscsi_numbers, statuses) {
    SEE(7, true, NUMBERS_FIRST, 0);
    SEE(8, false, NUMBERS_NEXT, 0);
    SEE(8, true, NUMBERS_NEXT, 0);
    SEE(12, false, NUMBERS_AHEAD, 3);
    SEE(12, true, NUMBERS_NEXT, 0);
    SEE(15, true, NUMBERS_AHEAD, 2);
    SEE(10, true, NUMBERS_BEHIND, 0);
    SEE(16, true, NUMBERS_NEXT, 0);
}

Test(iscsi_numbers, first_status_that_only_names_the_next) {
    SEE(7, false, NUMBERS_FIRST, 0);
    SEE(7, true, NUMBERS_NEXT, 0);
}

Test(iscsi_numbers, statuses_around_the_end) {
    SEE(UINT32_MAX, true, NUMBERS_FIRST, 0);
    SEE(0, true, NUMBERS_NEXT, 0);
    SEE(UINT32_MAX, true, NUMBERS_BEHIND, 0);
    SEE(3, true, NUMBERS_AHEAD, 2);
    s.known = false;
    SEE(UINT32_MAX - 1, true, NUMBERS_FIRST, 0);
    SEE(2, true, NUMBERS_AHEAD, 3);
}

/* Another connection on the same ports, or nonsense: it goes on from there. */
Test(iscsi_numbers, wild_statuses) {
    static const uint32_t far[] = {FAR, UINT32_C(1) << 31, (uint32_t)-FAR};
    uint32_t next = 7;
    SEE(next++, true, NUMBERS_FIRST, 0);
    for (size_t i = 0; i < sizeof far / sizeof *far; i++) {
        next += far[i];
        SEE(next++, true, NUMBERS_WILD, 0);
        SEE(next++, true, NUMBERS_NEXT, 0);
    }
    SEE(next + FAR - 1, false, NUMBERS_AHEAD, FAR - 1);
    SEE(next, true, NUMBERS_BEHIND, 0);
}
