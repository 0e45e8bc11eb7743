/* EXTENDED COPY: from the unit ...01 of the first target to the unit ...09 of another. */
#include "scsi_recorder.h"

#include <criterion/criterion.h>
#include <string.h>

enum { LIST_BYTES = 4096, SEGMENTS_AT = 16 + 64 };

struct copy_world {
    struct scsi_world w;
    struct nexus *other;
    uint8_t list[LIST_BYTES];
    size_t bytes;
};

static uint64_t path_id(const char *target) {
    return record_path_id(PATH_ISCSI, target, strlen(target), UINT64_C(1) << 48);
}

static struct copy_world make(void) {
    struct copy_world c = {.w = scsi_world_disk()};
    c.other = tracker_nexus_open(c.w.tracker, PATH_ISCSI, "iqn.initiator", "iqn.other");
    scsi_identify(&c.w, c.w.nexus, 1);
    scsi_capacity(&c.w, c.other, 4096, 512, 0);
    scsi_identify(&c.w, c.other, 9);
    recorder_forget(c.w.recorder);
    return c;
}

static void end(struct copy_world *c) {
    tracker_nexus_close(c->other, 0, NULL, 0);
    scsi_world_end(&c->w);
}

/* The first CSCD is the unit ...`source`, the second the unit ...`destination`. */
static void begin_list(struct copy_world *c, uint8_t source, uint8_t destination) {
    memset(c->list, 0, sizeof c->list);
    put_be(c->list + 2, 64, 2);
    for (unsigned i = 0; i < 2; i++) {
        uint8_t *cscd = c->list + 16 + 32 * i;
        cscd[0] = 0xe4;
        cscd[4] = 0x01;
        cscd[5] = 0x03;
        cscd[7] = 16;
        put_be(cscd + 8, 0x60014050, 4);
        cscd[23] = i == 0 ? source : destination;
        put_be(cscd + 29, 512, 3);
    }
    c->bytes = SEGMENTS_AT;
}

static uint8_t *segment(struct copy_world *c, uint16_t from, uint16_t to, uint64_t source,
                        uint64_t lba, uint16_t blocks) {
    uint8_t *at = c->list + c->bytes;
    at[0] = 0x02;
    at[3] = 24;
    put_be(at + 4, from, 2);
    put_be(at + 6, to, 2);
    put_be(at + 10, blocks, 2);
    put_be(at + 12, source, 8);
    put_be(at + 20, lba, 8);
    c->bytes += 28;
    put_be(c->list + 8, c->bytes - SEGMENTS_AT, 4);
    return at;
}

static struct exchange *send_list(struct copy_world *c) {
    const uint8_t cdb[16] = {0x83};
    struct exchange *x = scsi_send(&c->w, c->w.nexus, cdb, sizeof cdb, (uint32_t)c->bytes, 0);
    tracker_data_out(x, 0, c->list, c->bytes);
    return x;
}

static struct exchange *simple(struct copy_world *c) {
    begin_list(c, 1, 9);
    segment(c, 0, 1, 100, 300, 8);
    return send_list(c);
}

Test(scsi_copy, between_units) {
    struct copy_world c = make();
    scsi_good(&c.w, simple(&c));
    const struct recorded *e = recorded_update(c.w.recorder, 0);
    cr_assert_eq(e->op, UPDATE_COPY);
    cr_assert(e->path == path_id("iqn.other") && e->source == path_id("iqn.target"));
    cr_assert(e->lba == 300 && e->blocks == 8 && e->source_lba == 100 && e->block_bytes == 512);
    cr_assert(e->source_from_ns == e->issued_ns && e->source_until_ns == e->time_ns);
    cr_assert_eq(UPDATES(c.w), 1);
    cr_assert_eq(GAPS(c.w), 0);
    end(&c);
}

