/* What is known of a unit can become untrue. */
#include "scsi_recorder.h"

#include <criterion/criterion.h>
#include <string.h>

static void attention(struct scsi_world *w, uint8_t asc, uint8_t ascq) {
    const uint8_t ready[16] = {0x00};
    scsi_check(w, scsi_send(w, w->nexus, ready, sizeof ready, 0, 0), 6, asc, ascq);
}

static struct exchange *write_4k(struct scsi_world *w, uint32_t lba) {
    uint8_t cdb[16] = {0x2a};
    put_be(cdb + 2, lba, 4);
    cdb[8] = 1;
    struct exchange *x = scsi_send(w, w->nexus, cdb, sizeof cdb, 4096, 0);
    scsi_fill(x, 0, 4096, 1);
    return x;
}

static void same_to_end(struct scsi_world *w) {
    const uint8_t cdb[16] = {0x93, 0x01, 0, 0, 0, 0, 0, 0, 0, 50};
    scsi_good(w, scsi_send(w, w->nexus, cdb, sizeof cdb, 0, 0));
}

Test(scsi_attention, capacity_is_not_believed_until_it_is_seen_again) {
    struct scsi_world w = scsi_world_disk();
    attention(&w, 0x2a, 0x09);
    scsi_good(&w, scsi_write(&w, w.nexus, 100, 8, 1));
    cr_assert_eq(UPDATES(w), 1, "the data tells the block length");
    same_to_end(&w);
    const struct recorded *e = recorded_gap(w.recorder, 0);
    cr_assert(e->offset_bytes == 50 * 512 && e->length_bytes == GAP_TO_END);
    scsi_capacity(&w, w.nexus, 8192, 512, 0xc0);
    same_to_end(&w);
    cr_assert_eq(recorded_update(w.recorder, 1)->blocks, 8192 - 50);
    cr_assert_eq(GAPS(w), 1);
    scsi_world_end(&w);
}

Test(scsi_attention, block_length_that_changed) {
    struct scsi_world w = scsi_world_disk();
    attention(&w, 0x2a, 0x09);
    const uint8_t unmap[16] = {0x42, 0, 0, 0, 0, 0, 0, 0, 24};
    const uint8_t list[24] = {0, 22, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1};
    scsi_do(&w, w.nexus, unmap, sizeof unmap, list, sizeof list);
    expect_whole_gap(w.recorder, 0, GAP_UNKNOWN_CONTENT); /* nothing tells of which blocks */
    scsi_good(&w, write_4k(&w, 10));
    const struct recorded *e = recorded_update(w.recorder, 0);
    cr_assert(e->lba == 10 && e->blocks == 1 && e->block_bytes == 4096);
    cr_assert_eq(recorded_at(w.recorder, RECORDED_PATH, PATHS(w) - 1)->known.block_bytes, 4096);
    scsi_do(&w, w.nexus, unmap, sizeof unmap, list, sizeof list);
    cr_assert(recorded_update(w.recorder, 1)->block_bytes == 4096);
    scsi_world_end(&w);
}

/* Nobody said so, but the device took a block of 4096 bytes for one. */
Test(scsi_attention, data_that_contradicts_the_block_length) {
    struct scsi_world w = scsi_world_disk();
    scsi_good(&w, write_4k(&w, 10));
    expect_whole_gap(w.recorder, 0, GAP_UNKNOWN_CONTENT);
    cr_assert_eq(UPDATES(w), 0);
    scsi_good(&w, write_4k(&w, 10));
    cr_assert_eq(recorded_update(w.recorder, 0)->block_bytes, 4096);
    cr_assert_eq(GAPS(w), 1);
    scsi_world_end(&w);
}

Test(scsi_attention, failed_write_of_other_blocks) {
    struct scsi_world w = scsi_world_disk();
    scsi_check(&w, write_4k(&w, 10), 3, 0x0c, 0);
    expect_whole_gap(w.recorder, 0, GAP_FAILED_WRITE);
    scsi_world_end(&w);
}

static void format(struct scsi_world *w, uint8_t opcode) {
    const uint8_t cdb[16] = {opcode};
    scsi_good(w, scsi_send(w, w->nexus, cdb, sizeof cdb, 0, 0));
}

