#include "common/rangeset.h"
#include "tests/unit/common/seed.h"

#include <criterion/criterion.h>
#include <string.h>

enum { SPAN = 200, STEPS = 4000 };

Test(rangeset, touching_ranges_become_one) {
    struct rangeset s;
    rangeset_init(&s, 8);
    rangeset_add(&s, 10, 20);
    rangeset_add(&s, 30, 40);
    cr_assert_eq(s.count, 2);
    rangeset_add(&s, 20, 30);
    cr_assert_eq(s.count, 1);
    cr_assert(rangeset_contains(&s, 10, 40));
    cr_assert_not(rangeset_contains(&s, 9, 40));
    cr_assert_eq(rangeset_first_missing(&s, 10), 40);
    cr_assert_eq(rangeset_first_missing(&s, 5), 5);
    rangeset_release(&s);
}

Test(rangeset, limit_refuses_and_leaves_the_set_alone) {
    struct rangeset s;
    rangeset_init(&s, 2);
    cr_assert(rangeset_add(&s, 0, 1));
    cr_assert(rangeset_add(&s, 10, 11));
    cr_assert_not(rangeset_add(&s, 5, 6));
    cr_assert_eq(rangeset_total(&s), 2);
    cr_assert(rangeset_add(&s, 1, 10), "closing a hole needs no room");
    cr_assert_eq(s.count, 1);
    cr_assert(rangeset_remove(&s, 4, 5));
    cr_assert_not(rangeset_remove(&s, 7, 8), "a split needs room");
    rangeset_release(&s);
}

static void compare(const struct rangeset *s, const bool *model) {
    for (uint64_t from = 0; from < SPAN; from++) {
        uint64_t missing = from;
        while (missing < SPAN && model[missing])
            missing++;
        uint64_t found = rangeset_first_missing(s, from);
        cr_assert_eq(found < SPAN ? found : SPAN, missing);
    }
    for (size_t i = 1; i < s->count; i++)
        cr_assert_lt(s->ranges[i - 1].end, s->ranges[i].start, "sorted, disjoint, not touching");
}

static void compare_queries(const struct rangeset *s, const bool *model, uint64_t start,
                            uint64_t end) {
    struct range hole = {0};
    struct range part = {0};
    uint64_t first_hole = start;
    uint64_t first_part = start;
    while (first_hole < end && model[first_hole])
        first_hole++;
    while (first_part < end && !model[first_part])
        first_part++;
    cr_assert_eq(rangeset_missing(s, start, end, &hole), first_hole < end);
    cr_assert_eq(rangeset_overlap(s, start, end, &part), first_part < end);
    if (first_hole < end) {
        cr_assert_eq(hole.start, first_hole);
        for (uint64_t i = hole.start; i < hole.end; i++)
            cr_assert_not(model[i]);
        cr_assert(hole.end == end || model[hole.end]);
    }
    if (first_part < end) {
        cr_assert_eq(part.start, first_part);
        for (uint64_t i = part.start; i < part.end; i++)
            cr_assert(model[i]);
        cr_assert(part.end == end || !model[part.end]);
    }
}

Test(rangeset, equals_a_bitmap_over_random_steps) {
    unsigned seed = test_seed();
    struct rangeset s;
    bool model[SPAN + 1] = {false};
    rangeset_init(&s, SPAN);
    for (int step = 0; step < STEPS; step++) {
        uint64_t start = (uint64_t)rand_r(&seed) % SPAN;
        uint64_t end = start + (uint64_t)rand_r(&seed) % 20;
        if (end > SPAN)
            end = SPAN;
        bool add = rand_r(&seed) % 2;
        cr_assert(add ? rangeset_add(&s, start, end) : rangeset_remove(&s, start, end));
        for (uint64_t i = start; i < end; i++)
            model[i] = add;
        compare(&s, model);
        compare_queries(&s, model, (uint64_t)rand_r(&seed) % SPAN, SPAN);
        compare_queries(&s, model, start, end);
    }
    rangeset_release(&s);
}