/* Two paths to the destination are one volume at the server: one of them stands for both. */
Test(scsi_copy, destination_with_two_paths) {
    struct copy_world c = make();
    struct nexus *third = tracker_nexus_open(c.w.tracker, PATH_ISCSI, "iqn.initiator", "iqn.3");
    scsi_capacity(&c.w, third, 4096, 512, 0);
    scsi_identify(&c.w, third, 9);
    scsi_good(&c.w, simple(&c));
    cr_assert_eq(UPDATES(c.w), 1);
    scsi_check(&c.w, simple(&c), 3, 0x11, 0);
    cr_assert_eq(GAPS(c.w), 2);
    expect_gap(c.w.recorder, 0, 300, 8, GAP_FAILED_WRITE);
    expect_gap(c.w.recorder, 1, 300, 8, GAP_FAILED_WRITE);
    tracker_nexus_close(third, 0, NULL, 0);
    end(&c);
}

Test(scsi_copy, units_that_are_not_known) {
    struct copy_world c = make();
    begin_list(&c, 77, 9);
    segment(&c, 0, 1, 100, 300, 8);
    scsi_good(&c.w, send_list(&c));
    cr_assert_eq(UPDATES(c.w), 0);
    expect_gap(c.w.recorder, 0, 300, 8, GAP_UNKNOWN_CONTENT);
    recorder_forget(c.w.recorder);
    begin_list(&c, 1, 77);
    segment(&c, 0, 1, 100, 300, 8);
    scsi_good(&c.w, send_list(&c));
    cr_assert_eq(GAPS(c.w), 2, "it may be any of the two");
    expect_whole_gap(c.w.recorder, 0, GAP_UNKNOWN_CONTENT);
    expect_whole_gap(c.w.recorder, 1, GAP_UNKNOWN_CONTENT);
    end(&c);
}

/* A write to the source that was open at the copy's end may be in it or not. */
Test(scsi_copy, source_that_is_being_written) {
    struct copy_world c = make();
    struct exchange *write = scsi_write(&c.w, c.w.nexus, 107, 8, 1);
    scsi_good(&c.w, simple(&c));
    cr_assert_eq(UPDATES(c.w), 0);
    expect_gap(c.w.recorder, 0, 300, 8, GAP_UNKNOWN_CONTENT);
    scsi_good(&c.w, write);
    write = scsi_write(&c.w, c.w.nexus, 108, 8, 1);
    scsi_good(&c.w, simple(&c));
    cr_assert_eq(UPDATES(c.w), 2, "other blocks");
    scsi_good(&c.w, write);
    struct exchange *copy = simple(&c);
    begin_list(&c, 9, 1);
    segment(&c, 0, 1, 600, 104, 1);
    struct exchange *onto_source = send_list(&c);
    scsi_good(&c.w, copy);
    expect_gap(c.w.recorder, 1, 300, 8, GAP_UNKNOWN_CONTENT);
    scsi_good(&c.w, onto_source);
    end(&c);
}

/* The same of a write that comes late, because something before it was missing. */
Test(scsi_copy, source_that_was_being_written) {
    struct copy_world c = make();
    const uint64_t before_ns = c.w.now_ns;
    c.w.now_ns += 1000;
    scsi_good(&c.w, simple(&c));
    const uint64_t copied_ns = recorded_update(c.w.recorder, 0)->time_ns;
    c.w.now_ns = before_ns;
    scsi_good(&c.w, scsi_write(&c.w, c.w.nexus, 200, 8, 1));
    cr_assert_eq(GAPS(c.w), 0, "other blocks");
    scsi_write(&c.w, c.w.nexus, 104, 8, 1);
    expect_gap(c.w.recorder, 0, 300, 8, GAP_OVERLAP);
    cr_assert_eq(recorded_gap(c.w.recorder, 0)->time_ns, copied_ns);
    c.w.now_ns = copied_ns + 1000;
    scsi_write(&c.w, c.w.nexus, 106, 2, 1);
    cr_assert_eq(GAPS(c.w), 1, "behind the copy");
    end(&c);
}

