/* Commands that touch the same blocks while both are open. */
#include "common/crc32c.h"
#include "scsi_recorder.h"

#include <criterion/criterion.h>

/* Another session with another target, which leads to the same logical unit. */
static struct nexus *second_path(struct scsi_world *w) {
    struct nexus *n = tracker_nexus_open(w->tracker, PATH_ISCSI, "iqn.initiator", "iqn.other");
    scsi_capacity(w, n, 4096, 512, 0xc0);
    scsi_identify(w, w->nexus, 7);
    scsi_identify(w, n, 7);
    return n;
}

Test(scsi_rival, overlap_is_a_gap_when_the_second_ends) {
    struct scsi_world w = scsi_world_disk();
    struct exchange *a = scsi_write(&w, w.nexus, 100, 8, 1);
    struct exchange *b = scsi_write(&w, w.nexus, 104, 8, 2);
    scsi_good(&w, b);
    cr_assert_eq(GAPS(w), 0, "the other is in flight, and not in the image");
    scsi_good(&w, a);
    cr_assert_eq(UPDATES(w), 2);
    expect_gap(w.recorder, 0, 104, 4, GAP_OVERLAP);
    cr_assert_eq(w.recorder->events[w.recorder->count - 1].kind, RECORDED_GAP,
                 "behind the update, which would heal it");
    cr_assert_eq(tracker_counters(w.tracker)->overlaps, 1);
    scsi_world_end(&w);
}

Test(scsi_rival, one_after_the_other_is_in_order) {
    struct scsi_world w = scsi_world_disk();
    scsi_good(&w, scsi_write(&w, w.nexus, 100, 8, 1));
    scsi_good(&w, scsi_write(&w, w.nexus, 100, 8, 2));
    struct exchange *a = scsi_write(&w, w.nexus, 100, 8, 3);
    struct exchange *b = scsi_write(&w, w.nexus, 108, 8, 4);
    scsi_good(&w, a);
    scsi_good(&w, b);
    cr_assert_eq(GAPS(w), 0, "neighbours do not overlap");
    scsi_world_end(&w);
}

Test(scsi_rival, same_bytes_to_the_same_range_are_no_gap) {
    struct scsi_world w = scsi_world_disk();
    struct exchange *a = scsi_write(&w, w.nexus, 100, 8, 1);
    struct exchange *b = scsi_write(&w, w.nexus, 100, 8, 1);
    struct exchange *c = scsi_write(&w, w.nexus, 100, 8, 2);
    scsi_good(&w, a);
    scsi_good(&w, b);
    cr_assert_eq(GAPS(w), 0);
    scsi_good(&w, c);
    expect_gap(w.recorder, 0, 100, 8, GAP_OVERLAP);
    scsi_world_end(&w);
}

/* A block and, behind it, its CRC32C as file systems keep it: the CRC32C of both is always the
 * same.
 */
static struct exchange *write_sealed(struct scsi_world *w, uint8_t fill) {
    struct exchange *x = scsi_write(w, w->nexus, 100, 1, fill);
    uint8_t block[508];
    uint8_t seal[4];
    memset(block, fill, sizeof block);
    uint32_t crc = crc32c(0, block, sizeof block);
    for (size_t i = 0; i < 4; i++)
        seal[i] = (uint8_t)(crc >> (8 * i));
    tracker_data_out(x, sizeof block, seal, sizeof seal);
    return x;
}

Test(scsi_rival, blocks_with_the_same_checksum_are_not_the_same) {
    struct scsi_world w = scsi_world_disk();
    struct exchange *a = write_sealed(&w, 1);
    struct exchange *b = write_sealed(&w, 2);
    scsi_good(&w, a);
    scsi_good(&w, b);
    cr_assert_eq(UPDATES(w), 2);
    expect_gap(w.recorder, 0, 100, 1, GAP_OVERLAP);
    scsi_world_end(&w);
}

Test(scsi_rival, two_paths_to_one_unit) {
    struct scsi_world w = scsi_world_disk();
    struct nexus *n = second_path(&w);
    struct exchange *a = scsi_write(&w, w.nexus, 100, 8, 1);
    struct exchange *b = scsi_write(&w, n, 100, 8, 2);
    scsi_good(&w, a);
    scsi_good(&w, b);
    expect_gap(w.recorder, 0, 100, 8, GAP_OVERLAP);
    tracker_nexus_close(n, 0, NULL, 0);
    scsi_world_end(&w);
}

