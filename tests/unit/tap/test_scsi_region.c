/* Commands of which only the place is known. */
#include "scsi_recorder.h"

#include <criterion/criterion.h>
#include <string.h>

/* READ CAPACITY(16): 2^exponent blocks in a physical one, the first of which begins at `lowest`. */
static void physical(struct scsi_world *w, uint8_t exponent, uint16_t lowest) {
    const uint8_t cdb[16] = {0x9e, 0x10};
    uint8_t answer[32] = {0};
    put_be(answer, 4095, 8);
    put_be(answer + 8, 512, 4);
    answer[13] = exponent;
    put_be(answer + 14, 0xc000u | lowest, 2);
    scsi_ask(w, w->nexus, cdb, sizeof cdb, answer, sizeof answer);
}

Test(scsi_region, reassigned_blocks) {
    struct scsi_world w = scsi_world_make();
    const uint8_t cdb[16] = {0x07};
    const uint8_t list[4 + 8] = {0, 0, 0, 8, 0, 0, 0, 9, 0, 0, 1, 0};
    scsi_do(&w, w.nexus, cdb, sizeof cdb, list, sizeof list);
    expect_whole_gap(w.recorder, 0, GAP_UNKNOWN_CONTENT); /* no block length */
    scsi_capacity(&w, w.nexus, 4096, 512, 0xc0);
    recorder_forget(w.recorder);
    scsi_do(&w, w.nexus, cdb, sizeof cdb, list, sizeof list);
    expect_gap(w.recorder, 0, 9, 1, GAP_UNKNOWN_CONTENT);
    expect_gap(w.recorder, 1, 256, 1, GAP_UNKNOWN_CONTENT);
    cr_assert_eq(GAPS(w), 2);
    recorder_forget(w.recorder);
    physical(&w, 3, 1);
    const uint8_t longer[16] = {0x07, 0x03};
    const uint8_t long_list[4 + 8] = {0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 8};
    scsi_do(&w, w.nexus, longer, sizeof longer, long_list, sizeof long_list);
    expect_gap(w.recorder, 0, 1, 8, GAP_UNKNOWN_CONTENT);
    const uint8_t cut[4] = {0, 0, 0, 8};
    scsi_do(&w, w.nexus, longer, sizeof longer, cut, sizeof cut);
    expect_whole_gap(w.recorder, 1, GAP_UNKNOWN_CONTENT);
    scsi_world_end(&w);
}

Test(scsi_region, write_long) {
    struct scsi_world w = scsi_world_disk();
    uint8_t cdb[16] = {0x3f, 0x40, 0, 0, 0, 50};
    scsi_good(&w, scsi_send(&w, w.nexus, cdb, sizeof cdb, 0, 0));
    expect_gap(w.recorder, 0, 50, 1, GAP_UNKNOWN_CONTENT);
    cr_assert_not_null(strstr(recorded_gap(w.recorder, 0)->text, "unreadable"));
    physical(&w, 3, 0);
    recorder_forget(w.recorder);
    cdb[1] = 0x20;
    cdb[7] = 2;
    cdb[8] = 8;
    struct exchange *x = scsi_send(&w, w.nexus, cdb, sizeof cdb, 520, 0);
    scsi_fill(x, 0, 520, 1);
    scsi_good(&w, x);
    expect_gap(w.recorder, 0, 48, 8, GAP_UNKNOWN_CONTENT);
    cr_assert_null(strstr(recorded_gap(w.recorder, 0)->text, "unreadable"));
    scsi_world_end(&w);
}

/* Its physical block may be as large as the field for it can say. */
Test(scsi_region, physical_blocks_that_are_not_known) {
    struct scsi_world w = scsi_world_make();
    const uint8_t ten[16] = {0x25};
    const uint8_t answer[8] = {0, 1, 0xff, 0xff, 0, 0, 2, 0};
    scsi_ask(&w, w.nexus, ten, sizeof ten, answer, sizeof answer);
    recorder_forget(w.recorder);
    const uint8_t cdb[16] = {0x3f, 0x60, 0, 0, 0xff, 0};
    scsi_good(&w, scsi_send(&w, w.nexus, cdb, sizeof cdb, 0, 0));
    expect_gap(w.recorder, 0, 0xff00 - 32767, 32767 + 32768, GAP_UNKNOWN_CONTENT);
    scsi_world_end(&w);
}

