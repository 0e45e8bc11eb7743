/* Two monitors of one volume: what their clocks do not order is in doubt. */
#include "recoveryd/image/clock.h"
#include "tests/unit/common/seed.h"
#include "tests/unit/recoveryd/store_rig.h"

enum { SIZE = 4 << 20, BLOCK = 512 };

static uint64_t start(struct rig *rig, uint64_t error_a, uint64_t error_b) {
    rig_start(rig);
    uint64_t path = rig_path(rig, 1, 1, "iqn.a", "naa.1", SIZE, 100);
    rig_path(rig, 2, 1, "iqn.a", "naa.1", SIZE, 100);
    rig_clock(rig, 1, 1, 100, 10000, 10, error_a);
    rig_clock(rig, 2, 1, 100, 10000, 10, error_b);
    rig_floor_zero(rig, path, 0, SIZE);
    return path;
}

Test(rivals, writes_closer_than_both_errors_are_in_doubt_since_the_older) {
    struct rig rig;
    uint64_t path = start(&rig, 10, 5);
    rig_fill(&rig, path, (struct stamp){200, 1, 1, 1}, 0, 0, 2048, 1);
    rig_fill(&rig, path, (struct stamp){215, 2, 1, 1}, 0, 512, 512, 2);
    rig_fill(&rig, path, (struct stamp){216, 2, 1, 2}, 0, 1024, 512, 2);
    rig_commit(&rig);
    struct rig_byte byte = rig_byte_at(&rig, path, 300, 512);
    cr_assert_not(byte.exact);
    cr_assert_eq(byte.reason, GAP_CLOCK);
    cr_assert_eq(byte.since_ns, 200);
    cr_assert(rig_byte_at(&rig, path, 300, 1024).exact, "one more than the sum");
    cr_assert(rig_byte_at(&rig, path, 300, 0).exact);
    cr_assert(rig_byte_at(&rig, path, 300, 1536).exact);
    cr_assert(rig_byte_at(&rig, path, 214, 512).exact, "before the second");
    cr_assert_eq(rig_gap_count(&rig, path, 300), 1);
    rig_end(&rig);
}

Test(rivals, a_later_update_outside_of_the_error_ends_the_doubt) {
    struct rig rig;
    uint64_t path = start(&rig, 10, 5);
    rig_fill(&rig, path, (struct stamp){200, 1, 1, 1}, 0, 0, 512, 1);
    rig_fill(&rig, path, (struct stamp){205, 2, 1, 1}, 0, 0, 512, 2);
    rig_fill(&rig, path, (struct stamp){210, 2, 1, 2}, 0, 0, 512, 3);
    rig_fill(&rig, path, (struct stamp){216, 2, 1, 3}, 0, 0, 512, 4);
    rig_commit(&rig);
    cr_assert_not(rig_byte_at(&rig, path, 205, 0).exact);
    cr_assert_not(rig_byte_at(&rig, path, 210, 0).exact);
    cr_assert_eq(rig_byte_at(&rig, path, 210, 0).since_ns, 200, "below what lies between");
    cr_assert(rig_byte_at(&rig, path, 216, 0).exact);
    cr_assert_eq(rig_byte_at(&rig, path, 216, 0).value, 4);
    rig_end(&rig);
}

Test(rivals, the_same_content_is_no_rival) {
    struct rig rig;
    uint64_t path = start(&rig, 10, 10);
    rig_fill(&rig, path, (struct stamp){200, 1, 1, 1}, 0, 0, 512, 1);
    rig_fill(&rig, path, (struct stamp){205, 2, 1, 1}, 0, 0, 512, 1);
    rig_put(&rig, path, &(struct stamp){300, 1, 1, 2}, 512, 512, NULL, 0);
    rig_put(&rig, path, &(struct stamp){301, 2, 1, 2}, 0, 4096, NULL, 0);
    rig_commit(&rig);
    cr_assert(rig_byte_at(&rig, path, 250, 0).exact);
    cr_assert(rig_byte_at(&rig, path, 400, 512).exact, "zeros are zeros");
    cr_assert_eq(rig_gap_count(&rig, path, 400), 0);
    rig_end(&rig);
}

Test(rivals, writes_in_flight_at_once_have_no_order) {
    struct rig rig;
    uint64_t path = start(&rig, 0, 0);
    rig_fill(&rig, path, (struct stamp){200, 1, 1, 1}, 190, 0, 1024, 1);
    rig_fill(&rig, path, (struct stamp){250, 2, 1, 1}, 195, 0, 512, 2);
    rig_fill(&rig, path, (struct stamp){250, 2, 1, 2}, 201, 512, 512, 2);
    rig_fill(&rig, path, (struct stamp){220, 1, 1, 3}, 215, 1024, 512, 1);
    rig_fill(&rig, path, (struct stamp){260, 2, 1, 4}, 220, 1024, 512, 2);
    rig_commit(&rig);
    cr_assert_not(rig_byte_at(&rig, path, 300, 1024).exact, "issued in the same moment");
    struct rig_byte byte = rig_byte_at(&rig, path, 300, 0);
    cr_assert_not(byte.exact);
    cr_assert_eq(byte.reason, GAP_OVERLAP);
    cr_assert_eq(byte.since_ns, 200);
    cr_assert(rig_byte_at(&rig, path, 300, 512).exact, "issued when the other was done");
    rig_end(&rig);
}

