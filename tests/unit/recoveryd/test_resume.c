/* A restart that missed nothing of a path declares nothing of it. */
#include "recoveryd/receive/restart.h"
#include "tests/unit/recoveryd/store_rig.h"

enum { SIZE = 1 << 20 };

/* Stream 10 up to 500, then stream 600 from 600 on, which puts the gaps of its restart. */
static void start(struct rig *rig, uint64_t *a, uint64_t *b) {
    rig_start(rig);
    *a = rig_path(rig, 1, 10, "iqn.a", "naa.1", SIZE, 100);
    *b = rig_path(rig, 1, 10, "iqn.b", "naa.2", SIZE, 100);
    rig_floor_zero(rig, *a, 0, SIZE);
    rig_floor_zero(rig, *b, 0, SIZE);
    rig_clock(rig, 1, 10, 100, 500, 40, 0);
    rig_commit(rig);
}

static void restart(struct rig *rig) {
    struct stream_entry fresh = {.monitor = 1, .stream = 600, .name = "mon"};
    rig_ok(rig, restart_put_gaps(rig->store->index, rig_writer(rig), &fresh, 600, &rig->err));
    rig_clock(rig, 1, 600, 600, 900, 3, 0);
    rig_commit(rig);
}

static void resume(struct rig *rig, uint64_t path, uint64_t order) {
    struct resume_entry r = {
        .path = path, .monitor = 1, .stream = 600, .earlier = 10, .order = order};
    rig_ok(rig, index_put_resume(rig_writer(rig), &r, &rig->err));
    rig_commit(rig);
}

static bool count_gap(void *context, const struct gap_entry *gap) {
    size_t *count = context;
    (void)gap;
    (*count)++;
    return true;
}

static size_t listed(struct rig *rig, uint64_t path) {
    size_t count = 0;
    AUTO(index_reader) r = rig_reader(rig);
    rig_ok(rig, index_each_gap(r, path, UINT64_MAX, count_gap, &count, &rig->err));
    return count;
}

Test(resume, the_restart_gap_of_a_resumed_path_does_not_count_and_others_do) {
    struct rig rig;
    uint64_t a;
    uint64_t b;
    start(&rig, &a, &b);
    restart(&rig);
    cr_assert_eq(rig_gap_count(&rig, a, 900), 1);
    resume(&rig, a, 40);
    cr_assert_eq(rig_gap_count(&rig, a, 900), 0);
    cr_assert_eq(listed(&rig, a), 0, "not in lists either");
    cr_assert_eq(rig_gap_count(&rig, b, 900), 1);
    cr_assert_eq(rig_byte_at(&rig, b, 900, 0).reason, GAP_MONITOR_RESTART);
    rig_end(&rig);
}

Test(resume, the_order_does_not_matter_and_the_earlier_stream_must_be_whole) {
    struct rig rig;
    uint64_t a;
    uint64_t b;
    start(&rig, &a, &b);
    resume(&rig, a, 41); /* comes before the new stream's first record */
    restart(&rig);
    cr_assert_eq(rig_gap_count(&rig, a, 900), 1, "mark 40 of the earlier stream is missing");
    rig_clock(&rig, 1, 10, 100, 550, 41, 0); /* and arrives last of all */
    rig_commit(&rig);
    cr_assert_eq(rig_gap_count(&rig, a, 900), 0);
    rig_end(&rig);
}

Test(resume, another_stream_or_an_unknown_one_proves_nothing) {
    struct rig rig;
    uint64_t a;
    uint64_t b;
    start(&rig, &a, &b);
    restart(&rig);
    struct resume_entry wrong[] = {
        {.path = a, .monitor = 1, .stream = 601, .earlier = 10, .order = 1},
        {.path = a, .monitor = 2, .stream = 600, .earlier = 10, .order = 1},
        {.path = a, .monitor = 1, .stream = 600, .earlier = 11, .order = 0},
        {.path = b + 1, .monitor = 1, .stream = 600, .earlier = 10, .order = 1},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        rig_ok(&rig, index_put_resume(rig_writer(&rig), &wrong[i], &rig.err));
    rig_commit(&rig);
    cr_assert_eq(rig_gap_count(&rig, a, 900), 1);
    rig_end(&rig);
}
