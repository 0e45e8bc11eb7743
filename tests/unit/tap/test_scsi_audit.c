/* What READs return, summed up. */
#include "common/blocksum.h"
#include "scsi_recorder.h"

#include <criterion/criterion.h>
#include <string.h>

static struct scsi_world world(uint32_t one_in) {
    struct tracker_limits limits = tracker_default_limits();
    limits.audit_one_in = one_in;
    struct scsi_world w = scsi_world_make_limited(&limits);
    scsi_capacity(&w, w.nexus, 1 << 20, 512, 0xc0);
    return w;
}

static struct exchange *read_of(struct scsi_world *w, uint32_t lba, uint16_t blocks) {
    uint8_t cdb[16] = {0x28};
    put_be(cdb + 2, lba, 4);
    put_be(cdb + 7, blocks, 2);
    return scsi_send(w, w->nexus, cdb, sizeof cdb, 0, blocks * 512u);
}

static uint8_t content(size_t at) {
    return (uint8_t)(at * 7 + at / 512);
}

static void give(struct exchange *x, size_t start, size_t end) {
    uint8_t data[64 * 512];
    for (size_t i = start; i < end; i++)
        data[i - start] = content(i);
    tracker_data_in(x, start, data, end - start);
}

static uint32_t sum_of(size_t block) {
    uint8_t data[512];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = content(block * 512 + i);
    return blocksum(data, sizeof data);
}

static void read_all(struct scsi_world *w, uint32_t lba, uint16_t blocks) {
    struct exchange *x = read_of(w, lba, blocks);
    cr_assert_not_null(x);
    cr_assert(tracker_wants_data_in(x));
    give(x, 0, blocks * 512u);
    scsi_good(w, x);
}

Test(scsi_audit, blocks_that_are_cut_anywhere) {
    struct scsi_world w = world(1);
    struct exchange *x = read_of(&w, 100, 4);
    give(x, 0, 1);
    give(x, 1, 700);
    give(x, 700, 1024);
    give(x, 1024, 2048);
    scsi_good(&w, x);
    cr_assert_eq(AUDITS(w), 1);
    const struct recorded *e = recorded_audit(w.recorder, 0);
    cr_assert(e->lba == 100 && e->blocks == 4 && e->block_bytes == 512);
    cr_assert(e->issued_ns == w.now_ns - 1 && e->time_ns == w.now_ns);
    for (size_t i = 0; i < 4; i++)
        cr_assert_eq(e->sums[i], sum_of(i), "block %zu", i);
    cr_assert_eq(tracker_counters(w.tracker)->audited_blocks, 4);
    scsi_world_end(&w);
}

Test(scsi_audit, one_in_some) {
    struct scsi_world w = world(3);
    for (int i = 0; i < 9; i++) {
        struct exchange *x = read_of(&w, 100, 1);
        cr_assert_eq(x != NULL, i % 3 == 0, "%d", i);
        if (x == NULL)
            continue;
        give(x, 0, 512);
        scsi_good(&w, x);
    }
    cr_assert_eq(AUDITS(w), 3);
    scsi_world_end(&w);
    w = world(0);
    cr_assert_null(read_of(&w, 100, 1));
    scsi_world_end(&w);
}

