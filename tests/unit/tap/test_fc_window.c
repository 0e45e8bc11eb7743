/* The window that puts frames in the order of their times. */
#include "common/clock.h"
#include "tap/fc/internal.h"

#include <criterion/criterion.h>
#include <time.h>

enum { FRAMES = 120000, MIXED = 3000, ROUNDS = 40 };
#define START_NS (UINT64_C(1767225600) * NS_PER_SECOND)

static void add(struct window *w, uint64_t time_ns, uint32_t number) {
    struct frame frame = {.payload = (const uint8_t *)"", .parameter = number};
    cr_assert(window_add(w, &frame, time_ns));
}

static uint64_t any(uint64_t *state, uint64_t count) {
    *state = *state * UINT64_C(6364136223846793005) + 1442695040888963407;
    return (*state >> 33) % count;
}

/* By time, and those of one time as they came. */
static size_t take_all(struct window *w, uint64_t until_ns) {
    uint64_t newest_ns = 0;
    uint32_t number = 0;
    size_t count = 0;
    for (struct seen *s = window_next(w, until_ns); s != NULL; s = window_next(w, until_ns)) {
        cr_assert(s->time_ns > newest_ns ||
                  (s->time_ns == newest_ns && s->frame.parameter > number));
        newest_ns = s->time_ns;
        number = s->frame.parameter;
        count++;
        seen_free(s);
    }
    return count;
}

/* Times that are close together, equal, far apart, and further apart than any window. */
Test(fc_window, any_order_of_coming) {
    static const uint64_t spans_ns[] = {100, 50000, WINDOW_NS, 3 * NS_PER_SECOND};
    uint64_t state = 1;
    for (uint64_t round = 1; round <= ROUNDS; round++) {
        struct window *w = window_create(SIZE_MAX);
        uint64_t span_ns = spans_ns[round % 4];
        size_t count = 0;
        for (uint32_t i = 1; i <= MIXED; i++) {
            add(w, START_NS + any(&state, span_ns), i);
            if (i % 1000 == 0)
                count += take_all(w, START_NS + any(&state, span_ns));
        }
        cr_assert_eq(count + take_all(w, UINT64_MAX), MIXED);
        cr_assert_eq(window_oldest(w), UINT64_MAX);
        window_destroy(w);
    }
}

/* Two directions, of which one comes later by half of the window: each of its frames belongs
 * before all of the other's that wait. */
Test(fc_window, a_late_one_costs_no_more_than_others, .timeout = 60) {
    struct window *w = window_create(SIZE_MAX);
    uint64_t step_ns = WINDOW_NS / 2 / FRAMES;
    clock_t start = clock();
    for (uint32_t i = 0; i < FRAMES; i++)
        add(w, START_NS + WINDOW_NS / 2 + i * step_ns, i);
    for (uint32_t i = 0; i < FRAMES; i++)
        add(w, START_NS + 1 + i * step_ns, i);
    cr_assert_eq(take_all(w, UINT64_MAX), 2 * FRAMES);
    cr_assert_lt((double)(clock() - start) / CLOCKS_PER_SEC, 5);
    window_destroy(w);
}
