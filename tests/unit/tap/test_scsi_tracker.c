#include "tap/scsi/tracker.h"

#include "scsi_recorder.h"

#include <criterion/criterion.h>
#include <string.h>

#define UPDATES(w) recorded_count((w).recorder, RECORDED_UPDATE)
#define GAPS(w)    recorded_count((w).recorder, RECORDED_GAP)
#define PATHS(w)   recorded_count((w).recorder, RECORDED_PATH)

static const struct recorded *update(const struct scsi_world *w, size_t index) {
    const struct recorded *e = recorded_at(w->recorder, RECORDED_UPDATE, index);
    cr_assert_not_null(e, "no update %zu", index);
    return e;
}

static const struct recorded *gap(const struct scsi_world *w, size_t index) {
    const struct recorded *e = recorded_at(w->recorder, RECORDED_GAP, index);
    cr_assert_not_null(e, "no gap %zu", index);
    return e;
}

static void assert_gap(const struct scsi_world *w, size_t index, uint64_t lba, uint64_t blocks,
                       uint16_t reason) {
    const struct recorded *e = gap(w, index);
    cr_expect_eq(e->offset_bytes, lba * 512, "%s", e->text);
    cr_expect_eq(e->length_bytes, blocks * 512, "%s: %lu", e->text, e->length_bytes);
    cr_expect_eq(e->reason, reason, "%s", e->text);
}

static void assert_whole_gap(const struct scsi_world *w, size_t index, uint16_t reason) {
    const struct recorded *e = gap(w, index);
    cr_expect_eq(e->offset_bytes, 0);
    cr_expect_eq(e->length_bytes, GAP_TO_END, "%s", e->text);
    cr_expect_eq(e->reason, reason, "%s", e->text);
}

/* A world whose LUN 1 has 4096 blocks of 512 bytes, and promises zeros for unmapped ones. */
static struct scsi_world disk(void) {
    struct scsi_world w = scsi_world_make();
    scsi_capacity(&w, w.nexus, 4096, 512, 0xc0);
    return w;
}

Test(scsi_tracker, write_that_ends_good_is_an_update) {
    struct scsi_world w = disk();
    struct exchange *x = scsi_write(&w, w.nexus, 100, 8, 0xaa);
    cr_assert_eq(UPDATES(w), 0);
    scsi_good(&w, x);
    const struct recorded *e = update(&w, 0);
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
    struct scsi_world w = disk();
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
    const struct recorded *e = update(&w, 0);
    cr_assert_eq(e->data_bytes, 200 * 512);
    cr_assert(e->data[0] == 1 && e->data[10] == 2 && e->data[70000] == 3);
    cr_assert_eq(e->data[200 * 512 - 1], 4);
    scsi_world_end(&w);
}

Test(scsi_tracker, zero_blocks_change_nothing) {
    struct scsi_world w = disk();
    const uint8_t cdb[16] = {0x2a};
    scsi_good(&w, scsi_send(&w, w.nexus, cdb, sizeof cdb, 0, 0));
    cr_assert_eq(UPDATES(w) + GAPS(w), 0);
    scsi_world_end(&w);
}

Test(scsi_tracker, refused_commands_change_nothing) {
    struct scsi_world w = disk();
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
    struct scsi_world w = disk();
    uint8_t cdb[16] = {0x2a, 0, 0, 0, 0, 100, 0, 0, 16};
    struct exchange *x = scsi_send(&w, w.nexus, cdb, sizeof cdb, 16 * 512, 0);
    scsi_check(&w, x, 3, 0x0c, 0);
    cr_assert_eq(GAPS(w), 0, "no data, no change");
    x = scsi_send(&w, w.nexus, cdb, sizeof cdb, 16 * 512, 0);
    scsi_fill(x, 1000, 2000, 1);
    scsi_check(&w, x, 3, 0x0c, 0);
    assert_gap(&w, 0, 101, 3, GAP_FAILED_WRITE);
    cr_assert_not_null(strstr(gap(&w, 0)->text, "3/0c/00"));
    x = scsi_write(&w, w.nexus, 100, 16, 1);
    tracker_status(x, &(struct tracker_status){.status = 0, .delivered = false});
    assert_gap(&w, 1, 100, 16, GAP_FAILED_WRITE);
    cr_assert_eq(UPDATES(w), 0);
    scsi_world_end(&w);
}

