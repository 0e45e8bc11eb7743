/* Writes whose result depends on what was there, and writes to many places. */
#include "scsi_recorder.h"

#include <criterion/criterion.h>
#include <string.h>

static struct exchange *combine(struct scsi_world *w, uint8_t opcode, uint8_t flags, uint8_t fill) {
    uint8_t cdb[16] = {opcode, flags};
    bool ten = opcode != 0x8b;
    put_be(cdb + 2, 50, ten ? 4 : 8);
    put_be(cdb + (ten ? 7 : 10), 4, ten ? 2 : 4);
    struct exchange *x = scsi_send(w, w->nexus, cdb, sizeof cdb, 2048, opcode == 0x53 ? 2048 : 0);
    scsi_fill(x, 0, 2048, fill);
    return x;
}

Test(scsi_combine, or_and_xor_carry_their_data) {
    struct scsi_world w = scsi_world_disk();
    scsi_good(&w, combine(&w, 0x8b, 0, 3));
    scsi_good(&w, combine(&w, 0x51, 0, 4));
    scsi_good(&w, combine(&w, 0x53, 0, 5));
    scsi_good(&w, combine(&w, 0x50, 0, 6));
    cr_assert_eq(recorded_update(w.recorder, 0)->op, UPDATE_OR);
    cr_assert_eq(recorded_update(w.recorder, 1)->op, UPDATE_XOR);
    cr_assert_eq(recorded_update(w.recorder, 2)->op, UPDATE_WRITE, "XDWRITEREAD writes its data");
    cr_assert_eq(recorded_update(w.recorder, 3)->op, UPDATE_WRITE);
    for (size_t i = 0; i < 4; i++) {
        const struct recorded *e = recorded_update(w.recorder, i);
        cr_assert(e->lba == 50 && e->blocks == 4 && e->data_bytes == 2048);
        cr_assert_eq(e->data[2047], 3 + i);
    }
    scsi_good(&w, combine(&w, 0x53, 0x04, 7));
    cr_assert_eq(UPDATES(w), 4, "DISABLE WRITE");
    cr_assert_eq(GAPS(w), 0);
    scsi_world_end(&w);
}

Test(scsi_combine, protection_information_is_no_data) {
    struct scsi_world w = scsi_world_disk();
    scsi_good(&w, combine(&w, 0x53, 0x01, 5));
    expect_whole_gap(w.recorder, 0, GAP_UNKNOWN_CONTENT);
    expect_gap(w.recorder, 1, 50, 4, GAP_UNKNOWN_CONTENT);
    cr_assert_eq(UPDATES(w), 0);
    scsi_world_end(&w);
}

Test(scsi_combine, missing_data_is_a_gap_of_its_blocks) {
    struct scsi_world w = scsi_world_disk();
    const uint8_t cdb[16] = {0x8b, 0, 0, 0, 0, 0, 0, 0, 0, 50, 0, 0, 0, 4};
    struct exchange *x = scsi_send(&w, w.nexus, cdb, sizeof cdb, 2048, 0);
    scsi_fill(x, 0, 700, 1);
    tracker_data_out_lost(x, 700, 300);
    scsi_fill(x, 1000, 2048, 2);
    scsi_good(&w, x);
    cr_assert_eq(UPDATES(w), 2);
    cr_assert(recorded_update(w.recorder, 1)->op == UPDATE_OR &&
              recorded_update(w.recorder, 1)->lba == 52);
    expect_gap(w.recorder, 0, 51, 1, GAP_STREAM_HOLE);
    scsi_world_end(&w);
}

/* Of two that say the same, both may have been done: that is something else than one. */
Test(scsi_combine, xor_twins_do_not_agree) {
    struct scsi_world w = scsi_world_disk();
    struct exchange *a = combine(&w, 0x51, 0, 4);
    scsi_good(&w, combine(&w, 0x51, 0, 4));
    tracker_abandon(a, GAP_ABORTED, "was aborted", w.now_ns);
    expect_gap(w.recorder, 0, 50, 4, GAP_ABORTED);
    scsi_world_end(&w);
}

