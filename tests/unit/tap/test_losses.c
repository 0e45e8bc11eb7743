#include "tap/decap/losses.h"

#include "common/clock.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

static struct losses *l;
static unsigned reports;
static char text[256];
static uint64_t right_ns;
static uint64_t now_ns;
static struct loss_key key = {
    .kind = LOSS_ERSPAN2, .family = 4, .session = 101, .source = {10, 0, 0, 1}};

static void report(void *context, const char *what, uint64_t time_ns) {
    (void)context;
    reports++;
    snprintf(text, sizeof text, "%s", what);
    right_ns = time_ns;
}

static void start(void) {
    l = losses_create(report, NULL);
    now_ns = NS_PER_SECOND;
}

static void stop(void) {
    losses_destroy(l);
}

TestSuite(losses, .init = start, .fini = stop);

/* One frame each ms. */
static void number(uint32_t value) {
    now_ns += NS_PER_MS;
    losses_number(l, &key, value, 32, now_ns);
}

static void numbers(uint32_t first, uint32_t last) {
    for (uint32_t value = first; value != last + 1; value++)
        number(value);
}

static void expect(unsigned count, uint64_t lost) {
    cr_assert_eq(reports, count, "%u: %s", reports, text);
    cr_assert_eq(losses_counters(l)->lost, lost);
}

Test(losses, none_while_it_counts_over_the_end) {
    numbers(UINT32_MAX - 100, 100);
    losses_tick(l, UINT64_MAX);
    expect(0, 0);
    cr_assert_eq(losses_counters(l)->numbered, 202);
}

Test(losses, jump_begins_when_all_was_right) {
    numbers(1, 10);
    uint64_t before_ns = now_ns;
    numbers(14, 20);
    expect(0, 0);
    cr_assert_eq(*losses_due(l), before_ns + 101 * NS_PER_MS);
    losses_tick(l, before_ns + 101 * NS_PER_MS - 1);
    expect(0, 0);
    losses_tick(l, before_ns + 101 * NS_PER_MS);
    expect(1, 3);
    cr_assert_eq(right_ns, before_ns);
    cr_assert_str_eq(
        text, "3 frames of ERSPAN session 101 of 10.0.0.1 were lost between the mirror and here");
    cr_assert_eq(*losses_due(l), UINT64_MAX);
    numbers(21, 40);
    losses_tick(l, UINT64_MAX);
    expect(1, 3);
}

Test(losses, late_frames_are_none) {
    numbers(1, 10);
    number(13);
    number(11);
    number(14);
    number(12);
    numbers(15, 200);
    losses_tick(l, UINT64_MAX);
    expect(0, 0);
}

Test(losses, copies_are_none) {
    for (uint32_t value = 1; value < 100; value++) {
        number(value);
        number(value);
    }
    losses_tick(l, UINT64_MAX);
    expect(0, 0);
}

Test(losses, missing_number_leaves_the_window) {
    numbers(1, 10);
    uint64_t before_ns = now_ns;
    for (uint32_t value = 12; value < 12 + 63; value++)
        losses_number(l, &key, value, 32, now_ns);
    expect(0, 0);
    losses_number(l, &key, 12 + 63, 32, now_ns);
    expect(1, 1);
    cr_assert_eq(right_ns, before_ns);
}

Test(losses, one_hole_is_one_loss) {
    numbers(1, 10);
    for (uint32_t value = 20; value < 20 + 93; value++)
        losses_number(l, &key, value == 50 ? 49 : value, 32, now_ns);
    expect(1, 9);
    for (uint32_t value = 113; value < 220; value++)
        losses_number(l, &key, value, 32, now_ns);
    expect(2, 10);
}

Test(losses, farther_than_the_window) {
    numbers(1, 10);
    number(1000010);
    expect(1, 999999);
    numbers(1000011, 1000020);
    losses_tick(l, UINT64_MAX);
    expect(1, 999999);
}

Test(losses, what_is_open_at_the_end) {
    numbers(1, 10);
    number(12);
    losses_tick(l, UINT64_MAX);
    expect(1, 1);
}

Test(losses, counter_that_begins_again) {
    numbers(100000, 100010);
    uint64_t before_ns = now_ns;
    number(1);
    expect(1, 0);
    cr_assert_eq(losses_counters(l)->restarts, 1);
    cr_assert_eq(right_ns, before_ns);
    numbers(2, 100);
    expect(1, 0);
}

Test(losses, counters_of_two_line_cards_are_not_believed_for_long) {
    for (uint32_t i = 0; i < 1000; i++) {
        number(5000 + i);
        number(900000 + i);
    }
    cr_assert_eq(losses_counters(l)->unreliable, 1);
    cr_assert_not_null(strstr(text, "losses cannot be seen"));
    unsigned told = reports;
    cr_assert_leq(told, 20);
    number(77);
    cr_assert_eq(reports, told);
}

Test(losses, counter_that_stands_still) {
    for (unsigned i = 0; i < 1000; i++)
        number(0);
    losses_tick(l, UINT64_MAX);
    expect(0, 0);
}

Test(losses, sessions_are_apart) {
    struct loss_key other = key;
    other.session = 102;
    for (uint32_t i = 0; i < 100; i++) {
        number(i);
        losses_number(l, &other, 70000 + i, 32, now_ns);
    }
    losses_tick(l, UINT64_MAX);
    expect(0, 0);
}

Test(losses, sixteen_bits) {
    key.kind = LOSS_PAA;
    key.family = 0;
    for (uint32_t i = 65000; i < 66000; i++)
        losses_number(l, &key, i & 0xffff, 16, now_ns);
    expect(0, 0);
    losses_number(l, &key, (66000 + 4) & 0xffff, 16, now_ns);
    losses_tick(l, UINT64_MAX);
    expect(1, 4);
    cr_assert_not_null(strstr(text, "port analyser adapter at 0a:00:00:01:00:00"));
}

Test(losses, more_sessions_than_there_is_room) {
    for (uint16_t i = 0; i < 1000; i++) {
        key.session = i;
        number(5);
        number(7);
    }
    losses_tick(l, UINT64_MAX);
    expect(1000, 1000); /* those that were forgotten told theirs before */
}