Test(scsi_rival, identity_that_is_learned_while_writes_are_open) {
    struct scsi_world w = scsi_world_disk();
    struct nexus *n = tracker_nexus_open(w.tracker, PATH_ISCSI, "iqn.initiator", "iqn.other");
    scsi_capacity(&w, n, 4096, 512, 0xc0);
    struct exchange *a = scsi_write(&w, w.nexus, 100, 8, 1);
    struct exchange *c = scsi_write(&w, w.nexus, 500, 8, 1);
    struct exchange *b = scsi_write(&w, n, 100, 8, 2);
    scsi_identify(&w, w.nexus, 7);
    scsi_identify(&w, n, 7);
    scsi_good(&w, a);
    scsi_good(&w, b);
    expect_gap(w.recorder, 0, 100, 8, GAP_OVERLAP);
    scsi_good(&w, c);
    cr_assert_eq(GAPS(w), 1);
    tracker_nexus_close(n, 0, NULL, 0);
    scsi_world_end(&w);
}

/* The same address leads to another unit all of a sudden: what is open on it goes along. */
Test(scsi_rival, path_that_changes_its_unit) {
    struct scsi_world w = scsi_world_disk();
    struct nexus *n = second_path(&w);
    struct exchange *a = scsi_write(&w, w.nexus, 100, 8, 1);
    struct exchange *b = scsi_write(&w, n, 100, 8, 2);
    scsi_good(&w, scsi_write(&w, n, 900, 8, 2));
    recorder_forget(w.recorder);
    scsi_identify(&w, n, 8);
    cr_assert_eq(GAPS(w), 3, "both paths of the one, then that of the other");
    expect_whole_gap(w.recorder, 0, GAP_UNKNOWN_CONTENT);
    recorder_forget(w.recorder);
    scsi_good(&w, a);
    scsi_good(&w, b);
    cr_assert_eq(GAPS(w), 0);
    scsi_good(&w, scsi_write(&w, w.nexus, 100, 8, 3));
    tracker_nexus_close(n, 0, NULL, 0);
    scsi_world_end(&w);
}

Test(scsi_rival, other_units_are_no_rivals) {
    struct scsi_world w = scsi_world_disk();
    struct nexus *n = tracker_nexus_open(w.tracker, PATH_ISCSI, "iqn.initiator", "iqn.other");
    scsi_capacity(&w, n, 4096, 512, 0xc0);
    struct exchange *a = scsi_write(&w, w.nexus, 100, 8, 1);
    struct exchange *b = scsi_write(&w, n, 100, 8, 2);
    scsi_good(&w, a);
    scsi_good(&w, b);
    cr_assert_eq(GAPS(w), 0);
    tracker_nexus_close(n, 0, NULL, 0);
    scsi_world_end(&w);
}

/* dm-multipath: a path dies with a write in flight, which comes again on the other path. */
Test(scsi_rival, retry_on_the_other_path_needs_no_gap) {
    struct scsi_world w = scsi_world_disk();
    struct nexus *n = second_path(&w);
    scsi_write(&w, n, 100, 8, 1);
    scsi_good(&w, scsi_write(&w, w.nexus, 100, 8, 1));
    tracker_nexus_close(n, GAP_NEXUS_LOST, "gone", ++w.now_ns);
    cr_assert_eq(GAPS(w), 0);
    cr_assert_eq(UPDATES(w), 1);
    scsi_world_end(&w);
}

