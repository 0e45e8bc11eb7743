/* What becomes of each kind of command. */
#include "scsi_recorder.h"

#include <criterion/criterion.h>
#include <string.h>

Test(scsi_apply, compare_and_write) {
    struct scsi_world w = scsi_world_disk();
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
    const struct recorded *e = recorded_update(w.recorder, 0);
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

Test(scsi_apply, write_same) {
    struct scsi_world w = scsi_world_disk();
    write_same(&w, 0, 100, 5);
    cr_assert_eq(recorded_update(w.recorder, 0)->op, UPDATE_PATTERN);
    cr_assert_eq(recorded_update(w.recorder, 0)->blocks, 100);
    cr_assert_eq(recorded_update(w.recorder, 0)->data_bytes, 512);
    write_same(&w, 0, 100, 0);
    cr_assert_eq(recorded_update(w.recorder, 1)->op, UPDATE_ZERO);
    write_same(&w, 0, 0, 0);
    cr_assert_eq(recorded_update(w.recorder, 2)->blocks, 4096 - 50, "to the end");
    write_same(&w, NDOB, 10, 0);
    cr_assert_eq(recorded_update(w.recorder, 3)->op, UPDATE_ZERO);
    write_same(&w, UNMAP, 10, 0);
    cr_assert_eq(recorded_update(w.recorder, 4)->op, UPDATE_ZERO);
    cr_assert_eq(GAPS(w), 0);
    write_same(&w, LBDATA, 10, 0);
    expect_gap(w.recorder, 0, 50, 10, GAP_UNKNOWN_CONTENT);
    cr_assert_eq(UPDATES(w), 5);
    scsi_world_end(&w);
}

/* With UNMAP a device may unmap or write, unless nobody could tell the difference. */
Test(scsi_apply, write_same_with_unmap_and_other_bytes) {
    struct scsi_world w = scsi_world_disk();
    write_same(&w, UNMAP, 10, 7);
    expect_gap(w.recorder, 0, 50, 10, GAP_UNKNOWN_CONTENT);
    scsi_introduce(&w, w.nexus, 0, "LIO-ORG "); /* it always unmaps */
    write_same(&w, UNMAP, 10, 7);
    cr_assert_eq(GAPS(w), 1);
    cr_assert_eq(recorded_update(w.recorder, UPDATES(w) - 1)->op, UPDATE_ZERO);
    scsi_world_end(&w);
}

Test(scsi_apply, devices_that_promise_no_zeros) {
    struct scsi_world w = scsi_world_make();
    scsi_capacity(&w, w.nexus, 4096, 512, 0x80);
    write_same(&w, UNMAP, 10, 0);
    expect_gap(w.recorder, 0, 50, 10, GAP_UNKNOWN_CONTENT);
    cr_assert_eq(recorded_update(w.recorder, 0)->op, UPDATE_ZERO, "the best guess, below the gap");
    write_same(&w, NDOB, 10, 0);
    expect_gap(w.recorder, 1, 50, 10, GAP_UNKNOWN_CONTENT);
    write_same(&w, 0, 10, 0);
    cr_assert_eq(GAPS(w), 2, "without UNMAP it has to write");
    scsi_world_end(&w);
}

Test(scsi_apply, write_same_to_an_end_that_is_not_known) {
    struct scsi_world w = scsi_world_make();
    write_same(&w, 0, 0, 0);
    const struct recorded *e = recorded_gap(w.recorder, 0);
    cr_assert_eq(e->offset_bytes, 50 * 512);
    cr_assert_eq(e->length_bytes, GAP_TO_END);
    write_same(&w, NDOB, 10, 0);
    cr_assert_eq(recorded_gap(w.recorder, 1)->length_bytes, GAP_TO_END,
                 "not even the block length is known");
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

Test(scsi_apply, unmap_by_what_the_device_promises) {
    struct scsi_world w = scsi_world_disk();
    scsi_good(&w, unmap(&w, 3));
    cr_assert_eq(UPDATES(w), 3);
    cr_assert(recorded_update(w.recorder, 2)->lba == 200 &&
              recorded_update(w.recorder, 2)->blocks == 7);
    cr_assert_eq(recorded_update(w.recorder, 2)->op, UPDATE_ZERO);
    cr_assert_eq(GAPS(w), 0);
    scsi_capacity(&w, w.nexus, 4096, 512, 0x80);
    scsi_good(&w, unmap(&w, 2));
    expect_gap(w.recorder, 0, 100, 5, GAP_UNKNOWN_CONTENT);
    expect_gap(w.recorder, 1, 150, 6, GAP_UNKNOWN_CONTENT);
    scsi_capacity(&w, w.nexus, 4096, 512, 0x40); /* LBPRZ says nothing without LBPME */
    scsi_good(&w, unmap(&w, 1));
    cr_assert_eq(GAPS(w), 3);
    scsi_world_end(&w);
}

Test(scsi_apply, unmap_that_fails) {
    struct scsi_world w = scsi_world_disk();
    scsi_check(&w, unmap(&w, 1), 5, 0x21, 0);
    cr_assert_eq(GAPS(w), 0);
    scsi_check(&w, unmap(&w, 2), 5, 0x21, 0);
    cr_assert_eq(GAPS(w), 2, "the first range may have been done before the second was looked at");
    scsi_check(&w, unmap(&w, 2), 5, 0x20, 0);
    cr_assert_eq(GAPS(w), 2);
    scsi_world_end(&w);
}

Test(scsi_apply, unmap_whose_list_did_not_pass) {
    struct scsi_world w = scsi_world_disk();
    const uint8_t cdb[16] = {0x42, 0, 0, 0, 0, 0, 0, 0, 24};
    struct exchange *x = scsi_send(&w, w.nexus, cdb, sizeof cdb, 24, 0);
    tracker_data_out_lost(x, 0, 24);
    scsi_good(&w, x);
    expect_whole_gap(w.recorder, 0, GAP_UNKNOWN_CONTENT);
    scsi_world_end(&w);
}

Test(scsi_apply, commands_that_are_not_followed_become_gaps) {
    struct scsi_world w = scsi_world_disk();
    const uint8_t vendor[16] = {0xc7};
    struct exchange *x = scsi_send(&w, w.nexus, vendor, sizeof vendor, 100, 0);
    scsi_fill(x, 0, 100, 1);
    scsi_good(&w, x);
    expect_whole_gap(w.recorder, 0, GAP_UNKNOWN_COMMAND);
    cr_assert_not_null(strstr(recorded_gap(w.recorder, 0)->text, "c7h"));
    scsi_good(&w, scsi_send(&w, w.nexus, vendor, sizeof vendor, 0, 100));
    cr_assert_eq(GAPS(w), 1, "it only brought data in");
    cr_assert_eq(UPDATES(w), 0);
    scsi_world_end(&w);
}

Test(scsi_apply, commands_that_change_no_media_leave_no_gap) {
    struct scsi_world w = scsi_world_disk();
    static const uint8_t opcodes[] = {0x5f, 0x1d, 0x4c, 0x2f, 0x3b, 0x8f, 0x1e};
    for (size_t i = 0; i < sizeof opcodes; i++) {
        const uint8_t cdb[16] = {opcodes[i]};
        struct exchange *x = scsi_send(&w, w.nexus, cdb, sizeof cdb, 24, 0);
        scsi_fill(x, 0, 24, 1);
        scsi_good(&w, x);
        x = scsi_send(&w, w.nexus, cdb, sizeof cdb, 24, 0);
        tracker_abandon(x, GAP_ABORTED, "aborted", w.now_ns);
    }
    const uint8_t read[16] = {0x28};
    cr_assert_null(scsi_send(&w, w.nexus, read, sizeof read, 0, 512), "too many to follow");
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
    expect_whole_gap(w.recorder, 0, GAP_UNKNOWN_COMMAND);
    scsi_world_end(&w);
}

Test(scsi_apply, flush_is_a_stable_point) {
    struct scsi_world w = scsi_world_disk();
    const uint8_t all[16] = {0x35};
    scsi_good(&w, scsi_send(&w, w.nexus, all, sizeof all, 0, 0));
    cr_assert_eq(recorded_update(w.recorder, 0)->op, UPDATE_FLUSH);
    cr_assert_eq(recorded_update(w.recorder, 0)->blocks, 0);
    const uint8_t tail[16] = {0x35, 0, 0, 0, 0, 96};
    scsi_good(&w, scsi_send(&w, w.nexus, tail, sizeof tail, 0, 0));
    cr_assert(recorded_update(w.recorder, 1)->lba == 96 &&
              recorded_update(w.recorder, 1)->blocks == 4000);
    const uint8_t immediate[16] = {0x35, 0x02};
    scsi_good(&w, scsi_send(&w, w.nexus, immediate, sizeof immediate, 0, 0));
    cr_assert_eq(UPDATES(w), 2, "GOOD came before it was one");
    scsi_check(&w, scsi_send(&w, w.nexus, all, sizeof all, 0, 0), 3, 0, 0);
    cr_assert_eq(UPDATES(w), 2);
    cr_assert_eq(GAPS(w), 0);
    scsi_world_end(&w);
}

Test(scsi_apply, fua_is_passed_on) {
    struct scsi_world w = scsi_world_disk();
    const uint8_t cdb[16] = {0x2a, 0x08, 0, 0, 0, 0, 0, 0, 1};
    struct exchange *x = scsi_send(&w, w.nexus, cdb, sizeof cdb, 512, 0);
    scsi_fill(x, 0, 512, 1);
    scsi_good(&w, x);
    cr_assert(recorded_update(w.recorder, 0)->fua);
    scsi_world_end(&w);
}