Test(rivals, one_monitor_is_its_own_clock) {
    struct rig rig;
    uint64_t path = start(&rig, 1000, 1000);
    rig_fill(&rig, path, (struct stamp){200, 1, 1, 1}, 150, 0, 512, 1);
    rig_fill(&rig, path, (struct stamp){201, 1, 1, 2}, 160, 0, 512, 2);
    rig_commit(&rig);
    cr_assert(rig_byte_at(&rig, path, 300, 0).exact, "the monitor says itself what overlapped");
    rig_end(&rig);
}

Test(rivals, another_monitors_write_within_the_error_does_not_end_a_gap) {
    struct rig rig;
    uint64_t path = start(&rig, 10, 5);
    rig_gap(&rig, path, &(struct stamp){200, 1, 1, 1}, 0, 2048, GAP_FAILED_WRITE);
    rig_fill(&rig, path, (struct stamp){215, 2, 1, 1}, 0, 0, 512, 2);
    rig_fill(&rig, path, (struct stamp){216, 2, 1, 2}, 0, 512, 512, 2);
    rig_fill(&rig, path, (struct stamp){201, 1, 1, 3}, 0, 1024, 512, 2);
    rig_commit(&rig);
    struct rig_byte byte = rig_byte_at(&rig, path, 300, 0);
    cr_assert_not(byte.exact);
    cr_assert_eq(byte.reason, GAP_FAILED_WRITE);
    cr_assert_eq(byte.since_ns, 200);
    cr_assert(rig_byte_at(&rig, path, 300, 512).exact);
    cr_assert(rig_byte_at(&rig, path, 300, 1024).exact, "the monitor knows its own order");
    rig_end(&rig);
}

/* The gap of a loss begins where all was right; what was lost may have come after another's write.
 */
Test(rivals, another_monitors_loss_ends_only_when_it_must_have_been_known) {
    struct rig rig;
    uint64_t path = start(&rig, 10, 5);
    uint64_t known = 400 + CLOCK_LOSS_NS;
    rig_clock(&rig, 1, 1, 100, 2 * known, 10, 10);
    rig_clock(&rig, 2, 1, 100, 2 * known, 10, 5);
    rig_gap(&rig, path, &(struct stamp){400, 2, 1, 4}, 0, GAP_TO_END, GAP_CAPTURE_LOSS);
    rig_fill(&rig, path, (struct stamp){known + 15, 1, 1, 4}, 0, 0, 512, 3);
    rig_fill(&rig, path, (struct stamp){known + 16, 1, 1, 5}, 0, 512, 512, 3);
    rig_fill(&rig, path, (struct stamp){known + 100, 1, 1, 6}, known, 1024, 512, 3);
    rig_fill(&rig, path, (struct stamp){401, 2, 1, 7}, 0, 1536, 512, 3);
    rig_fill(&rig, path, (struct stamp){500, 1, 1, 8}, 0, 2048, (1 << 20) - 2048, 3);
    rig_commit(&rig);
    cr_assert_eq(rig_byte_at(&rig, path, known + 200, 0).reason, GAP_CAPTURE_LOSS);
    cr_assert_eq(rig_byte_at(&rig, path, known + 200, 0).since_ns, 400);
    cr_assert(rig_byte_at(&rig, path, known + 200, 512).exact);
    cr_assert_not(rig_byte_at(&rig, path, known + 200, 1024).exact, "in flight since then");
    cr_assert(rig_byte_at(&rig, path, known + 200, 1536).exact, "the monitor knows its own order");
    cr_assert_not(rig_byte_at(&rig, path, known + 200, 2048).exact);
    rig_end(&rig);
}

/* With pieces below the gap, all covered by one above it. */
Test(rivals, a_loss_below_all_that_can_be_seen_is_not_overlooked) {
    struct rig rig;
    uint64_t path = start(&rig, 0, 0);
    rig_clock(&rig, 1, 1, 100, 2 * CLOCK_LOSS_NS, 10, 0);
    rig_clock(&rig, 2, 1, 100, 2 * CLOCK_LOSS_NS, 10, 0);
    rig_fill(&rig, path, (struct stamp){300, 1, 1, 1}, 0, 0, 1 << 20, 1);
    rig_gap(&rig, path, &(struct stamp){400, 2, 1, 4}, 0, GAP_TO_END, GAP_CAPTURE_LOSS);
    rig_fill(&rig, path, (struct stamp){500, 1, 1, 2}, 0, 0, 1 << 20, 2);
    rig_fill(&rig, path, (struct stamp){1000, 1, 1, 3}, 0, 0, 1 << 20, 3);
    rig_commit(&rig);
    cr_assert_eq(rig_byte_at(&rig, path, 1500, 0).reason, GAP_CAPTURE_LOSS);
    cr_assert_not(rig_byte_at(&rig, path, 1500, 0).exact);
    rig_end(&rig);
}

