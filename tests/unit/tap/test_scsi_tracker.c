#include "tap/scsi/tracker.h"

#include "scsi_recorder.h"

#include <criterion/criterion.h>
#include <string.h>

Test(scsi_tracker, write_that_ends_good_is_an_update) {
    struct scsi_world w = scsi_world_disk();
    struct exchange *x = scsi_write(&w, w.nexus, 100, 8, 0xaa);
    cr_assert_eq(UPDATES(w), 0);
    scsi_good(&w, x);
    const struct recorded *e = recorded_update(w.recorder, 0);
    cr_assert_eq(e->lba, 100);
    cr_assert_eq(e->blocks, 8);
    cr_assert_eq(e->block_bytes, 512);
    cr_assert_eq(e->op, UPDATE_WRITE);
    cr_assert_eq(e->data_bytes, 4096);
    cr_assert(e->data[0] == 0xaa && e->data[4095] == 0xaa);
    cr_assert_eq(e->time_ns, w.now_ns);
    cr_assert_eq(GAPS(w), 0);
    scsi_world_end(&w);
}

Test(scsi_tracker, path_is_announced_before_its_first_update) {
    struct scsi_world w = scsi_world_make();
    scsi_good(&w, scsi_write(&w, w.nexus, 0, 2, 1));
    cr_assert_eq(w.recorder->events[0].kind, RECORDED_PATH);
    cr_assert_eq(w.recorder->events[1].kind, RECORDED_UPDATE);
    cr_assert_eq(w.recorder->events[0].known.block_bytes, 512, "as the amount of data says");
    scsi_good(&w, scsi_write(&w, w.nexus, 2, 2, 1));
    cr_assert_eq(PATHS(w), 1, "nothing new is known of it");
    scsi_identify(&w, w.nexus, 7);
    cr_assert_eq(PATHS(w), 2);
    cr_assert_str_eq(recorded_at(w.recorder, RECORDED_PATH, 1)->known.designator,
                     "naa.60014050000000000000000000000007");
    scsi_identify(&w, w.nexus, 7);
    cr_assert_eq(PATHS(w), 2);
    scsi_world_end(&w);
}

Test(scsi_tracker, capacity_and_identity_are_announced) {
    struct scsi_world w = scsi_world_make();
    scsi_identify(&w, w.nexus, 7);
    cr_assert_eq(PATHS(w), 0, "something that answers an INQUIRY need not be a volume");
    scsi_capacity(&w, w.nexus, 1000, 4096, 0x80);
    const struct sink_path *known = &recorded_at(w.recorder, RECORDED_PATH, 0)->known;
    cr_assert_eq(known->size_bytes, 4096000);
    cr_assert_eq(known->block_bytes, 4096);
    cr_assert_eq(known->flags, PATH_LBPME);
    cr_assert_str_eq(known->target, "iqn.target");
    cr_assert_eq(known->id, record_path_id(PATH_ISCSI, "iqn.target", 10, UINT64_C(1) << 48));
    scsi_world_end(&w);
}

Test(scsi_tracker, other_kinds_of_devices_are_not_followed) {
    struct scsi_world w = scsi_world_make();
    const uint8_t cdb[16] = {0x0a, 0, 0, 0, 1}; /* WRITE(6) means something else to a tape */
    scsi_introduce(&w, w.nexus, 0x01, "TAPES   ");
    cr_assert_null(scsi_send(&w, w.nexus, cdb, sizeof cdb, 512, 0));
    scsi_introduce(&w, w.nexus, 0x00, "DISKS   ");
    struct exchange *x = scsi_send(&w, w.nexus, cdb, sizeof cdb, 512, 0);
    cr_assert_not_null(x);
    scsi_fill(x, 0, 512, 1);
    scsi_good(&w, x);
    cr_assert_eq(UPDATES(w), 1);
    scsi_world_end(&w);
}