Test(scsi_rival, retry_of_a_write_of_which_a_part_had_moved) {
    struct scsi_world w = scsi_world_disk();
    struct nexus *n = second_path(&w);
    const uint8_t cdb[16] = {0x2a, 0, 0, 0, 0, 100, 0, 0, 8};
    struct exchange *a = scsi_send(&w, n, cdb, sizeof cdb, 4096, 0);
    scsi_fill(a, 0, 1000, 1);
    scsi_good(&w, scsi_write(&w, w.nexus, 100, 8, 1));
    tracker_abandon(a, GAP_NEXUS_LOST, "gone", ++w.now_ns);
    cr_assert_eq(GAPS(w), 0, "what had moved was the same");
    a = scsi_send(&w, n, cdb, sizeof cdb, 4096, 0);
    scsi_fill(a, 0, 1000, 1);
    scsi_good(&w, scsi_write(&w, w.nexus, 100, 8, 2));
    tracker_abandon(a, GAP_NEXUS_LOST, "gone", ++w.now_ns);
    expect_gap(w.recorder, 0, 100, 2, GAP_NEXUS_LOST);
    a = scsi_send(&w, n, cdb, sizeof cdb, 4096, 0);
    scsi_fill(a, 0, 1000, 1);
    scsi_good(&w, scsi_write(&w, w.nexus, 100, 8, 1));
    scsi_fill(a, 1000, 2000, 2);
    tracker_abandon(a, GAP_NEXUS_LOST, "gone", ++w.now_ns);
    expect_gap(w.recorder, 1, 100, 4, GAP_NEXUS_LOST);
    a = scsi_send(&w, n, cdb, sizeof cdb, 4096, 0);
    tracker_data_out_lost(a, 0, 1000);
    scsi_good(&w, scsi_write(&w, w.nexus, 100, 8, 1));
    tracker_abandon(a, GAP_NEXUS_LOST, "gone", ++w.now_ns);
    expect_gap(w.recorder, 2, 100, 2, GAP_NEXUS_LOST);
    tracker_nexus_close(n, 0, NULL, 0);
    scsi_world_end(&w);
}

Test(scsi_rival, retry_that_was_overwritten_meanwhile) {
    struct scsi_world w = scsi_world_disk();
    struct nexus *n = second_path(&w);
    scsi_write(&w, n, 100, 8, 1);
    scsi_good(&w, scsi_write(&w, w.nexus, 100, 8, 1));
    scsi_good(&w, scsi_write(&w, w.nexus, 103, 1, 2));
    tracker_nexus_close(n, GAP_NEXUS_LOST, "gone", ++w.now_ns);
    expect_gap(w.recorder, 0, 100, 8, GAP_NEXUS_LOST);
    scsi_world_end(&w);
}

Test(scsi_rival, a_failed_write_may_have_come_last) {
    struct scsi_world w = scsi_world_disk();
    struct exchange *a = scsi_write(&w, w.nexus, 100, 8, 1);
    struct exchange *b = scsi_write(&w, w.nexus, 100, 8, 1);
    scsi_check(&w, a, 3, 0x0c, 0);
    expect_gap(w.recorder, 0, 100, 8, GAP_FAILED_WRITE);
    scsi_good(&w, b);
    expect_gap(w.recorder, 1, 100, 8, GAP_OVERLAP);
    cr_assert_eq(GAPS(w), 2);
    scsi_world_end(&w);
}

Test(scsi_rival, a_refused_write_is_none) {
    struct scsi_world w = scsi_world_disk();
    struct exchange *a = scsi_write(&w, w.nexus, 100, 8, 1);
    struct exchange *b = scsi_write(&w, w.nexus, 100, 8, 2);
    scsi_check(&w, a, 5, 0x24, 0);
    scsi_good(&w, b);
    cr_assert_eq(GAPS(w), 0);
    scsi_world_end(&w);
}

static struct exchange *write_with(struct scsi_world *w, uint8_t attribute, uint8_t fill) {
    const uint8_t cdb[16] = {0x2a, 0, 0, 0, 0, 100, 0, 0, 8};
    struct exchange *x =
        tracker_command(w->nexus, &(struct tracker_command){.lun = UINT64_C(1) << 48,
                                                            .cdb = cdb,
                                                            .cdb_bytes = sizeof cdb,
                                                            .data_out_bytes = 4096,
                                                            .attribute = attribute,
                                                            .time_ns = ++w->now_ns});
    scsi_fill(x, 0, 4096, fill);
    return x;
}