Test(scsi_audit, reads_that_say_nothing) {
    struct scsi_world w = world(1);
    struct exchange *x = read_of(&w, 100, 2);
    give(x, 0, 600);
    scsi_good(&w, x); /* not all of it came */
    x = read_of(&w, 100, 2);
    give(x, 512, 1024); /* out of order */
    give(x, 0, 512);
    scsi_good(&w, x);
    x = read_of(&w, 100, 2);
    give(x, 0, 1024);
    tracker_data_in_revoke(x); /* a broken digest */
    scsi_good(&w, x);
    x = read_of(&w, 100, 2);
    give(x, 0, 1024);
    scsi_check(&w, x, 3, 0x11, 0);
    x = read_of(&w, 100, 2);
    give(x, 0, 1024);
    scsi_check(&w, x, 1, 0x17, 0); /* recovered */
    x = read_of(&w, 100, 2);
    give(x, 0, 1024);
    tracker_status(x, &(struct tracker_status){.delivered = true, .residual_underflow = 512});
    x = read_of(&w, 100, 2);
    give(x, 0, 1024);
    tracker_abandon(x, GAP_ABORTED, "was aborted", w.now_ns);
    const uint8_t protected_cdb[16] = {0x28, 0x20, 0, 0, 0, 100, 0, 0, 2};
    cr_assert_null(scsi_send(&w, w.nexus, protected_cdb, sizeof protected_cdb, 0, 1024));
    const uint8_t longer[16] = {0x28, 0, 0, 0, 0, 100, 0, 0, 2};
    cr_assert_null(scsi_send(&w, w.nexus, longer, sizeof longer, 0, 2048), "another amount");
    cr_assert_eq(AUDITS(w) + GAPS(w), 0);
    scsi_world_end(&w);
}

Test(scsi_audit, volume_that_is_not_known) {
    struct tracker_limits limits = tracker_default_limits();
    limits.audit_one_in = 1;
    struct scsi_world w = scsi_world_make_limited(&limits);
    cr_assert_null(read_of(&w, 100, 1));
    scsi_world_end(&w);
}

Test(scsi_audit, longer_than_a_record) {
    struct scsi_world w = world(1);
    uint8_t cdb[16] = {0x88, 0, 0, 0, 0, 0, 0, 0, 0, 100};
    const uint32_t blocks = 9000; /* more than are looked at */
    put_be(cdb + 10, blocks, 4);
    struct exchange *x = scsi_send(&w, w.nexus, cdb, sizeof cdb, 0, blocks * 512);
    for (size_t at = 0; at < blocks * (size_t)512; at += 64 * 512)
        give(x, at, at + 64 * 512 < blocks * (size_t)512 ? at + 64 * 512 : blocks * (size_t)512);
    scsi_good(&w, x);
    cr_assert_eq(AUDITS(w), 9);
    uint64_t lba = 100;
    for (size_t i = 0; i < 9; i++) {
        const struct recorded *e = recorded_audit(w.recorder, i);
        cr_assert_eq(e->lba, lba);
        cr_assert_eq(e->sums[0], sum_of(lba - 100));
        lba += e->blocks;
    }
    cr_assert_eq(lba, 100 + 8192);
    scsi_world_end(&w);
}

/* A READ of 100 to 131, and what was left out of it. */
static void expect_audited(struct scsi_world *w, uint64_t first, uint64_t end, size_t index) {
    const struct recorded *e = recorded_audit(w->recorder, index);
    cr_expect(e->lba == first && e->lba + e->blocks == end, "%lu to %lu", e->lba,
              e->lba + e->blocks);
    cr_expect_eq(e->sums[0], sum_of(first - 100));
}

Test(scsi_audit, blocks_that_change_meanwhile) {
    struct scsi_world w = world(1);
    struct exchange *before = scsi_write(&w, w.nexus, 104, 4, 1);
    struct exchange *x = read_of(&w, 100, 32);
    struct exchange *during = scsi_write(&w, w.nexus, 120, 4, 1);
    give(x, 0, 32 * 512);
    scsi_good(&w, during);
    scsi_good(&w, before);
    scsi_good(&w, x);
    cr_assert_eq(AUDITS(w), 3);
    expect_audited(&w, 100, 104, 0);
    expect_audited(&w, 108, 120, 1);
    expect_audited(&w, 124, 132, 2);
    recorder_forget(w.recorder);
    read_all(&w, 100, 32);
    expect_audited(&w, 100, 132, 0);
    scsi_world_end(&w);
}