Test(scsi_tracker, data_in_any_order) {
    struct scsi_world w = scsi_world_disk();
    uint8_t cdb[16] = {0x8a};
    put_be(cdb + 2, 5, 8);
    put_be(cdb + 10, 200, 4);
    struct exchange *x = scsi_send(&w, w.nexus, cdb, sizeof cdb, 200 * 512, 0);
    scsi_fill(x, 70000, 200 * 512, 3);
    scsi_fill(x, 0, 10, 1);
    scsi_fill(x, 10, 70000, 2);
    scsi_fill(x, 200 * 512 - 1, 200 * 512 + 100, 4); /* past its end: cut */
    scsi_fill(x, 200 * 512, 200 * 512 + 100, 4);
    scsi_good(&w, x);
    const struct recorded *e = recorded_update(w.recorder, 0);
    cr_assert_eq(e->data_bytes, 200 * 512);
    cr_assert(e->data[0] == 1 && e->data[10] == 2 && e->data[70000] == 3);
    cr_assert_eq(e->data[200 * 512 - 1], 4);
    scsi_world_end(&w);
}

Test(scsi_tracker, zero_blocks_change_nothing) {
    struct scsi_world w = scsi_world_disk();
    const uint8_t cdb[16] = {0x2a};
    scsi_good(&w, scsi_send(&w, w.nexus, cdb, sizeof cdb, 0, 0));
    cr_assert_eq(UPDATES(w) + GAPS(w), 0);
    scsi_world_end(&w);
}

Test(scsi_tracker, refused_commands_change_nothing) {
    struct scsi_world w = scsi_world_disk();
    scsi_check(&w, scsi_write(&w, w.nexus, 0, 8, 1), 5, 0x24, 0);
    scsi_check(&w, scsi_write(&w, w.nexus, 0, 8, 1), 7, 0x27, 0);
    scsi_check(&w, scsi_write(&w, w.nexus, 0, 8, 1), 6, 0x29, 0);
    struct exchange *x = scsi_write(&w, w.nexus, 0, 8, 1);
    tracker_status(x, &(struct tracker_status){.status = 0x18, .delivered = true});
    cr_assert_eq(UPDATES(w) + GAPS(w), 0);
    cr_assert_eq(tracker_counters(w.tracker)->failed, 4);
    scsi_world_end(&w);
}

/* SBC-4 4.10: what a failed write did to its blocks is not said. */
Test(scsi_tracker, failed_write_leaves_a_gap_where_data_had_moved) {
    struct scsi_world w = scsi_world_disk();
    uint8_t cdb[16] = {0x2a, 0, 0, 0, 0, 100, 0, 0, 16};
    struct exchange *x = scsi_send(&w, w.nexus, cdb, sizeof cdb, 16 * 512, 0);
    scsi_check(&w, x, 3, 0x0c, 0);
    cr_assert_eq(GAPS(w), 0, "no data, no change");
    x = scsi_send(&w, w.nexus, cdb, sizeof cdb, 16 * 512, 0);
    scsi_fill(x, 1000, 2000, 1);
    scsi_check(&w, x, 3, 0x0c, 0);
    expect_gap(w.recorder, 0, 101, 3, GAP_FAILED_WRITE);
    cr_assert_not_null(strstr(recorded_gap(w.recorder, 0)->text, "3/0c/00"));
    x = scsi_write(&w, w.nexus, 100, 16, 1);
    tracker_status(x, &(struct tracker_status){.status = 0, .delivered = false});
    expect_gap(w.recorder, 1, 100, 16, GAP_FAILED_WRITE);
    cr_assert_eq(UPDATES(w), 0);
    scsi_world_end(&w);
}

Test(scsi_tracker, deferred_error_puts_everything_in_doubt) {
    struct scsi_world w = scsi_world_disk();
    const uint8_t sense[18] = {0x71, 0, 3, 0, 0, 0, 0, 10};
    struct exchange *x = scsi_write(&w, w.nexus, 0, 8, 1);
    tracker_status(x, &(struct tracker_status){
                          .status = 2, .delivered = true, .sense = sense, .sense_bytes = 18});
    expect_whole_gap(w.recorder, 0, GAP_FAILED_WRITE);
    scsi_world_end(&w);
}