Test(scsi_tracker, deferred_error_puts_everything_in_doubt) {
    struct scsi_world w = disk();
    const uint8_t sense[18] = {0x71, 0, 3, 0, 0, 0, 0, 10};
    struct exchange *x = scsi_write(&w, w.nexus, 0, 8, 1);
    tracker_status(x, &(struct tracker_status){
                          .status = 2, .delivered = true, .sense = sense, .sense_bytes = 18});
    assert_whole_gap(&w, 0, GAP_FAILED_WRITE);
    scsi_world_end(&w);
}

Test(scsi_tracker, missing_data_becomes_the_smallest_gap) {
    struct scsi_world w = disk();
    uint8_t cdb[16] = {0x2a, 0, 0, 0, 0, 100, 0, 0, 16};
    struct exchange *x = scsi_send(&w, w.nexus, cdb, sizeof cdb, 16 * 512, 0);
    scsi_fill(x, 0, 2000, 1);
    tracker_data_out_lost(x, 2000, 100);
    scsi_fill(x, 2100, 16 * 512, 2);
    scsi_good(&w, x);
    cr_assert_eq(UPDATES(w), 2);
    cr_assert(update(&w, 0)->lba == 100 && update(&w, 0)->blocks == 3);
    cr_assert(update(&w, 1)->lba == 105 && update(&w, 1)->blocks == 11);
    cr_assert_eq(update(&w, 1)->data[0], 2);
    cr_assert_eq(GAPS(w), 1);
    assert_gap(&w, 0, 103, 2, GAP_STREAM_HOLE);
    x = scsi_send(&w, w.nexus, cdb, sizeof cdb, 16 * 512, 0);
    scsi_good(&w, x);
    assert_gap(&w, 1, 100, 16, GAP_STREAM_HOLE);
    cr_assert_eq(UPDATES(w), 2);
    scsi_world_end(&w);
}

Test(scsi_tracker, broken_digest) {
    struct scsi_world w = disk();
    struct exchange *x = scsi_write(&w, w.nexus, 100, 8, 1);
    tracker_data_out_revoke(x, 512, 512);
    scsi_fill(x, 512, 1024, 9);
    scsi_good(&w, x);
    cr_assert_eq(update(&w, 0)->blocks, 8, "it came again");
    cr_assert_eq(update(&w, 0)->data[512], 9);
    x = scsi_write(&w, w.nexus, 100, 8, 1);
    tracker_data_out_revoke(x, 512, 512);
    scsi_good(&w, x);
    assert_gap(&w, 0, 101, 1, GAP_BAD_DIGEST);
    scsi_world_end(&w);
}

Test(scsi_tracker, amounts_that_do_not_fit_are_in_doubt) {
    struct scsi_world w = disk();
    uint8_t cdb[16] = {0x2a, 0, 0, 0, 0, 100, 0, 0, 16};
    struct exchange *x = scsi_send(&w, w.nexus, cdb, sizeof cdb, 8 * 512, 0);
    scsi_fill(x, 0, 8 * 512, 1);
    scsi_good(&w, x);
    assert_gap(&w, 0, 100, 16, GAP_UNKNOWN_CONTENT);
    x = scsi_send(&w, w.nexus, cdb, sizeof cdb, 16 * 512, 0);
    scsi_fill(x, 0, 16 * 512, 1);
    tracker_status(x, &(struct tracker_status){.delivered = true, .residual_underflow = 512});
    assert_gap(&w, 1, 100, 16, GAP_UNKNOWN_CONTENT);
    cr_assert_eq(UPDATES(w), 0);
    /* More than it wanted, and it says that it took only what it wanted. */
    x = scsi_send(&w, w.nexus, cdb, sizeof cdb, 20 * 512, 0);
    scsi_fill(x, 0, 20 * 512, 1);
    tracker_status(x, &(struct tracker_status){.delivered = true, .residual_underflow = 4 * 512});
    cr_assert_eq(update(&w, 0)->blocks, 16);
    cr_assert_eq(update(&w, 0)->data_bytes, 16 * 512);
    cr_assert_eq(GAPS(w), 2);
    scsi_world_end(&w);
}

