/* Samples: which blocks of a session without a name are remembered, and when they are forgotten. */
#include "common/clock.h"
#include "common/digest.h"
#include "scsi_recorder.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 512 };

struct sampled {
    struct scsi_world w; /* its nexus is one of iqn.target with a name */
    struct nexus *late;
    struct tracker_sample list[TRACKER_SAMPLES];
};

static struct sampled make(void) {
    struct sampled s = {.w = scsi_world_disk()};
    s.late = tracker_nexus_open_provisional(s.w.tracker, PATH_ISCSI, "iqn.initiator", "portal-a");
    s.w.now_ns += NS_PER_SECOND;
    cr_assert(tracker_nexus_sample(s.late, 0));
    return s;
}

static void end(struct sampled *s) {
    tracker_nexus_close(s->late, 0, NULL, 0);
    scsi_world_end(&s->w);
}

/* A block of chance, the same for the same seed. */
static void fill_block(uint8_t *block, unsigned seed) {
    for (size_t i = 0; i < BLOCK; i++)
        block[i] = (uint8_t)(rand_r(&seed) >> 5);
}

static struct exchange *begin(struct sampled *s, struct nexus *n, uint32_t lba,
                              const uint8_t *block) {
    uint8_t cdb[16] = {0x2a, [8] = 1};
    put_be(cdb + 2, lba, 4);
    struct exchange *x = scsi_send(&s->w, n, cdb, sizeof cdb, BLOCK, 0);
    tracker_data_out(x, 0, block, BLOCK);
    return x;
}

static void put_block(struct sampled *s, struct nexus *n, uint32_t lba, const uint8_t *block) {
    s->w.now_ns += NS_PER_SECOND;
    scsi_good(&s->w, begin(s, n, lba, block));
}

/* Content of its own, long after everything else. */
static void put_one(struct sampled *s, struct nexus *n, uint32_t lba, unsigned seed) {
    uint8_t block[BLOCK];
    fill_block(block, seed);
    s->w.now_ns += 10 * NS_PER_SECOND;
    put_block(s, n, lba, block);
}

static size_t count(struct sampled *s) {
    return tracker_nexus_samples(s->late, s->list);
}

Test(scsi_sample, what_was_written_is_remembered) {
    struct sampled s = make();
    uint8_t block[BLOCK];
    fill_block(block, 5);
    put_one(&s, s.late, 100, 5);
    cr_assert_eq(count(&s), 1);
    cr_assert_eq(s.list[0].lba, 100);
    cr_assert_eq(s.list[0].lun, UINT64_C(1) << 48);
    cr_assert_eq(s.list[0].block_bytes, BLOCK);
    cr_assert_eq(s.list[0].id, digest_id64(block, BLOCK));
    cr_assert_eq(tracker_nexus_holds(s.late, s.list[0].number), SAMPLE_HOLDS);
    cr_assert_eq(tracker_nexus_holds(s.late, s.list[0].number + 1), SAMPLE_GONE);
    end(&s);
}

Test(scsi_sample, nobody_is_sampled_who_was_not_asked_for) {
    struct sampled s = make();
    tracker_nexus_unsample(s.late);
    put_one(&s, s.late, 100, 5);
    put_one(&s, s.w.nexus, 200, 6);
    cr_assert_eq(count(&s), 0);
    cr_assert_eq(tracker_nexus_samples(s.w.nexus, s.list), 0);
    end(&s);
}

Test(scsi_sample, what_may_be_anywhere_is_worth_nothing) {
    struct sampled s = make();
    uint8_t block[BLOCK] = {0};
    put_block(&s, s.late, 10, block);
    memset(block, 0xa5, sizeof block);
    put_block(&s, s.late, 20, block);
    for (size_t i = 0; i < BLOCK; i++)
        block[i] = (uint8_t)i; /* a pattern of 256 bytes */
    put_block(&s, s.late, 30, block);
    memset(block, 0, sizeof block);
    for (size_t i = 0; i < 16; i++)
        block[7 * i] = (uint8_t)(i + 1); /* few values */
    put_block(&s, s.late, 40, block);
    cr_assert_eq(count(&s), 0);
    put_one(&s, s.late, 50, 1);
    put_one(&s, s.late, 60, 1);
    cr_assert_eq(count(&s), 1, "the same content twice");
    end(&s);
}

Test(scsi_sample, forgotten_when_anybody_writes_there) {
    struct sampled s = make();
    for (int who = 0; who < 3; who++) {
        struct nexus *n = who == 0 ? s.late : s.w.nexus;
        put_one(&s, s.late, 100, (unsigned)who);
        put_one(&s, s.late, 200, (unsigned)who + 10);
        cr_assert_eq(count(&s), 2);
        uint64_t number = s.list[0].number;
        cr_assert_eq(s.list[0].lba, 100);
        if (who < 2)
            scsi_good(&s.w, scsi_write(&s.w, n, 96, 8, 1));
        else
            tracker_abandon(scsi_write(&s.w, n, 96, 8, 1), GAP_ABORTED, "aborted", ++s.w.now_ns);
        cr_assert_eq(tracker_nexus_holds(s.late, number), SAMPLE_GONE, "who %d", who);
        cr_assert_eq(count(&s), 1);
        cr_assert_eq(s.list[0].lba, 200);
        cr_assert(tracker_nexus_sample(s.late, 0));
    }
    end(&s);
}