Test(scsi_tracker, missing_data_becomes_the_smallest_gap) {
    struct scsi_world w = scsi_world_disk();
    uint8_t cdb[16] = {0x2a, 0, 0, 0, 0, 100, 0, 0, 16};
    struct exchange *x = scsi_send(&w, w.nexus, cdb, sizeof cdb, 16 * 512, 0);
    scsi_fill(x, 0, 2000, 1);
    tracker_data_out_lost(x, 2000, 100);
    scsi_fill(x, 2100, 16 * 512, 2);
    scsi_good(&w, x);
    cr_assert_eq(UPDATES(w), 2);
    cr_assert(recorded_update(w.recorder, 0)->lba == 100 &&
              recorded_update(w.recorder, 0)->blocks == 3);
    cr_assert(recorded_update(w.recorder, 1)->lba == 105 &&
              recorded_update(w.recorder, 1)->blocks == 11);
    cr_assert_eq(recorded_update(w.recorder, 1)->data[0], 2);
    cr_assert_eq(GAPS(w), 1);
    expect_gap(w.recorder, 0, 103, 2, GAP_STREAM_HOLE);
    x = scsi_send(&w, w.nexus, cdb, sizeof cdb, 16 * 512, 0);
    scsi_good(&w, x);
    expect_gap(w.recorder, 1, 100, 16, GAP_STREAM_HOLE);
    cr_assert_eq(UPDATES(w), 2);
    scsi_world_end(&w);
}

Test(scsi_tracker, broken_digest) {
    struct scsi_world w = scsi_world_disk();
    struct exchange *x = scsi_write(&w, w.nexus, 100, 8, 1);
    tracker_data_out_revoke(x, 512, 512);
    scsi_fill(x, 512, 1024, 9);
    scsi_good(&w, x);
    cr_assert_eq(recorded_update(w.recorder, 0)->blocks, 8, "it came again");
    cr_assert_eq(recorded_update(w.recorder, 0)->data[512], 9);
    x = scsi_write(&w, w.nexus, 100, 8, 1);
    tracker_data_out_revoke(x, 512, 512);
    scsi_good(&w, x);
    expect_gap(w.recorder, 0, 101, 1, GAP_BAD_DIGEST);
    scsi_world_end(&w);
}

Test(scsi_tracker, amounts_that_do_not_fit_are_in_doubt) {
    struct scsi_world w = scsi_world_disk();
    uint8_t cdb[16] = {0x2a, 0, 0, 0, 0, 100, 0, 0, 16};
    struct exchange *x = scsi_send(&w, w.nexus, cdb, sizeof cdb, 8 * 512, 0);
    scsi_fill(x, 0, 8 * 512, 1);
    scsi_good(&w, x);
    expect_gap(w.recorder, 0, 100, 16, GAP_UNKNOWN_CONTENT);
    x = scsi_send(&w, w.nexus, cdb, sizeof cdb, 16 * 512, 0);
    scsi_fill(x, 0, 16 * 512, 1);
    tracker_status(x, &(struct tracker_status){.delivered = true, .residual_underflow = 512});
    expect_gap(w.recorder, 1, 100, 16, GAP_UNKNOWN_CONTENT);
    cr_assert_eq(UPDATES(w), 0);
    /* More than it wanted, and it says that it took only what it wanted. */
    x = scsi_send(&w, w.nexus, cdb, sizeof cdb, 20 * 512, 0);
    scsi_fill(x, 0, 20 * 512, 1);
    tracker_status(x, &(struct tracker_status){.delivered = true, .residual_underflow = 4 * 512});
    cr_assert_eq(recorded_update(w.recorder, 0)->blocks, 16);
    cr_assert_eq(recorded_update(w.recorder, 0)->data_bytes, 16 * 512);
    cr_assert_eq(GAPS(w), 2);
    scsi_world_end(&w);
}

Test(scsi_tracker, protection_information_is_not_taken_for_data) {
    struct scsi_world w = scsi_world_disk();
    uint8_t cdb[16] = {0x2a, 0x20, 0, 0, 0, 100, 0, 0, 4};
    struct exchange *x = scsi_send(&w, w.nexus, cdb, sizeof cdb, 4 * 520, 0);
    scsi_fill(x, 0, 4 * 520, 1);
    scsi_good(&w, x);
    expect_whole_gap(w.recorder, 0, GAP_UNKNOWN_CONTENT);
    expect_gap(w.recorder, 1, 100, 4, GAP_UNKNOWN_CONTENT);
    x = scsi_send(&w, w.nexus, cdb, sizeof cdb, 4 * 520, 0);
    scsi_fill(x, 0, 4 * 520, 1);
    scsi_good(&w, x);
    expect_gap(w.recorder, 2, 100, 4, GAP_UNKNOWN_CONTENT);
    cr_assert_eq(GAPS(w), 3, "of the whole volume once only");
    cr_assert_eq(UPDATES(w), 0);
    scsi_world_end(&w);
}