Test(scsi_tracker, protection_information_is_not_taken_for_data) {
    struct scsi_world w = disk();
    uint8_t cdb[16] = {0x2a, 0x20, 0, 0, 0, 100, 0, 0, 4};
    struct exchange *x = scsi_send(&w, w.nexus, cdb, sizeof cdb, 4 * 520, 0);
    scsi_fill(x, 0, 4 * 520, 1);
    scsi_good(&w, x);
    assert_gap(&w, 0, 100, 4, GAP_UNKNOWN_CONTENT);
    cr_assert_eq(UPDATES(w), 0);
    scsi_world_end(&w);
}

Test(scsi_tracker, absurd_addresses) {
    struct scsi_world w = disk();
    uint8_t cdb[16] = {0x8a, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 4};
    struct exchange *x = scsi_send(&w, w.nexus, cdb, sizeof cdb, 4 * 512, 0);
    scsi_fill(x, 0, 4 * 512, 1);
    scsi_good(&w, x);
    assert_whole_gap(&w, 0, GAP_UNKNOWN_CONTENT);
    x = scsi_send(&w, w.nexus, cdb, sizeof cdb, 4 * 512, 0);
    scsi_fill(x, 0, 4 * 512, 1);
    scsi_check(&w, x, 3, 0, 0);
    assert_whole_gap(&w, 1, GAP_FAILED_WRITE);
    scsi_world_end(&w);
}

Test(scsi_tracker, compare_and_write) {
    struct scsi_world w = disk();
    uint8_t cdb[16] = {0x89, 0, 0, 0, 0, 0, 0, 0, 0, 50, 0, 0, 0, 2};
    struct exchange *x = scsi_send(&w, w.nexus, cdb, sizeof cdb, 2048, 0);
    scsi_fill(x, 0, 1030, 1);
    scsi_fill(x, 1030, 2048, 2);
    scsi_check(&w, x, 0xe, 0x1d, 0);
    cr_assert_eq(UPDATES(w) + GAPS(w), 0, "a miscompare changes nothing");
    x = scsi_send(&w, w.nexus, cdb, sizeof cdb, 2048, 0);
    scsi_fill(x, 0, 1030, 1);
    scsi_fill(x, 1030, 2048, 2);
    scsi_good(&w, x);
    const struct recorded *e = update(&w, 0);
    cr_assert(e->lba == 50 && e->blocks == 2 && e->data_bytes == 1024);
    cr_assert(e->data[0] == 1 && e->data[5] == 1 && e->data[6] == 2 && e->data[1023] == 2);
    scsi_world_end(&w);
}

static void write_same(struct scsi_world *w, uint8_t flags, uint32_t blocks, uint8_t fill) {
    uint8_t cdb[16] = {0x93, flags, 0, 0, 0, 0, 0, 0, 0, 50};
    bool no_data = (flags & 1) != 0;
    put_be(cdb + 10, blocks, 4);
    struct exchange *x = scsi_send(w, w->nexus, cdb, sizeof cdb, no_data ? 0 : 512, 0);
    if (!no_data)
        scsi_fill(x, 0, 512, fill);
    scsi_good(w, x);
}

enum { UNMAP = 8, NDOB = 1, LBDATA = 2 };

