#include "../common/seed.h"
#include "sim.h"

#include "recoveryd/receive/marks.h"

#include <criterion/criterion.h>
#include <string.h>

static struct stream_entry add_all(const uint64_t *orders, size_t count) {
    struct stream_entry entry = {0};
    for (size_t i = 0; i < count; i++)
        cr_assert(marks_add(&entry, orders[i], orders[i] * 10));
    return entry;
}

Test(marks, in_order_moves_the_frontier) {
    struct stream_entry entry = add_all((uint64_t[]){0, 1, 2}, 3);
    cr_assert_eq(entry.frontier, 3);
    cr_assert_eq(entry.frontier_ns, 20);
    cr_assert_eq(entry.run_count, 0);
}

Test(marks, a_hole_holds_the_frontier_back) {
    struct stream_entry entry = add_all((uint64_t[]){0, 2, 3, 5}, 4);
    cr_assert_eq(entry.frontier, 1);
    cr_assert_eq(entry.frontier_ns, 0);
    cr_assert_eq(entry.run_count, 2);
    cr_assert_eq(entry.runs[0].start, 2);
    cr_assert_eq(entry.runs[0].end, 4);
    cr_assert_eq(entry.runs[0].last_ns, 30);
    cr_assert(!marks_have(&entry, 1));
    cr_assert(marks_have(&entry, 3));
    cr_assert(!marks_have(&entry, 4));
    cr_assert(marks_have(&entry, 5));
    cr_assert(!marks_have(&entry, 6));
}

Test(marks, the_hole_closes) {
    struct stream_entry entry = add_all((uint64_t[]){0, 2, 3, 5, 1}, 5);
    cr_assert_eq(entry.frontier, 4);
    cr_assert_eq(entry.frontier_ns, 30);
    cr_assert_eq(entry.run_count, 1);
    cr_assert(marks_add(&entry, 4, 40));
    cr_assert_eq(entry.frontier, 6);
    cr_assert_eq(entry.frontier_ns, 50);
    cr_assert_eq(entry.run_count, 0);
}

Test(marks, twice_is_once) {
    struct stream_entry entry = add_all((uint64_t[]){0, 2, 3, 5}, 4);
    struct stream_entry again = entry;
    cr_assert(marks_add(&again, 0, 999));
    cr_assert(marks_add(&again, 3, 999));
    cr_assert_eq(memcmp(&entry, &again, sizeof entry), 0);
}

Test(marks, runs_have_a_limit) {
    struct stream_entry entry = {0};
    for (uint64_t i = 0; i < STREAM_RUNS; i++)
        cr_assert(marks_add(&entry, 10 + 2 * i, i));
    struct stream_entry full = entry;
    cr_assert(!marks_add(&entry, 1, 0), "one run too many");
    cr_assert(!marks_add(&entry, 10 + 2 * STREAM_RUNS, 0));
    cr_assert_eq(memcmp(&entry, &full, sizeof entry), 0, "a refusal changes nothing");
    cr_assert(marks_add(&entry, 11, 0), "closing a hole needs no room");
    cr_assert_eq(entry.run_count, STREAM_RUNS - 1);
    cr_assert(marks_add(&entry, 0, 0), "the frontier neither");
}

Test(marks, what_a_record_promises) {
    struct record update = {.type = RECORD_UPDATE, .update = {.time_ns = 100}};
    struct record frontier = {.type = RECORD_FRONTIER, .frontier = {.time_ns = 100}};
    struct record gap = {.type = RECORD_GAP, .gap = {.time_ns = 0}};
    cr_assert_eq(marks_promise(&update), 0, "an earlier one may follow");
    cr_assert_eq(marks_promise(&frontier), 100);
    cr_assert_eq(marks_promise(&gap), 0);
}

/* Any order, any repetition: the same entry. */
Test(marks, any_order_gives_the_same_entry) {
    enum { COUNT = 60 };
    uint64_t state = test_seed();
    struct stream_entry expected = {0};
    for (uint64_t i = 0; i < COUNT; i++)
        marks_add(&expected, i, i * 10);
    for (int round = 0; round < 500; round++) {
        struct stream_entry entry = {0};
        uint64_t orders[2 * COUNT];
        for (size_t i = 0; i < 2 * COUNT; i++)
            orders[i] = i % COUNT;
        for (size_t i = 2 * COUNT; i > 1; i--) {
            size_t other = sim_random(&state) % i;
            uint64_t kept = orders[i - 1];
            orders[i - 1] = orders[other];
            orders[other] = kept;
        }
        for (size_t i = 0; i < 2 * COUNT; i++) {
            cr_assert(marks_add(&entry, orders[i], orders[i] * 10));
            for (uint32_t r = 0; r < entry.run_count; r++)
                cr_assert_lt(r == 0 ? entry.frontier : entry.runs[r - 1].end, entry.runs[r].start);
        }
        cr_assert_eq(entry.frontier, expected.frontier);
        cr_assert_eq(entry.frontier_ns, expected.frontier_ns);
        cr_assert_eq(entry.run_count, 0);
    }
}