Test(scsi_audit, writes_that_are_still_open) {
    struct scsi_world w = world(1);
    struct exchange *before = scsi_write(&w, w.nexus, 104, 4, 1);
    read_all(&w, 100, 32);
    cr_assert_eq(AUDITS(w), 0);
    scsi_good(&w, before);
    struct exchange *far = scsi_write(&w, w.nexus, 140, 4, 1);
    read_all(&w, 100, 32);
    cr_assert_eq(AUDITS(w), 1);
    struct exchange *x = read_of(&w, 100, 32);
    give(x, 0, 32 * 512);
    struct exchange *doubtful = scsi_write(&w, w.nexus, 131, 4, 1);
    tracker_abandon(doubtful, GAP_ABORTED, "was aborted", ++w.now_ns);
    scsi_good(&w, x);
    expect_audited(&w, 100, 131, 1);
    scsi_good(&w, far);
    scsi_world_end(&w);
}

/* Stamps of both directions are out of step by some ms: what ended after the READ came, did. */
Test(scsi_audit, write_that_ended_meanwhile_by_the_order_of_arrival_alone) {
    struct scsi_world w = world(1);
    struct exchange *write = scsi_write(&w, w.nexus, 104, 4, 1);
    w.now_ns = 5000;
    struct exchange *x = read_of(&w, 100, 32);
    tracker_status(write, &(struct tracker_status){.delivered = true, .time_ns = 4990});
    give(x, 0, 32 * 512);
    scsi_good(&w, x);
    cr_assert_eq(AUDITS(w), 2);
    expect_audited(&w, 108, 132, 1);
    scsi_world_end(&w);
}

/* A READ whose packets were held back: what was over when it came was not when it was issued. */
Test(scsi_audit, read_that_comes_late) {
    struct scsi_world w = world(1);
    w.now_ns = 4999;
    struct exchange *write = scsi_write(&w, w.nexus, 104, 4, 1);
    tracker_status(write, &(struct tracker_status){.delivered = true, .time_ns = 6000});
    w.now_ns = 5499;
    read_all(&w, 100, 32);
    cr_assert_eq(AUDITS(w), 2);
    expect_audited(&w, 100, 104, 0);
    w.now_ns = 6000;
    read_all(&w, 100, 32);
    expect_audited(&w, 100, 132, 2);
    scsi_world_end(&w);
}

/* What may change anything, or what changes another unit's blocks. */
Test(scsi_audit, commands_that_are_not_followed) {
    struct scsi_world w = world(1);
    const uint8_t vendor[16] = {0xc1};
    struct exchange *x = scsi_send(&w, w.nexus, vendor, sizeof vendor, 0, 0);
    read_all(&w, 100, 32);
    cr_assert_eq(AUDITS(w), 0);
    scsi_good(&w, x);
    read_all(&w, 100, 32);
    cr_assert_eq(AUDITS(w), 1);
    const uint8_t copy[16] = {0x83};
    x = scsi_send(&w, w.nexus, copy, sizeof copy, 100, 0);
    read_all(&w, 100, 32);
    cr_assert_eq(AUDITS(w), 1, "nobody knows yet where it writes to");
    tracker_abandon(x, 0, NULL, w.now_ns);
    x = read_of(&w, 100, 32);
    give(x, 0, 32 * 512);
    tracker_nexus_gap(w.nexus, GAP_STREAM_HOLE, "something was lost", ++w.now_ns);
    scsi_good(&w, x);
    cr_assert_eq(AUDITS(w), 1, "what was lost may have been a write");
    scsi_world_end(&w);
}

/* A session that has no name yet may be writing to the same volume. */
Test(scsi_audit, sessions_that_nobody_has_named) {
    struct scsi_world w = world(1);
    struct nexus *n = tracker_nexus_open_provisional(w.tracker, PATH_ISCSI, "iqn.initiator", "a");
    struct exchange *x = scsi_write(&w, n, 104, 4, 1);
    read_all(&w, 100, 32);
    cr_assert_eq(AUDITS(w), 0);
    scsi_good(&w, x);
    x = scsi_write(&w, n, 300, 4, 1);
    read_all(&w, 100, 32);
    cr_assert_eq(AUDITS(w), 1);
    scsi_good(&w, x);
    tracker_nexus_close(n, 0, NULL, 0);
    scsi_world_end(&w);
}