/* SAM-6 8.6.2: ORDERED waits for those before it, and those after it wait for it. */
Test(scsi_rival, ordered_tasks_have_an_order) {
    enum { SIMPLE = 1, ORDERED = 2, UNTAGGED = 0 };
    struct scsi_world w = scsi_world_disk();
    struct exchange *a = write_with(&w, SIMPLE, 1);
    struct exchange *b = write_with(&w, ORDERED, 2);
    scsi_good(&w, a);
    scsi_good(&w, b);
    cr_assert_eq(GAPS(w), 0);
    a = write_with(&w, ORDERED, 1);
    b = write_with(&w, SIMPLE, 2);
    scsi_good(&w, a);
    scsi_good(&w, b);
    cr_assert_eq(GAPS(w), 0);
    a = write_with(&w, SIMPLE, 1);
    b = write_with(&w, ORDERED, 2);
    scsi_good(&w, b);
    scsi_good(&w, a);
    expect_gap(w.recorder, 0, 100, 8, GAP_OVERLAP); /* it does not do as it should */
    a = write_with(&w, UNTAGGED, 1);
    b = write_with(&w, ORDERED, 2);
    scsi_good(&w, a);
    scsi_good(&w, b);
    cr_assert_eq(GAPS(w), 2, "the order of arrival was not proven");
    scsi_world_end(&w);
}

Test(scsi_rival, unmap_by_its_ranges) {
    struct scsi_world w = scsi_world_disk();
    uint8_t list[8 + 32] = {0, 38, 0, 32};
    const uint8_t cdb[16] = {0x42, 0, 0, 0, 0, 0, 0, 0, 40};
    put_be(list + 8, 100, 8);
    put_be(list + 16, 8, 4);
    put_be(list + 24, 300, 8);
    put_be(list + 32, 8, 4);
    struct exchange *x = scsi_send(&w, w.nexus, cdb, sizeof cdb, sizeof list, 0);
    tracker_data_out(x, 0, list, sizeof list);
    for (uint32_t i = 0; i < 200; i++)
        scsi_good(&w, scsi_write(&w, w.nexus, 1000 + 2 * i, 1, 1)); /* elsewhere */
    scsi_good(&w, scsi_write(&w, w.nexus, 107, 2, 1));
    scsi_good(&w, x);
    cr_assert_eq(GAPS(w), 1);
    expect_gap(w.recorder, 0, 107, 1, GAP_OVERLAP);
    x = scsi_write(&w, w.nexus, 307, 2, 1);
    struct exchange *y = scsi_send(&w, w.nexus, cdb, sizeof cdb, sizeof list, 0);
    tracker_data_out(y, 0, list, sizeof list);
    scsi_good(&w, y);
    scsi_good(&w, x);
    expect_gap(w.recorder, 1, 307, 1, GAP_OVERLAP);
    scsi_world_end(&w);
}

/* More rivals than are told apart: the gap covers them all, and not less. */
Test(scsi_rival, many_rivals) {
    struct scsi_world w = scsi_world_disk();
    struct exchange *x = scsi_write(&w, w.nexus, 1000, 400, 9);
    for (uint32_t i = 0; i < 100; i++)
        scsi_good(&w, scsi_write(&w, w.nexus, 1002 + 3 * i, 1, 1));
    scsi_good(&w, x);
    uint64_t first = UINT64_MAX;
    uint64_t end = 0;
    for (size_t i = 0; i < GAPS(w); i++) {
        const struct recorded *e = recorded_at(w.recorder, RECORDED_GAP, i);
        first = e->offset_bytes / 512 < first ? e->offset_bytes / 512 : first;
        uint64_t last = (e->offset_bytes + e->length_bytes) / 512;
        end = last > end ? last : end;
    }
    cr_assert_eq(first, 1002);
    cr_assert_eq(end, 1002 + 3 * 99 + 1);
    scsi_world_end(&w);
}

Test(scsi_rival, twins_beyond_number) {
    struct scsi_world w = scsi_world_disk();
    struct exchange *x = scsi_write(&w, w.nexus, 100, 8, 1);
    for (int i = 0; i < 100; i++)
        scsi_good(&w, scsi_write(&w, w.nexus, 100, 8, 1));
    scsi_good(&w, x);
    size_t gaps = GAPS(w);
    cr_assert_leq(gaps, 1, "too many to compare may be taken for others");
    cr_assert_eq(UPDATES(w), 101);
    scsi_world_end(&w);
}