/* A list that has not come may write anywhere. */
Test(scsi_copy, source_that_a_late_copy_may_have_written) {
    struct copy_world c = make();
    const uint64_t before_ns = c.w.now_ns;
    const uint8_t cdb[16] = {0x83};
    c.w.now_ns += 1000;
    scsi_good(&c.w, simple(&c));
    c.w.now_ns = before_ns;
    scsi_send(&c.w, c.other, cdb, sizeof cdb, 120, 0);
    expect_gap(c.w.recorder, 0, 300, 8, GAP_OVERLAP);
    end(&c);
}

Test(scsi_copy, destination_that_is_being_written) {
    struct copy_world c = make();
    struct exchange *copy = simple(&c);
    struct exchange *later = scsi_write(&c.w, c.other, 307, 8, 1);
    scsi_good(&c.w, scsi_write(&c.w, c.other, 296, 8, 1));
    scsi_good(&c.w, copy);
    cr_assert_eq(GAPS(c.w), 1);
    expect_gap(c.w.recorder, 0, 300, 4, GAP_OVERLAP);
    scsi_good(&c.w, later);
    expect_gap(c.w.recorder, 1, 307, 1, GAP_OVERLAP);
    scsi_good(&c.w, simple(&c));
    cr_assert_eq(GAPS(c.w), 2, "all were over");
    end(&c);
}

Test(scsi_copy, segments_that_read_what_others_write) {
    struct copy_world c = make();
    begin_list(&c, 1, 9);
    segment(&c, 0, 1, 100, 300, 8);
    segment(&c, 1, 0, 307, 500, 8);
    segment(&c, 0, 1, 600, 800, 8);
    scsi_good(&c.w, send_list(&c));
    cr_assert_eq(UPDATES(c.w), 2);
    cr_assert_eq(recorded_update(c.w.recorder, 1)->lba, 800);
    cr_assert_eq(GAPS(c.w), 1);
    expect_gap(c.w.recorder, 0, 500, 8, GAP_UNKNOWN_CONTENT);
    recorder_forget(c.w.recorder);
    begin_list(&c, 1, 9);
    segment(&c, 0, 0, 100, 104, 8); /* onto itself */
    segment(&c, 0, 0, 100, 108, 8);
    scsi_good(&c.w, send_list(&c));
    cr_assert_eq(UPDATES(c.w), 0, "the second reads what the first wrote");
    cr_assert_eq(GAPS(c.w), 2);
    end(&c);
}

/* Segments are done in order: of two with the same destination the second stands. */
Test(scsi_copy, segments_with_the_same_destination) {
    struct copy_world c = make();
    begin_list(&c, 1, 9);
    segment(&c, 0, 1, 100, 300, 8);
    segment(&c, 0, 1, 200, 300, 8);
    scsi_good(&c.w, send_list(&c));
    cr_assert_eq(UPDATES(c.w), 2);
    cr_assert_eq(recorded_update(c.w.recorder, 1)->source_lba, 200);
    cr_assert_eq(GAPS(c.w), 0);
    end(&c);
}