Test(scsi_tracker, write_same) {
    struct scsi_world w = disk();
    write_same(&w, 0, 100, 5);
    cr_assert_eq(update(&w, 0)->op, UPDATE_PATTERN);
    cr_assert_eq(update(&w, 0)->blocks, 100);
    cr_assert_eq(update(&w, 0)->data_bytes, 512);
    write_same(&w, 0, 100, 0);
    cr_assert_eq(update(&w, 1)->op, UPDATE_ZERO);
    write_same(&w, 0, 0, 0);
    cr_assert_eq(update(&w, 2)->blocks, 4096 - 50, "to the end");
    write_same(&w, NDOB, 10, 0);
    cr_assert_eq(update(&w, 3)->op, UPDATE_ZERO);
    write_same(&w, UNMAP, 10, 0);
    cr_assert_eq(update(&w, 4)->op, UPDATE_ZERO);
    cr_assert_eq(GAPS(w), 0);
    write_same(&w, LBDATA, 10, 0);
    assert_gap(&w, 0, 50, 10, GAP_UNKNOWN_CONTENT);
    cr_assert_eq(UPDATES(w), 5);
    scsi_world_end(&w);
}

/* With UNMAP a device may unmap or write, unless nobody could tell the difference. */
Test(scsi_tracker, write_same_with_unmap_and_other_bytes) {
    struct scsi_world w = disk();
    write_same(&w, UNMAP, 10, 7);
    assert_gap(&w, 0, 50, 10, GAP_UNKNOWN_CONTENT);
    scsi_introduce(&w, w.nexus, 0, "LIO-ORG "); /* it always unmaps */
    write_same(&w, UNMAP, 10, 7);
    cr_assert_eq(GAPS(w), 1);
    cr_assert_eq(update(&w, UPDATES(w) - 1)->op, UPDATE_ZERO);
    scsi_world_end(&w);
}

Test(scsi_tracker, devices_that_promise_no_zeros) {
    struct scsi_world w = scsi_world_make();
    scsi_capacity(&w, w.nexus, 4096, 512, 0x80);
    write_same(&w, UNMAP, 10, 0);
    assert_gap(&w, 0, 50, 10, GAP_UNKNOWN_CONTENT);
    cr_assert_eq(update(&w, 0)->op, UPDATE_ZERO, "the best guess, below the gap");
    write_same(&w, NDOB, 10, 0);
    assert_gap(&w, 1, 50, 10, GAP_UNKNOWN_CONTENT);
    write_same(&w, 0, 10, 0);
    cr_assert_eq(GAPS(w), 2, "without UNMAP it has to write");
    scsi_world_end(&w);
}

Test(scsi_tracker, write_same_to_an_end_that_is_not_known) {
    struct scsi_world w = scsi_world_make();
    write_same(&w, 0, 0, 0);
    const struct recorded *e = gap(&w, 0);
    cr_assert_eq(e->offset_bytes, 50 * 512);
    cr_assert_eq(e->length_bytes, GAP_TO_END);
    write_same(&w, NDOB, 10, 0);
    cr_assert_eq(gap(&w, 1)->length_bytes, GAP_TO_END, "not even the block length is known");
    scsi_world_end(&w);
}

static struct exchange *unmap(struct scsi_world *w, unsigned count) {
    uint8_t list[8 + 64] = {0};
    uint8_t cdb[16] = {0x42};
    uint32_t bytes = 8 + 16 * count;
    put_be(list, bytes - 2, 2);
    put_be(list + 2, 16 * count, 2);
    for (unsigned i = 0; i < count; i++) {
        put_be(list + 8 + 16 * i, 100 + 50 * i, 8);
        put_be(list + 16 + 16 * i, 5 + i, 4);
    }
    put_be(cdb + 7, bytes, 2);
    struct exchange *x = scsi_send(w, w->nexus, cdb, sizeof cdb, bytes, 0);
    tracker_data_out(x, 0, list, bytes);
    return x;
}

Test(scsi_tracker, unmap_by_what_the_device_promises) {
    struct scsi_world w = disk();
    scsi_good(&w, unmap(&w, 3));
    cr_assert_eq(UPDATES(w), 3);
    cr_assert(update(&w, 2)->lba == 200 && update(&w, 2)->blocks == 7);
    cr_assert_eq(update(&w, 2)->op, UPDATE_ZERO);
    cr_assert_eq(GAPS(w), 0);
    scsi_capacity(&w, w.nexus, 4096, 512, 0x80);
    scsi_good(&w, unmap(&w, 2));
    assert_gap(&w, 0, 100, 5, GAP_UNKNOWN_CONTENT);
    assert_gap(&w, 1, 150, 6, GAP_UNKNOWN_CONTENT);
    scsi_world_end(&w);
}