/* Whether the clocks were measured or not. */
Test(rivals, a_write_in_flight_does_not_end_another_monitors_failed_one) {
    struct rig rig;
    uint64_t path = start(&rig, 0, 0);
    rig_gap(&rig, path, &(struct stamp){250, 2, 1, 1}, 0, 1024, GAP_FAILED_WRITE);
    rig_fill(&rig, path, (struct stamp){300, 1, 1, 1}, 240, 0, 512, 2);
    rig_fill(&rig, path, (struct stamp){300, 1, 1, 2}, 251, 512, 512, 2);
    rig_commit(&rig);
    cr_assert_eq(rig_byte_at(&rig, path, 400, 0).reason, GAP_FAILED_WRITE);
    cr_assert_not(rig_byte_at(&rig, path, 400, 0).exact, "it may have come first");
    cr_assert(rig_byte_at(&rig, path, 400, 512).exact);
    rig_end(&rig);
}

/* --- against a model -----------------------------------------------------------------------------
 */

enum { OPS = 40, BLOCKS = 12, ROUNDS = 60 };

struct write {
    struct stamp stamp;
    uint64_t issued_ns;
    int start;
    int blocks;
    uint8_t value;
};

static int compare(const void *left, const void *right) {
    const struct write *a = left;
    const struct write *b = right;
    return stamp_compare(&a->stamp, &b->stamp);
}

static bool rivals(const struct write *newer, const struct write *older, uint64_t apart) {
    uint64_t begin = newer->issued_ns > 0 ? newer->issued_ns : newer->stamp.time_ns;
    if (newer->stamp.monitor == older->stamp.monitor || newer->value == older->value)
        return false;
    if (begin < newer->stamp.time_ns && older->stamp.time_ns >= begin)
        return true;
    return apart > 0 && older->stamp.time_ns + apart >= begin;
}

/* The writes lie whole or not at all over a block, each with a range of its own. */
static void check_block(struct rig *rig, uint64_t path, const struct write *w, int block,
                        uint64_t time_ns, uint64_t apart) {
    const struct write *last = NULL;
    bool exact = true;
    uint64_t since = 0;
    for (int i = OPS - 1; i >= 0; i--) {
        if (w[i].stamp.time_ns > time_ns || block < w[i].start || block >= w[i].start + w[i].blocks)
            continue;
        if (last == NULL) {
            last = &w[i];
            continue;
        }
        bool same =
            last->start == w[i].start && last->blocks == w[i].blocks && last->value == w[i].value;
        struct write other = w[i];
        other.value = same ? last->value : (uint8_t)(last->value + 1);
        if (rivals(last, &other, apart)) {
            exact = false;
            since = w[i].stamp.time_ns;
        }
    }
    struct rig_byte byte = rig_byte_at(rig, path, time_ns, (uint64_t)block * BLOCK);
    cr_assert_eq(byte.exact, exact, "block %d at %lu", block, time_ns);
    if (!exact)
        cr_assert_eq(byte.since_ns, since);
    cr_assert_eq(byte.value, last != NULL ? last->value : 0);
}

static void check_history(unsigned seed) {
    struct rig rig;
    struct write w[OPS];
    uint64_t errors[2] = {(uint64_t)(rand_r(&seed) % 3 * 4), (uint64_t)(rand_r(&seed) % 3 * 4)};
    uint64_t path = start(&rig, errors[0], errors[1]);
    for (uint64_t i = 0; i < OPS; i++) {
        uint64_t time_ns = 200 + (uint64_t)(rand_r(&seed) % 120);
        w[i] = (struct write){.stamp = {time_ns, 1 + (uint64_t)(rand_r(&seed) % 2), 1, i},
                              .start = rand_r(&seed) % BLOCKS,
                              .blocks = 1 + rand_r(&seed) % 4,
                              .value = (uint8_t)(1 + rand_r(&seed) % 3)};
        if (rand_r(&seed) % 3 == 0)
            w[i].issued_ns = time_ns - 1 - (uint64_t)(rand_r(&seed) % 20);
        rig_fill(&rig, path, w[i].stamp, w[i].issued_ns, (uint64_t)w[i].start * BLOCK,
                 (uint32_t)w[i].blocks * BLOCK, w[i].value);
    }
    rig_commit(&rig);
    qsort(w, OPS, sizeof w[0], compare);
    for (int block = 0; block < BLOCKS + 4; block++)
        check_block(&rig, path, w, block, 200 + (uint64_t)(rand_r(&seed) % 130),
                    errors[0] + errors[1]);
    rig_end(&rig);
}

Test(rivals, any_history_of_two_monitors_equals_the_model) {
    unsigned seed = test_seed();
    for (unsigned i = 0; i < ROUNDS; i++)
        check_history(seed + i);
}