Test(scsi_tracker, absurd_addresses) {
    struct scsi_world w = scsi_world_disk();
    uint8_t cdb[16] = {0x8a, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 4};
    struct exchange *x = scsi_send(&w, w.nexus, cdb, sizeof cdb, 4 * 512, 0);
    scsi_fill(x, 0, 4 * 512, 1);
    scsi_good(&w, x);
    expect_whole_gap(w.recorder, 0, GAP_UNKNOWN_CONTENT);
    x = scsi_send(&w, w.nexus, cdb, sizeof cdb, 4 * 512, 0);
    scsi_fill(x, 0, 4 * 512, 1);
    scsi_check(&w, x, 3, 0, 0);
    expect_whole_gap(w.recorder, 1, GAP_FAILED_WRITE);
    scsi_world_end(&w);
}

Test(scsi_tracker, abandoned_commands) {
    struct scsi_world w = scsi_world_disk();
    struct exchange *x = scsi_write(&w, w.nexus, 100, 8, 1);
    tracker_abandon(x, GAP_ABORTED, "somebody aborted it", 5000);
    expect_gap(w.recorder, 0, 100, 8, GAP_ABORTED);
    cr_assert_eq(recorded_gap(w.recorder, 0)->time_ns, 5000);
    uint8_t cdb[16] = {0x2a, 0, 0, 0, 0, 100, 0, 0, 16};
    tracker_abandon(scsi_send(&w, w.nexus, cdb, sizeof cdb, 8192, 0), GAP_ABORTED, "again", 5001);
    cr_assert_eq(GAPS(w), 1, "none of its data had moved");
    x = scsi_send(&w, w.nexus, cdb, sizeof cdb, 8192, 0);
    tracker_data_out_lost(x, 512, 512);
    tracker_abandon(x, GAP_ABORTED, "again", 5002);
    expect_gap(w.recorder, 1, 101, 1, GAP_ABORTED);
    const uint8_t same[16] = {0x93, 1, 0, 0, 0, 0, 0, 0, 0, 50, 0, 0, 0, 5};
    tracker_abandon(scsi_send(&w, w.nexus, same, sizeof same, 0, 0), GAP_ABORTED, "again", 5003);
    expect_gap(w.recorder, 2, 50, 5, GAP_ABORTED);
    const uint8_t with_block[16] = {0x93, 0, 0, 0, 0, 0, 0, 0, 0, 50, 0, 0, 0, 5};
    tracker_abandon(scsi_send(&w, w.nexus, with_block, sizeof with_block, 512, 0), GAP_ABORTED, "",
                    5004);
    cr_assert_eq(GAPS(w), 3, "it cannot be done without its block");
    const uint8_t inquiry[16] = {0x12};
    tracker_abandon(scsi_send(&w, w.nexus, inquiry, sizeof inquiry, 0, 36), GAP_ABORTED, "", 5004);
    cr_assert_eq(GAPS(w), 3);
    scsi_world_end(&w);
}

Test(scsi_tracker, closing_a_nexus_gives_up_what_is_open) {
    struct scsi_world w = scsi_world_disk();
    struct nexus *other = tracker_nexus_open(w.tracker, PATH_ISCSI, "iqn.b", "iqn.target");
    struct exchange *held = NULL;
    const uint8_t cdb[16] = {0x2a, 0, 0, 0, 0, 9, 0, 0, 1};
    tracker_command(other, &(struct tracker_command){.lun = UINT64_C(1) << 48,
                                                     .cdb = cdb,
                                                     .cdb_bytes = sizeof cdb,
                                                     .data_out_bytes = 512,
                                                     .holder = &held});
    cr_assert_not_null(held);
    scsi_fill(held, 0, 512, 1);
    scsi_write(&w, other, 100, 8, 1);
    struct exchange *mine = scsi_write(&w, w.nexus, 200, 8, 1);
    tracker_nexus_close(other, GAP_NEXUS_LOST, "gone", 5000);
    cr_assert_null(held, "the holder is told");
    cr_assert_eq(GAPS(w), 2);
    scsi_good(&w, mine);
    cr_assert_eq(UPDATES(w), 1);
    scsi_world_end(&w);
}