Test(scsi_tracker, unmap_that_fails) {
    struct scsi_world w = disk();
    scsi_check(&w, unmap(&w, 1), 5, 0x21, 0);
    cr_assert_eq(GAPS(w), 0);
    scsi_check(&w, unmap(&w, 2), 5, 0x21, 0);
    cr_assert_eq(GAPS(w), 2, "the first range may have been done before the second was looked at");
    scsi_check(&w, unmap(&w, 2), 5, 0x20, 0);
    cr_assert_eq(GAPS(w), 2);
    scsi_world_end(&w);
}

Test(scsi_tracker, unmap_whose_list_did_not_pass) {
    struct scsi_world w = disk();
    const uint8_t cdb[16] = {0x42, 0, 0, 0, 0, 0, 0, 0, 24};
    struct exchange *x = scsi_send(&w, w.nexus, cdb, sizeof cdb, 24, 0);
    tracker_data_out_lost(x, 0, 24);
    scsi_good(&w, x);
    assert_whole_gap(&w, 0, GAP_UNKNOWN_CONTENT);
    scsi_world_end(&w);
}

Test(scsi_tracker, commands_that_are_not_followed_become_gaps) {
    struct scsi_world w = disk();
    uint8_t orwrite[16] = {0x8b, 0, 0, 0, 0, 0, 0, 0, 0, 50, 0, 0, 0, 4};
    struct exchange *x = scsi_send(&w, w.nexus, orwrite, sizeof orwrite, 2048, 0);
    scsi_fill(x, 0, 2048, 1);
    scsi_good(&w, x);
    assert_gap(&w, 0, 50, 4, GAP_UNKNOWN_COMMAND);
    cr_assert_not_null(strstr(gap(&w, 0)->text, "ORWRITE(16)"));
    const uint8_t format[16] = {0x04};
    scsi_good(&w, scsi_send(&w, w.nexus, format, sizeof format, 0, 0));
    assert_whole_gap(&w, 1, GAP_UNKNOWN_COMMAND);
    const uint8_t vendor[16] = {0xc7};
    x = scsi_send(&w, w.nexus, vendor, sizeof vendor, 100, 0);
    scsi_fill(x, 0, 100, 1);
    scsi_good(&w, x);
    assert_whole_gap(&w, 2, GAP_UNKNOWN_COMMAND);
    cr_assert_not_null(strstr(gap(&w, 2)->text, "c7h"));
    scsi_good(&w, scsi_send(&w, w.nexus, vendor, sizeof vendor, 0, 100));
    cr_assert_eq(GAPS(w), 3, "it only brought data in");
    cr_assert_eq(UPDATES(w), 0);
    scsi_world_end(&w);
}

Test(scsi_tracker, commands_that_change_no_media_leave_no_gap) {
    struct scsi_world w = disk();
    static const uint8_t opcodes[] = {0x5f, 0x1d, 0x4c, 0x2f, 0x3b, 0x8f, 0x1e};
    for (size_t i = 0; i < sizeof opcodes; i++) {
        const uint8_t cdb[16] = {opcodes[i]};
        cr_assert_null(scsi_send(&w, w.nexus, cdb, sizeof cdb, 24, 0));
    }
    const uint8_t select[16] = {0x15, 0x10, 0, 0, 12};
    const uint8_t same_block[12] = {0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 2, 0};
    struct exchange *x = scsi_send(&w, w.nexus, select, sizeof select, 12, 0);
    tracker_data_out(x, 0, same_block, 12);
    scsi_good(&w, x);
    cr_assert_eq(GAPS(w), 0);
    const uint8_t other_block[12] = {0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 16, 0};
    x = scsi_send(&w, w.nexus, select, sizeof select, 12, 0);
    tracker_data_out(x, 0, other_block, 12);
    scsi_good(&w, x);
    assert_whole_gap(&w, 0, GAP_UNKNOWN_COMMAND);
    scsi_world_end(&w);
}