/* One session's stream was held back: its packets are older than what was given meanwhile. */
static struct exchange *write_at(struct nexus *n, uint64_t time_ns, uint8_t fill) {
    const uint8_t cdb[16] = {0x2a, 0, 0, 0, 0, 100, 0, 0, 8};
    struct exchange *x = tracker_command(n, &(struct tracker_command){.lun = UINT64_C(1) << 48,
                                                                      .cdb = cdb,
                                                                      .cdb_bytes = sizeof cdb,
                                                                      .data_out_bytes = 4096,
                                                                      .attribute = 1,
                                                                      .time_ns = time_ns});
    scsi_fill(x, 0, 4096, fill);
    return x;
}

static void good_at(struct exchange *x, uint64_t time_ns) {
    tracker_status(x, &(struct tracker_status){.delivered = true, .time_ns = time_ns});
}

Test(scsi_rival, late_command_that_was_in_flight_with_one_that_ended) {
    struct scsi_world w = scsi_world_disk();
    struct nexus *n = second_path(&w);
    good_at(write_at(w.nexus, 10000, 1), 12000);
    good_at(write_at(n, 11000, 2), 11500);
    cr_assert_eq(UPDATES(w), 2);
    expect_gap(w.recorder, 0, 100, 8, GAP_OVERLAP);
    cr_assert_eq(recorded_gap(w.recorder, 0)->time_ns, 12000, "when both had ended");
    good_at(write_at(n, 13000, 3), 14000);
    good_at(write_at(w.nexus, 15000, 4), 16000);
    good_at(write_at(n, 14500, 5), 14900);
    cr_assert_eq(GAPS(w), 1, "each was over before the next began");
    tracker_nexus_close(n, 0, NULL, 0);
    scsi_world_end(&w);
}

Test(scsi_rival, late_status) {
    struct scsi_world w = scsi_world_disk();
    struct nexus *n = second_path(&w);
    struct exchange *x = write_at(n, 10000, 1);
    good_at(write_at(w.nexus, 10500, 2), 12000);
    good_at(x, 11000);
    expect_gap(w.recorder, 0, 100, 8, GAP_OVERLAP);
    cr_assert_eq(recorded_gap(w.recorder, 0)->time_ns, 12000);
    tracker_nexus_close(n, 0, NULL, 0);
    scsi_world_end(&w);
}

Test(scsi_rival, late_failure_is_not_healed_by_what_it_overlapped) {
    struct scsi_world w = scsi_world_disk();
    struct nexus *n = second_path(&w);
    struct exchange *x = write_at(n, 10000, 1);
    good_at(write_at(w.nexus, 10500, 2), 12000);
    tracker_abandon(x, GAP_ABORTED, "aborted", 11000);
    expect_gap(w.recorder, 0, 100, 8, GAP_ABORTED);
    expect_gap(w.recorder, 1, 100, 8, GAP_ABORTED);
    cr_assert_eq(recorded_gap(w.recorder, 0)->time_ns, 11000);
    cr_assert_eq(recorded_gap(w.recorder, 1)->time_ns, 12000);
    tracker_nexus_close(n, 0, NULL, 0);
    scsi_world_end(&w);
}

/* More ended since than is remembered: then it may have overlapped any of them. */
Test(scsi_rival, very_late_command) {
    struct scsi_world w = scsi_world_disk();
    struct nexus *n = second_path(&w);
    for (uint64_t i = 0; i < 9000; i++) {
        const uint8_t other[16] = {0x2a, 0, 0, 0, 2, 0, 0, 0, 1};
        struct exchange *x = scsi_send(&w, w.nexus, other, sizeof other, 512, 0);
        scsi_fill(x, 0, 512, 1);
        good_at(x, 20000 + i);
        if (w.recorder->count > RECORDED_EVENTS / 2)
            recorder_forget(w.recorder);
    }
    recorder_forget(w.recorder);
    good_at(write_at(n, 15000, 2), 15500);
    cr_assert_eq(GAPS(w), 1);
    tracker_nexus_close(n, 0, NULL, 0);
    scsi_world_end(&w);
}