Test(scsi_tracker, when_the_monitor_ends_nothing_is_said_of_what_is_open) {
    struct scsi_world w = scsi_world_disk();
    scsi_write(&w, w.nexus, 100, 8, 1);
    tracker_nexus_close(w.nexus, 0, NULL, 5000);
    cr_assert_eq(GAPS(w) + UPDATES(w), 0);
    w.nexus = NULL;
    scsi_world_end(&w);
}

Test(scsi_tracker, oldest_exchange_gives_way) {
    struct tracker_limits limits = tracker_default_limits();
    limits.open_exchanges = 2;
    struct scsi_world w = scsi_world_make_limited(&limits);
    scsi_capacity(&w, w.nexus, 4096, 512, 0);
    struct exchange *held = NULL;
    const uint8_t cdb[16] = {0x2a, 0, 0, 0, 0, 9, 0, 0, 2};
    tracker_command(w.nexus, &(struct tracker_command){.lun = UINT64_C(1) << 48,
                                                       .cdb = cdb,
                                                       .cdb_bytes = sizeof cdb,
                                                       .data_out_bytes = 1024,
                                                       .holder = &held});
    struct exchange *second = scsi_write(&w, w.nexus, 100, 8, 1);
    struct exchange *third = scsi_write(&w, w.nexus, 200, 8, 1);
    cr_assert_null(held);
    expect_gap(w.recorder, 0, 9, 2, GAP_OVERFLOW);
    scsi_good(&w, second);
    scsi_good(&w, third);
    cr_assert_eq(UPDATES(w), 2);
    scsi_world_end(&w);
}

Test(scsi_tracker, oldest_data_gives_way) {
    struct tracker_limits limits = tracker_default_limits();
    limits.payload_bytes = 128 << 10;
    struct scsi_world w = scsi_world_make_limited(&limits);
    scsi_capacity(&w, w.nexus, 4096, 512, 0);
    struct exchange *first = scsi_write(&w, w.nexus, 0, 128, 1);
    struct exchange *second = scsi_write(&w, w.nexus, 128, 128, 2);
    struct exchange *third = scsi_write(&w, w.nexus, 256, 128, 3);
    scsi_good(&w, first);
    expect_gap(w.recorder, 0, 0, 128, GAP_OVERFLOW);
    scsi_good(&w, second);
    scsi_good(&w, third);
    cr_assert_eq(UPDATES(w), 2);
    cr_assert_eq(recorded_update(w.recorder, 1)->data[0], 3);
    scsi_world_end(&w);
}

Test(scsi_tracker, paths_have_a_limit) {
    struct tracker_limits limits = tracker_default_limits();
    limits.paths = 1;
    struct scsi_world w = scsi_world_make_limited(&limits);
    scsi_good(&w, scsi_write(&w, w.nexus, 0, 8, 1));
    const uint8_t cdb[16] = {0x2a, 0, 0, 0, 0, 9, 0, 0, 1};
    struct exchange *x = tracker_command(
        w.nexus, &(struct tracker_command){
                     .lun = UINT64_C(2) << 48, .cdb = cdb, .cdb_bytes = 16, .data_out_bytes = 512});
    cr_assert_null(x);
    expect_whole_gap(w.recorder, 0, GAP_OVERFLOW);
    scsi_world_end(&w);
}