Test(scsi_region, ata_commands) {
    struct scsi_world w = scsi_world_disk();
    uint8_t cdb[16] = {0x85, 6 << 1 | 1, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0x40, 0x06};
    uint8_t ranges[512] = {100, 0, 0, 0, 0, 0, 8, 0, 200, 0, 0, 0, 0, 0, 1, 0};
    scsi_do(&w, w.nexus, cdb, sizeof cdb, ranges, sizeof ranges);
    cr_assert_eq(GAPS(w), 2);
    expect_gap(w.recorder, 0, 100, 8, GAP_UNKNOWN_CONTENT);
    expect_gap(w.recorder, 1, 200, 1, GAP_UNKNOWN_CONTENT);
    cr_assert_not_null(strstr(recorded_gap(w.recorder, 0)->text, "DATA SET MANAGEMENT"));
    recorder_forget(w.recorder);
    const uint8_t write[16] = {0x85, 11 << 1 | 1, 0, 0, 0, 0, 2, 0, 60, 0, 0, 0, 0, 0x40, 0x35};
    struct exchange *x = scsi_send(&w, w.nexus, write, sizeof write, 1024, 0);
    scsi_fill(x, 0, 1024, 1);
    scsi_good(&w, x);
    expect_gap(w.recorder, 0, 60, 2, GAP_UNKNOWN_CONTENT);
    const uint8_t erase[16] = {0x85, 3 << 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xf4};
    scsi_good(&w, scsi_send(&w, w.nexus, erase, sizeof erase, 0, 0));
    expect_whole_gap(w.recorder, 1, GAP_UNKNOWN_COMMAND);
    cr_assert_eq(UPDATES(w), 0);
    scsi_world_end(&w);
}

Test(scsi_region, unmap_of_parts_of_the_granularity) {
    struct scsi_world w = scsi_world_disk();
    const uint8_t limits_cdb[16] = {0x12, 0x01, 0xb0, 0, 64};
    uint8_t limits[64] = {0, 0xb0, 0, 60};
    put_be(limits + 28, 8, 4);
    put_be(limits + 32, 0x80000003, 4);
    scsi_ask(&w, w.nexus, limits_cdb, sizeof limits_cdb, limits, sizeof limits);
    const uint8_t cdb[16] = {0x42, 0, 0, 0, 0, 0, 0, 0, 56};
    uint8_t list[8 + 48] = {0, 54, 0, 48};
    put_be(list + 8, 3, 8); /* 3 to 19: two units */
    put_be(list + 16, 16, 4);
    put_be(list + 24, 100, 8); /* 99 begins a unit: 107 to 123 are whole */
    put_be(list + 32, 30, 4);
    put_be(list + 40, 200, 8);
    put_be(list + 48, 3, 4);
    scsi_do(&w, w.nexus, cdb, sizeof cdb, list, sizeof list);
    cr_assert_eq(UPDATES(w), 3);
    cr_assert_eq(GAPS(w), 3);
    expect_gap(w.recorder, 0, 100, 7, GAP_UNKNOWN_CONTENT);
    expect_gap(w.recorder, 1, 123, 7, GAP_UNKNOWN_CONTENT);
    expect_gap(w.recorder, 2, 200, 3, GAP_UNKNOWN_CONTENT);
    scsi_introduce(&w, w.nexus, 0, "LIO-ORG "); /* it clears the ends, too */
    scsi_do(&w, w.nexus, cdb, sizeof cdb, list, sizeof list);
    cr_assert_eq(GAPS(w), 3);
    scsi_world_end(&w);
}

/* SPC-5 5.14.11: the others' commands may be gone; or not, and then they are done after all. */
Test(scsi_region, preempt_and_abort) {
    struct scsi_world w = scsi_world_disk();
    struct nexus *other = tracker_nexus_open(w.tracker, PATH_ISCSI, "iqn.another", "iqn.target");
    uint8_t cdb[16] = {0x5f, 0x05};
    const uint8_t list[24] = {0};
    struct exchange *x = scsi_write(&w, w.nexus, 100, 8, 1);
    struct exchange *y = scsi_write(&w, w.nexus, 300, 8, 1);
    cdb[1] = 0x04;
    scsi_do(&w, other, cdb, sizeof cdb, list, sizeof list);
    cr_assert_eq(GAPS(w), 0, "PREEMPT aborts nothing");
    cdb[1] = 0x05;
    struct exchange *failing = scsi_send(&w, other, cdb, sizeof cdb, 24, 0);
    tracker_status(failing,
                   &(struct tracker_status){.status = 0x18, .delivered = true, .time_ns = 5000});
    cr_assert_eq(GAPS(w), 0, "RESERVATION CONFLICT");
    scsi_do(&w, other, cdb, sizeof cdb, list, sizeof list);
    cr_assert_eq(GAPS(w), 2);
    expect_gap(w.recorder, 0, 100, 8, GAP_ABORTED);
    expect_gap(w.recorder, 1, 300, 8, GAP_ABORTED);
    scsi_good(&w, x);
    cr_assert_eq(UPDATES(w), 1, "it was not one of them");
    cr_assert_gt(recorded_update(w.recorder, 0)->time_ns, recorded_gap(w.recorder, 0)->time_ns);
    tracker_abandon(y, GAP_NEXUS_LOST, "the session ended", ++w.now_ns);
    cr_assert_eq(UPDATES(w), 1);
    tracker_nexus_close(other, 0, NULL, 0);
    scsi_world_end(&w);
}