Test(scsi_sample, forgotten_when_something_passed_unseen) {
    struct sampled s = make();
    put_one(&s, s.late, 100, 5);
    tracker_nexus_gap(s.w.nexus, GAP_STREAM_HOLE, "a hole", ++s.w.now_ns);
    cr_assert_eq(count(&s), 0);
    put_one(&s, s.late, 100, 6);
    cr_assert_eq(count(&s), 1);
    tracker_gap(s.w.tracker, GAP_STREAM_HOLE, "a hole", ++s.w.now_ns);
    cr_assert_eq(count(&s), 0);
    end(&s);
}

Test(scsi_sample, command_in_flight) {
    struct sampled s = make();
    struct nexus *open_on[] = {s.late, s.w.nexus};
    for (int i = 0; i < 2; i++) {
        put_one(&s, s.late, 100, (unsigned)i + 20);
        cr_assert_eq(count(&s), 1);
        uint64_t number = s.list[0].number;
        struct exchange *x = scsi_write(&s.w, open_on[i], 99, 2, 7);
        cr_assert_eq(tracker_nexus_holds(s.late, number), SAMPLE_OPEN, "on %d", i);
        scsi_check(&s.w, x, 5, 0x21, 0); /* refused: nothing has changed */
        cr_assert_eq(tracker_nexus_holds(s.late, number), SAMPLE_HOLDS, "on %d", i);
        cr_assert(tracker_nexus_sample(s.late, 0));
    }
    end(&s);
}

/* Two writes that were in flight together have no order. */
Test(scsi_sample, overlapping_writes) {
    struct sampled s = make();
    uint8_t block[BLOCK];
    s.w.now_ns += 10 * NS_PER_SECOND;
    fill_block(block, 1);
    struct exchange *first = begin(&s, s.late, 100, block);
    struct exchange *second = scsi_write(&s.w, s.late, 100, 1, 9);
    scsi_good(&s.w, second);
    s.w.now_ns += NS_PER_SECOND;
    scsi_good(&s.w, first);
    cr_assert_gt(GAPS(s.w), 0);
    cr_assert_eq(count(&s), 0);
    end(&s);
}

/* A host that mirrors writes the same to two units, in any order. */
Test(scsi_sample, mirrored_by_a_host) {
    struct sampled s = make();
    uint8_t block[BLOCK];
    fill_block(block, 1);
    s.w.now_ns += 10 * NS_PER_SECOND;
    scsi_good(&s.w, begin(&s, s.w.nexus, 100, block));
    scsi_good(&s.w, begin(&s, s.late, 100, block));
    cr_assert_eq(count(&s), 0, "the other came first");
    fill_block(block, 2);
    s.w.now_ns += 10 * NS_PER_SECOND;
    scsi_good(&s.w, begin(&s, s.late, 200, block));
    cr_assert_eq(count(&s), 1);
    scsi_good(&s.w, begin(&s, s.w.nexus, 200, block));
    cr_assert_eq(count(&s), 0, "the other came behind");
    end(&s);
}

Test(scsi_sample, limits) {
    struct sampled s = make();
    for (uint32_t i = 0; i < 20; i++)
        put_one(&s, s.late, 100 * (i + 1), i);
    cr_assert_eq(count(&s), TRACKER_SAMPLES / 2, "one unit leaves room for others");
    cr_assert(tracker_nexus_sample(s.late, s.w.now_ns + 5 * NS_PER_SECOND));
    cr_assert_eq(count(&s), 0, "begun anew");
    uint8_t block[BLOCK];
    fill_block(block, 50);
    put_block(&s, s.late, 7, block);
    cr_assert_eq(count(&s), 0, "issued before the time that was given");
    put_one(&s, s.late, 8, 51);
    cr_assert_eq(count(&s), 1);
    end(&s);
}

Test(scsi_sample, sessions_are_limited) {
    struct sampled s = make();
    struct nexus *others[64];
    char name[16];
    for (int i = 0; i < 64; i++) {
        snprintf(name, sizeof name, "portal-%d", i);
        others[i] = tracker_nexus_open_provisional(s.w.tracker, PATH_ISCSI, "iqn.i", name);
        cr_assert_eq(tracker_nexus_sample(others[i], 0), i < 63);
    }
    tracker_nexus_close(others[0], 0, NULL, 0);
    cr_assert(tracker_nexus_sample(others[63], 0), "a session has ended");
    for (int i = 1; i < 64; i++)
        tracker_nexus_close(others[i], 0, NULL, 0);
    end(&s);
}