Test(scsi_attention, formats) {
    static const uint8_t opcodes[] = {0x04, 0x48, 0x38};
    for (size_t i = 0; i < sizeof opcodes; i++) {
        struct scsi_world w = scsi_world_disk();
        format(&w, opcodes[i]);
        expect_whole_gap(w.recorder, 0, GAP_UNKNOWN_CONTENT);
        same_to_end(&w);
        expect_whole_gap(w.recorder, 1, GAP_UNKNOWN_CONTENT);
        scsi_good(&w, write_4k(&w, 10));
        cr_assert_eq(recorded_update(w.recorder, 0)->block_bytes, 4096);
        scsi_world_end(&w);
    }
}

Test(scsi_attention, mode_select_of_another_block_length) {
    struct scsi_world w = scsi_world_disk();
    const uint8_t select[16] = {0x15, 0x10, 0, 0, 12};
    const uint8_t list[12] = {0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 16, 0};
    scsi_do(&w, w.nexus, select, sizeof select, list, sizeof list);
    expect_whole_gap(w.recorder, 0, GAP_UNKNOWN_COMMAND);
    scsi_good(&w, write_4k(&w, 10));
    cr_assert_eq(recorded_update(w.recorder, 0)->block_bytes, 4096);
    scsi_world_end(&w);
}

Test(scsi_attention, blocks_that_are_not_supported) {
    struct scsi_world w = scsi_world_make();
    scsi_capacity(&w, w.nexus, 4096, 520, 0);
    expect_whole_gap(w.recorder, 0, GAP_UNKNOWN_CONTENT);
    cr_assert_not_null(strstr(recorded_gap(w.recorder, 0)->text, "520 bytes"));
    const uint8_t cdb[16] = {0x2a, 0, 0, 0, 0, 100, 0, 0, 4};
    for (int i = 0; i < 3; i++) {
        struct exchange *x = scsi_send(&w, w.nexus, cdb, sizeof cdb, 4 * 520, 0);
        scsi_fill(x, 0, 4 * 520, 1);
        scsi_good(&w, x);
    }
    struct exchange *x = scsi_send(&w, w.nexus, cdb, sizeof cdb, 4 * 520, 0);
    scsi_fill(x, 0, 4 * 520, 1);
    tracker_abandon(x, GAP_ABORTED, "was aborted", w.now_ns);
    cr_assert_eq(GAPS(w), 1, "said once");
    cr_assert_eq(UPDATES(w), 0);
    scsi_capacity(&w, w.nexus, 4096, 512, 0);
    scsi_good(&w, scsi_write(&w, w.nexus, 100, 8, 1));
    cr_assert_eq(UPDATES(w), 1, "formatted anew");
    scsi_capacity(&w, w.nexus, 4096, 4160, 0);
    cr_assert_eq(GAPS(w), 2);
    scsi_world_end(&w);
}

Test(scsi_attention, medium_that_may_have_been_changed) {
    struct scsi_world w = scsi_world_disk();
    attention(&w, 0x28, 0);
    cr_assert_eq(GAPS(w), 0, "a fixed disk became ready");
    const uint8_t cdb[16] = {0x12, 0, 0, 0, 36};
    uint8_t answer[36] = {0, 0x80, 5, 2, 31};
    scsi_ask(&w, w.nexus, cdb, sizeof cdb, answer, sizeof answer);
    attention(&w, 0x28, 0);
    expect_whole_gap(w.recorder, 0, GAP_UNKNOWN_CONTENT);
    scsi_world_end(&w);
}

Test(scsi_attention, other_attentions_mean_nothing) {
    static const uint8_t codes[][2] = {{0x29, 0}, {0x29, 7}, {0x2a, 3}, {0x2f, 0}, {0x3f, 0x0e}};
    struct scsi_world w = scsi_world_disk();
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++)
        attention(&w, codes[i][0], codes[i][1]);
    same_to_end(&w);
    cr_assert_eq(recorded_update(w.recorder, 0)->blocks, 4096 - 50);
    cr_assert_eq(GAPS(w), 0);
    scsi_world_end(&w);
}