/* While a session cannot be read, the gap stays open, but is said only when it has to be. */
Test(scsi_tracker, nexus_gap_is_repeated_when_something_healed_it) {
    struct scsi_world w = scsi_world_disk();
    const uint64_t second = 1000000000;
    struct nexus *blind = tracker_nexus_open(w.tracker, PATH_ISCSI, "iqn.b", "iqn.target");
    tracker_nexus_gap(blind, GAP_STREAM_HOLE, "lost", w.now_ns);
    tracker_nexus_gap(blind, GAP_STREAM_HOLE, "lost", w.now_ns + 1);
    cr_assert_eq(GAPS(w), 1);
    expect_whole_gap(w.recorder, 0, GAP_STREAM_HOLE);
    scsi_good(&w, scsi_write(&w, w.nexus, 0, 8, 1));
    tracker_nexus_gap(blind, GAP_STREAM_HOLE, "lost", w.now_ns);
    cr_assert_eq(GAPS(w), 2, "an update healed a part of it");
    tracker_nexus_gap(blind, GAP_STREAM_HOLE, "lost", w.now_ns + second);
    cr_assert_eq(GAPS(w), 3, "another monitor may have");
    tracker_nexus_close(blind, 0, NULL, 0);
    scsi_world_end(&w);
}

/* A gap that was not said again must still cover an update that is older, and comes later. */
Test(scsi_tracker, late_update_does_not_end_a_gap_that_was_not_said) {
    struct scsi_world w = scsi_world_disk();
    struct nexus *blind = tracker_nexus_open(w.tracker, PATH_ISCSI, "iqn.b", "iqn.target");
    tracker_nexus_gap(blind, GAP_STREAM_HOLE, "lost", 2000);
    tracker_nexus_gap(blind, GAP_STREAM_HOLE, "lost", 4000);
    cr_assert_eq(GAPS(w), 1);
    w.now_ns = 3000;
    scsi_good(&w, scsi_write(&w, w.nexus, 100, 8, 1));
    cr_assert_eq(GAPS(w), 3);
    expect_gap(w.recorder, 1, 100, 8, GAP_STREAM_HOLE);
    cr_assert_eq(recorded_gap(w.recorder, 1)->time_ns, 4000);
    expect_gap(w.recorder, 2, 100, 8, GAP_OVERLAP);
    w.now_ns = 5000;
    scsi_good(&w, scsi_write(&w, w.nexus, 100, 8, 1));
    cr_assert_eq(GAPS(w), 3);
    tracker_nexus_close(blind, 0, NULL, 0);
    scsi_world_end(&w);
}

Test(scsi_tracker, paths_that_appear_later_are_told_of_the_past) {
    struct scsi_world w = scsi_world_make();
    struct nexus *other = tracker_nexus_open(w.tracker, PATH_ISCSI, "iqn.b", "iqn.other");
    tracker_nexus_gap(w.nexus, GAP_STREAM_HOLE, "lost", 5);
    cr_assert_eq(GAPS(w), 0, "no path is known yet");
    scsi_capacity(&w, other, 4096, 512, 0);
    cr_assert_eq(GAPS(w), 0, "another target");
    scsi_capacity(&w, w.nexus, 4096, 512, 0);
    expect_whole_gap(w.recorder, 0, GAP_STREAM_HOLE);
    tracker_gap(w.tracker, GAP_OVERFLOW, "crowded", 5000);
    cr_assert_eq(GAPS(w), 2, "that of the other target; the first is a gap already");
    struct nexus *third = tracker_nexus_open(w.tracker, PATH_ISCSI, "iqn.b", "iqn.third");
    scsi_capacity(&w, third, 4096, 512, 0);
    expect_whole_gap(w.recorder, 2, GAP_OVERFLOW);
    tracker_nexus_close(other, 0, NULL, 0);
    tracker_nexus_close(third, 0, NULL, 0);
    scsi_world_end(&w);
}

/* A segment of data without data, as RFC 7143 allows it. */
Test(scsi_tracker, empty_data_in) {
    struct scsi_world w = scsi_world_make();
    const uint8_t cdb[16] = {0x12, 0x01, 0x80, 0, 255};
    const uint8_t answer[8] = {0, 0x80, 0, 4, 'a', 'b', 'c', 'd'};
    struct exchange *x = scsi_send(&w, w.nexus, cdb, sizeof cdb, 0, 255);
    tracker_data_in(x, 0, answer, 0);
    tracker_data_in(x, 0, answer, sizeof answer);
    tracker_data_in(x, sizeof answer, answer, 0);
    scsi_good(&w, x);
    scsi_capacity(&w, w.nexus, 4096, 512, 0);
    cr_assert_str_eq(recorded_at(w.recorder, RECORDED_PATH, 0)->known.serial, "abcd");
    scsi_world_end(&w);
}