Test(scsi_copy, blocks_of_two_lengths) {
    struct copy_world c = make();
    scsi_capacity(&c.w, c.other, 512, 4096, 0);
    recorder_forget(c.w.recorder);
    begin_list(&c, 1, 9);
    put_be(c.list + 16 + 32 + 29, 4096, 3);
    segment(&c, 0, 1, 100, 30, 16); /* of the source */
    scsi_good(&c.w, send_list(&c));
    cr_assert_eq(recorded_update(c.w.recorder, 0)->blocks, 2);
    cr_assert_eq(recorded_update(c.w.recorder, 0)->block_bytes, 4096);
    begin_list(&c, 1, 9);
    put_be(c.list + 16 + 32 + 29, 4096, 3);
    segment(&c, 0, 1, 100, 30, 3)[1] = 0x02; /* DC: of the destination */
    scsi_good(&c.w, send_list(&c));
    cr_assert_eq(recorded_update(c.w.recorder, 1)->blocks, 3);
    begin_list(&c, 1, 9);
    put_be(c.list + 16 + 32 + 29, 4096, 3);
    segment(&c, 0, 1, 100, 30, 12)[1] = 0x01; /* CAT: the rest goes in front of the next */
    segment(&c, 0, 1, 112, 40, 8);
    scsi_good(&c.w, send_list(&c));
    cr_assert_eq(UPDATES(c.w), 2);
    cr_assert_eq(recorded_gap(c.w.recorder, 0)->offset_bytes, 30 * 4096);
    cr_assert_eq(recorded_gap(c.w.recorder, 0)->length_bytes, 3 * 4096);
    cr_assert_eq(recorded_gap(c.w.recorder, 1)->offset_bytes, 40 * 4096);
    begin_list(&c, 1, 9); /* it says 512, which is not true */
    segment(&c, 0, 1, 100, 30, 16);
    scsi_good(&c.w, send_list(&c));
    cr_assert_eq(UPDATES(c.w), 2);
    end(&c);
}

static void bytes_segment(struct copy_world *c, uint32_t bytes, uint16_t skip) {
    uint8_t *at = segment(c, 0, 1, 100, 300, 0);
    at[0] = 0x0a;
    at[3] = 28;
    put_be(at + 8, bytes, 4);
    put_be(at + 30, skip, 2);
    c->bytes += 4;
    put_be(c->list + 8, c->bytes - SEGMENTS_AT, 4);
}

Test(scsi_copy, counted_in_bytes) {
    struct copy_world c = make();
    begin_list(&c, 1, 9);
    bytes_segment(&c, 4096, 0);
    scsi_good(&c.w, send_list(&c));
    cr_assert_eq(recorded_update(c.w.recorder, 0)->blocks, 8);
    begin_list(&c, 1, 9);
    bytes_segment(&c, 4000, 0);
    scsi_good(&c.w, send_list(&c));
    expect_gap(c.w.recorder, 0, 300, 8, GAP_UNKNOWN_CONTENT);
    begin_list(&c, 1, 9);
    bytes_segment(&c, 4096, 100);
    scsi_good(&c.w, send_list(&c));
    expect_gap(c.w.recorder, 1, 300, 9, GAP_UNKNOWN_CONTENT);
    cr_assert_eq(UPDATES(c.w), 1);
    end(&c);
}

Test(scsi_copy, in_the_background) {
    struct copy_world c = make();
    const uint8_t cdb[16] = {0x83, 0x01};
    uint8_t list[48 + 64 + 28] = {1};
    simple(&c);
    list[15] = 0x01; /* IMMED */
    put_be(list + 42, 64, 2);
    put_be(list + 44, 28, 2);
    memcpy(list + 48, c.list + 16, 64 + 28);
    scsi_do(&c.w, c.w.nexus, cdb, sizeof cdb, list, sizeof list);
    cr_assert_eq(UPDATES(c.w), 0);
    expect_gap(c.w.recorder, 0, 300, 8, GAP_UNKNOWN_CONTENT);
    list[15] = 0;
    scsi_do(&c.w, c.w.nexus, cdb, sizeof cdb, list, sizeof list);
    cr_assert_eq(UPDATES(c.w), 1);
    end(&c);
}

/* More than anybody copies in one command would be split into millions of records. */
Test(scsi_copy, beyond_measure) {
    struct copy_world c = make();
    begin_list(&c, 1, 9);
    for (int i = 0; i < 17; i++)
        bytes_segment(&c, UINT32_MAX - 511, 0);
    scsi_good(&c.w, send_list(&c));
    cr_assert_eq(UPDATES(c.w), 0);
    cr_assert_eq(GAPS(c.w), 17);
    end(&c);
}