Test(scsi_tracker, flush_is_a_stable_point) {
    struct scsi_world w = disk();
    const uint8_t all[16] = {0x35};
    scsi_good(&w, scsi_send(&w, w.nexus, all, sizeof all, 0, 0));
    cr_assert_eq(update(&w, 0)->op, UPDATE_FLUSH);
    cr_assert_eq(update(&w, 0)->blocks, 0);
    const uint8_t tail[16] = {0x35, 0, 0, 0, 0, 96};
    scsi_good(&w, scsi_send(&w, w.nexus, tail, sizeof tail, 0, 0));
    cr_assert(update(&w, 1)->lba == 96 && update(&w, 1)->blocks == 4000);
    const uint8_t immediate[16] = {0x35, 0x02};
    scsi_good(&w, scsi_send(&w, w.nexus, immediate, sizeof immediate, 0, 0));
    cr_assert_eq(UPDATES(w), 2, "GOOD came before it was one");
    scsi_check(&w, scsi_send(&w, w.nexus, all, sizeof all, 0, 0), 3, 0, 0);
    cr_assert_eq(UPDATES(w), 2);
    cr_assert_eq(GAPS(w), 0);
    scsi_world_end(&w);
}

Test(scsi_tracker, fua_is_passed_on) {
    struct scsi_world w = disk();
    const uint8_t cdb[16] = {0x2a, 0x08, 0, 0, 0, 0, 0, 0, 1};
    struct exchange *x = scsi_send(&w, w.nexus, cdb, sizeof cdb, 512, 0);
    scsi_fill(x, 0, 512, 1);
    scsi_good(&w, x);
    cr_assert(update(&w, 0)->fua);
    scsi_world_end(&w);
}

/* A list with one segment from ...00 to the unit whose name ends in `last`. */
static void copy(struct scsi_world *w, uint8_t last) {
    const uint8_t cdb[16] = {0x83};
    uint8_t list[16 + 64 + 28] = {0};
    put_be(list + 2, 64, 2);
    put_be(list + 8, 28, 4);
    for (unsigned i = 0; i < 2; i++) {
        uint8_t *cscd = list + 16 + 32 * i;
        cscd[0] = 0xe4;
        cscd[4] = 0x01;
        cscd[5] = 0x03;
        cscd[7] = 16;
        put_be(cscd + 8, 0x60014050, 4);
        cscd[23] = i == 0 ? 0 : last;
        put_be(cscd + 29, 512, 3);
    }
    uint8_t *segment = list + 80;
    segment[0] = 0x02;
    segment[3] = 24;
    segment[7] = 1;
    put_be(segment + 10, 8, 2);
    put_be(segment + 20, 300, 8);
    struct exchange *x = scsi_send(w, w->nexus, cdb, sizeof cdb, sizeof list, 0);
    tracker_data_out(x, 0, list, sizeof list);
    scsi_good(w, x);
}

Test(scsi_tracker, extended_copy_is_a_gap_at_its_destination) {
    struct scsi_world w = disk();
    struct nexus *other = tracker_nexus_open(w.tracker, PATH_ISCSI, "iqn.initiator", "iqn.other");
    scsi_capacity(&w, other, 4096, 512, 0);
    scsi_identify(&w, other, 9);
    copy(&w, 9);
    cr_assert_eq(GAPS(w), 1);
    assert_gap(&w, 0, 300, 8, GAP_UNKNOWN_CONTENT);
    cr_assert_eq(gap(&w, 0)->path, record_path_id(PATH_ISCSI, "iqn.other", 9, UINT64_C(1) << 48));
    copy(&w, 77);
    cr_assert_eq(GAPS(w), 3, "it may be any of the two");
    assert_whole_gap(&w, 1, GAP_UNKNOWN_CONTENT);
    assert_whole_gap(&w, 2, GAP_UNKNOWN_CONTENT);
    tracker_nexus_close(other, 0, NULL, 0);
    scsi_world_end(&w);
}