static void orwrite32(struct scsi_world *w, uint8_t operation, uint8_t policy, uint32_t expected) {
    uint8_t cdb[32] = {0x7f, 0, operation, policy, 0, 0, 0, 0x18, 0, 0x0e};
    uint8_t data[512] = {1};
    put_be(cdb + 12, 50, 8);
    put_be(cdb + 20, expected, 4);
    put_be(cdb + 28, 1, 4);
    scsi_do(w, w->nexus, cdb, sizeof cdb, data, sizeof data);
}

/* SBC-4 4.27.4, table 29: with policies 2 and 5 GOOD may mean that nothing was done. */
Test(scsi_combine, generations_of_orwrite) {
    struct scsi_world w = scsi_world_disk();
    orwrite32(&w, 0, 0, 0);
    cr_assert_eq(UPDATES(w), 1, "generation 0 after power on: done");
    orwrite32(&w, 0, 0, 7);
    cr_assert_eq(UPDATES(w), 1);
    expect_gap(w.recorder, 0, 50, 1, GAP_UNKNOWN_CONTENT);
    orwrite32(&w, 1, 7, 7);
    expect_gap(w.recorder, 1, 50, 1, GAP_UNKNOWN_CONTENT);
    cr_assert_not_null(strstr(recorded_gap(w.recorder, 1)->text, "clears bits"));
    orwrite32(&w, 0, 0, 8);
    cr_assert_eq(UPDATES(w), 2, "policy 7 does it or refuses it");
    orwrite32(&w, 1, 5, 8);
    orwrite32(&w, 0, 0, 9);
    cr_assert_eq(UPDATES(w), 2);
    cr_assert_eq(GAPS(w), 4);
    scsi_good(&w, combine(&w, 0x8b, 0, 3));
    cr_assert_eq(UPDATES(w), 2, "ORWRITE(16) has generation 0");
    cr_assert_eq(GAPS(w), 5);
    scsi_world_end(&w);
}

enum { HEAD = 512, RANGES = 3 };

/* Ranges of 1, 2, 3 blocks at 100, 200, 300; the data of each block is its number. */
static struct exchange *scattered(struct scsi_world *w, uint8_t *data, size_t bytes,
                                  uint16_t ranges, uint32_t blocks) {
    uint8_t cdb[16] = {0x9f, 0x12, 0, 0, 0, 1};
    put_be(cdb + 8, ranges, 2);
    put_be(cdb + 10, blocks, 4);
    memset(data, 0, bytes);
    for (uint32_t i = 0; i < RANGES; i++) {
        put_be(data + 32 + 32 * i, 100 * (i + 1), 8);
        put_be(data + 32 + 32 * i + 8, i + 1, 4);
    }
    for (uint8_t i = 0; i < 6; i++)
        memset(data + HEAD + 512 * i, i + 1, 512);
    return scsi_send(w, w->nexus, cdb, sizeof cdb, (uint32_t)bytes, 0);
}

Test(scsi_combine, scattered_ranges_are_updates) {
    struct scsi_world w = scsi_world_disk();
    uint8_t data[HEAD + 6 * 512];
    struct exchange *x = scattered(&w, data, sizeof data, RANGES, 6);
    tracker_data_out(x, 0, data, sizeof data);
    scsi_good(&w, x);
    cr_assert_eq(UPDATES(w), 3);
    cr_assert_eq(GAPS(w), 0);
    uint8_t block = 1;
    for (uint32_t i = 0; i < RANGES; i++) {
        const struct recorded *e = recorded_update(w.recorder, i);
        cr_assert(e->lba == 100 * (i + 1) && e->blocks == i + 1);
        for (uint32_t k = 0; k <= i; k++, block++)
            cr_assert(e->data[512 * k] == block && e->data[512 * k + 511] == block);
    }
    scsi_world_end(&w);
}

Test(scsi_combine, scattered_data_that_is_missing) {
    struct scsi_world w = scsi_world_disk();
    uint8_t data[HEAD + 6 * 512];
    struct exchange *x = scattered(&w, data, sizeof data, RANGES, 6);
    tracker_data_out(x, 0, data, HEAD + 4 * 512);
    tracker_data_out_lost(x, HEAD + 4 * 512, 512);
    tracker_data_out(x, HEAD + 5 * 512, data + HEAD + 5 * 512, 512);
    scsi_good(&w, x);
    cr_assert_eq(UPDATES(w), 4);
    expect_gap(w.recorder, 0, 301, 1, GAP_STREAM_HOLE);
    cr_assert_eq(recorded_update(w.recorder, 3)->lba, 302);
    scsi_world_end(&w);
}

Test(scsi_combine, scattered_lists_that_cannot_be_right) {
    struct scsi_world w = scsi_world_disk();
    uint8_t data[HEAD + 6 * 512];
    struct exchange *x = scattered(&w, data, sizeof data, RANGES, 6);
    tracker_data_out_lost(x, 0, 100);
    tracker_data_out(x, 100, data + 100, sizeof data - 100);
    scsi_good(&w, x);
    expect_whole_gap(w.recorder, 0, GAP_UNKNOWN_CONTENT);
    x = scattered(&w, data, sizeof data, RANGES - 1, 6);
    tracker_data_out(x, 0, data, sizeof data);
    scsi_good(&w, x);
    expect_whole_gap(w.recorder, 1, GAP_UNKNOWN_CONTENT);
    x = scattered(&w, data, sizeof data, 16, 6); /* the list reaches into the data */
    tracker_data_out(x, 0, data, sizeof data);
    scsi_good(&w, x);
    expect_whole_gap(w.recorder, 2, GAP_UNKNOWN_CONTENT);
    x = scattered(&w, data, sizeof data, RANGES, 6);
    put_be(data + 32, UINT64_MAX, 8);
    tracker_data_out(x, 0, data, sizeof data);
    scsi_good(&w, x);
    expect_whole_gap(w.recorder, 3, GAP_UNKNOWN_CONTENT);
    cr_assert_eq(UPDATES(w), 0);
    x = scattered(&w, data, sizeof data, 0, 0);
    tracker_data_out(x, 0, data, sizeof data);
    scsi_good(&w, x);
    cr_assert_eq(GAPS(w), 4, "no ranges: nothing is written");
    scsi_world_end(&w);
}

Test(scsi_combine, scattered_failure_is_a_gap_of_its_ranges) {
    struct scsi_world w = scsi_world_disk();
    uint8_t data[HEAD + 6 * 512];
    struct exchange *x = scattered(&w, data, sizeof data, RANGES, 6);
    tracker_data_out(x, 0, data, sizeof data);
    scsi_check(&w, x, 3, 0x0c, 0);
    cr_assert_eq(GAPS(w), 3);
    expect_gap(w.recorder, 2, 300, 3, GAP_FAILED_WRITE);
    x = scattered(&w, data, sizeof data, RANGES, 6);
    tracker_data_out(x, 0, data, sizeof data);
    tracker_abandon(x, GAP_ABORTED, "was aborted", w.now_ns);
    expect_gap(w.recorder, 3, 100, 1, GAP_ABORTED);
    scsi_world_end(&w);
}

Test(scsi_combine, scattered_ranges_that_overlap) {
    struct scsi_world w = scsi_world_disk();
    uint8_t data[HEAD + 6 * 512];
    struct exchange *x = scattered(&w, data, sizeof data, RANGES, 6);
    put_be(data + 64, 99, 8); /* 99 and 100, and the first range is 100 */
    tracker_data_out(x, 0, data, sizeof data);
    scsi_good(&w, x);
    cr_assert_eq(GAPS(w), 1);
    expect_gap(w.recorder, 0, 100, 1, GAP_OVERLAP);
    scsi_world_end(&w);
}

Test(scsi_combine, scattered_write_overlaps_another) {
    struct scsi_world w = scsi_world_disk();
    uint8_t data[HEAD + 6 * 512];
    struct exchange *x = scattered(&w, data, sizeof data, RANGES, 6);
    scsi_good(&w, scsi_write(&w, w.nexus, 201, 8, 9));
    tracker_data_out(x, 0, data, sizeof data);
    scsi_good(&w, x);
    cr_assert_eq(GAPS(w), 1);
    expect_gap(w.recorder, 0, 201, 1, GAP_OVERLAP);
    scsi_world_end(&w);
}