Test(scsi_tracker, abandoned_commands) {
    struct scsi_world w = disk();
    struct exchange *x = scsi_write(&w, w.nexus, 100, 8, 1);
    tracker_abandon(x, GAP_ABORTED, "somebody aborted it", 5000);
    assert_gap(&w, 0, 100, 8, GAP_ABORTED);
    cr_assert_eq(gap(&w, 0)->time_ns, 5000);
    uint8_t cdb[16] = {0x2a, 0, 0, 0, 0, 100, 0, 0, 16};
    tracker_abandon(scsi_send(&w, w.nexus, cdb, sizeof cdb, 8192, 0), GAP_ABORTED, "again", 5001);
    cr_assert_eq(GAPS(w), 1, "none of its data had moved");
    x = scsi_send(&w, w.nexus, cdb, sizeof cdb, 8192, 0);
    tracker_data_out_lost(x, 512, 512);
    tracker_abandon(x, GAP_ABORTED, "again", 5002);
    assert_gap(&w, 1, 101, 1, GAP_ABORTED);
    const uint8_t same[16] = {0x93, 1, 0, 0, 0, 0, 0, 0, 0, 50, 0, 0, 0, 5};
    tracker_abandon(scsi_send(&w, w.nexus, same, sizeof same, 0, 0), GAP_ABORTED, "again", 5003);
    assert_gap(&w, 2, 50, 5, GAP_ABORTED);
    const uint8_t inquiry[16] = {0x12};
    tracker_abandon(scsi_send(&w, w.nexus, inquiry, sizeof inquiry, 0, 36), GAP_ABORTED, "", 5004);
    cr_assert_eq(GAPS(w), 3);
    scsi_world_end(&w);
}

Test(scsi_tracker, closing_a_nexus_gives_up_what_is_open) {
    struct scsi_world w = disk();
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
    struct scsi_world w = disk();
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
    assert_gap(&w, 0, 9, 2, GAP_OVERFLOW);
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
    assert_gap(&w, 0, 0, 128, GAP_OVERFLOW);
    scsi_good(&w, second);
    scsi_good(&w, third);
    cr_assert_eq(UPDATES(w), 2);
    cr_assert_eq(update(&w, 1)->data[0], 3);
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
    assert_whole_gap(&w, 0, GAP_OVERFLOW);
    scsi_world_end(&w);
}

/* While a session cannot be read, the gap stays open, but is said only when it has to be. */
Test(scsi_tracker, nexus_gap_is_repeated_when_something_healed_it) {
    struct scsi_world w = disk();
    const uint64_t second = 1000000000;
    struct nexus *blind = tracker_nexus_open(w.tracker, PATH_ISCSI, "iqn.b", "iqn.target");
    tracker_nexus_gap(blind, GAP_STREAM_HOLE, "lost", w.now_ns);
    tracker_nexus_gap(blind, GAP_STREAM_HOLE, "lost", w.now_ns + 1);
    cr_assert_eq(GAPS(w), 1);
    assert_whole_gap(&w, 0, GAP_STREAM_HOLE);
    scsi_good(&w, scsi_write(&w, w.nexus, 0, 8, 1));
    tracker_nexus_gap(blind, GAP_STREAM_HOLE, "lost", w.now_ns);
    cr_assert_eq(GAPS(w), 2, "an update healed a part of it");
    tracker_nexus_gap(blind, GAP_STREAM_HOLE, "lost", w.now_ns + second);
    cr_assert_eq(GAPS(w), 3, "another monitor may have");
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
    assert_whole_gap(&w, 0, GAP_STREAM_HOLE);
    tracker_gap(w.tracker, GAP_OVERFLOW, "crowded", 5000);
    cr_assert_eq(GAPS(w), 2, "that of the other target; the first is a gap already");
    struct nexus *third = tracker_nexus_open(w.tracker, PATH_ISCSI, "iqn.b", "iqn.third");
    scsi_capacity(&w, third, 4096, 512, 0);
    assert_whole_gap(&w, 2, GAP_OVERFLOW);
    tracker_nexus_close(other, 0, NULL, 0);
    tracker_nexus_close(third, 0, NULL, 0);
    scsi_world_end(&w);
}
