/* Derived content: when it may be derived, how long copies are cut, who else does the same. */
#include "common/cursor.h"
#include "proto/message.h"
#include "recoveryd/settle/settle.h"
#include "tests/unit/recoveryd/store_rig.h"

enum { SIZE = 256 << 20, MIB = 1 << 20 };
/* When whatever was in flight at a copy that others may have disturbed has ended. */
#define LANDED_NS (1000 + INDEX_IN_FLIGHT_NS)

struct bench {
    struct rig rig;
    uint64_t from; /* a path of the one volume */
    uint64_t to;   /* of the other */
};

static void bench_start(struct bench *b) {
    rig_start(&b->rig);
    b->from = rig_path(&b->rig, 1, 1, "iqn.from", "naa.1", SIZE, 100);
    b->to = rig_path(&b->rig, 1, 1, "iqn.to", "naa.2", SIZE, 100);
    rig_stream(&b->rig, 1, 1, 100, 1000, false);
    rig_commit(&b->rig);
}

static void copy(struct bench *b, uint64_t time_ns, uint64_t order, uint64_t to_offset,
                 uint64_t from_offset, uint64_t length) {
    struct update_record u = {.time_ns = time_ns,
                              .path = b->to,
                              .offset_bytes = to_offset,
                              .length_bytes = length,
                              .block_bytes = 512,
                              .op = UPDATE_COPY,
                              .source_path = b->from,
                              .source_offset_bytes = from_offset,
                              .source_from_ns = time_ns - 10,
                              .source_until_ns = time_ns};
    struct stamp stamp = {time_ns, 1, 1, order};
    rig_ok(&b->rig, index_put_update(rig_writer(&b->rig), &stamp, &u, NULL, &b->rig.err));
}

static struct waiting_counts waiting(struct bench *b) {
    struct waiting_counts counts;
    AUTO(index_reader) r = rig_reader(&b->rig);
    rig_ok(&b->rig, index_count_waiting(r, &counts, &b->rig.err));
    return counts;
}

static void settle_now(struct bench *b) {
    rig_ok(&b->rig, settle(b->rig.store, UINT64_MAX, &b->rig.err));
}

static bool count_gap(void *context, const struct gap_entry *gap) {
    size_t *count = context;
    (void)gap;
    (*count)++;
    return true;
}

static size_t listed_gaps(struct bench *b, uint64_t path) {
    size_t count = 0;
    AUTO(index_reader) r = rig_reader(&b->rig);
    rig_ok(&b->rig, index_each_gap(r, path, UINT64_MAX, count_gap, &count, &b->rig.err));
    return count;
}

Test(settle, a_copy_is_a_gap_until_it_is_derived) {
    struct bench b;
    bench_start(&b);
    rig_fill(&b.rig, b.from, (struct stamp){200, 1, 1, 1}, 0, 0, 4096, 7);
    copy(&b, 300, 2, MIB - 1024, 512, 2048);
    rig_commit(&b.rig);
    struct rig_byte byte = rig_byte_at(&b.rig, b.to, 300, MIB);
    cr_assert_not(byte.exact);
    cr_assert_eq(rig_byte_at(&b.rig, b.to, 299, MIB).known, false);
    cr_assert_eq(listed_gaps(&b, b.to), 1);
    settle_now(&b);
    for (uint64_t at = MIB - 1024; at < MIB + 1024; at += 512) {
        byte = rig_byte_at(&b.rig, b.to, 300, at);
        cr_assert(byte.exact);
        cr_assert_eq(byte.value, 7);
    }
    cr_assert_eq(listed_gaps(&b, b.to), 0, "the gap is no longer listed");
    cr_assert_eq(waiting(&b).derived + waiting(&b).stuck, 0);
    rig_end(&b.rig);
}

/* What lies in a segment is a write of the update's own stamp, for whoever reads it without an
 * index. */
static bool see_payload(void *context, const struct piece *p) {
    struct extent *extent = context;
    *extent = p->extent;
    cr_assert_eq(p->kind, PIECE_DATA);
    cr_assert_eq(p->part, 0, "the gap's piece is replaced");
    return true;
}

Test(settle, segments_go_on_describing_themselves) {
    struct bench b;
    struct extent extent = {0};
    struct record update;
    struct message m;
    struct cursor body;
    uint8_t frame[4096];
    bench_start(&b);
    rig_fill(&b.rig, b.from, (struct stamp){200, 1, 1, 1}, 0, 0, 512, 7);
    copy(&b, 300, 2, 512, 0, 512);
    rig_commit(&b.rig);
    settle_now(&b);
    AUTO(index_reader) r = rig_reader(&b.rig);
    rig_ok(&b.rig, index_each_piece(r, b.to, 0, UINT64_MAX, see_payload, &extent, &b.rig.err));
    size_t bytes = extent.offset - 4096 + 512;
    extent.bytes = (uint32_t)bytes;
    extent.offset = 4096; /* right behind the head: it is the first of its file */
    rig_ok(&b.rig,
           segments_read(b.rig.store->segments, &extent, 0, frame, extent.bytes, &b.rig.err));
    rig_ok(&b.rig, message_decode(frame, bytes, &m, &body, &b.rig.err));
    cr_assert_eq(m.batch.monitor, 1);
    cr_assert_eq(m.batch.stream, 1);
    rig_ok(&b.rig, record_decode(&body, &update, &b.rig.err));
    cr_assert_eq(update.order, 2);
    cr_assert_eq(update.update.time_ns, 300);
    cr_assert_eq(update.update.op, UPDATE_WRITE);
    cr_assert_eq(update.update.offset_bytes, 512);
    index_reader_close(take_pointer(&r));
    rig_end(&b.rig);
}

Test(settle, nothing_is_derived_before_every_watermark_has_passed) {
    struct bench b;
    bench_start(&b);
    rig_fill(&b.rig, b.from, (struct stamp){200, 1, 1, 1}, 0, 0, 4096, 7);
    copy(&b, 300, 2, 0, 0, 4096);
    /* Another monitor sees the source, and is not as far. */
    rig_path(&b.rig, 2, 1, "iqn.from", "naa.1", SIZE, 100);
    rig_stream(&b.rig, 2, 1, 100, 299, false);
    rig_commit(&b.rig);
    settle_now(&b);
    cr_assert_eq(waiting(&b).derived, 1);
    rig_fill(&b.rig, b.from, (struct stamp){295, 2, 1, 1}, 0, 0, 512, 9);
    rig_stream(&b.rig, 1, 1, 100, LANDED_NS, false);
    rig_stream(&b.rig, 2, 1, 100, 300, false);
    rig_commit(&b.rig);
    settle_now(&b);
    cr_assert_eq(waiting(&b).derived, 1, "what was in flight then may still come");
    rig_stream(&b.rig, 2, 1, 100, LANDED_NS, false);
    rig_commit(&b.rig);
    settle_now(&b);
    cr_assert_eq(waiting(&b).derived, 0);
    cr_assert_not(rig_byte_at(&b.rig, b.to, 300, 0).exact, "it changed while it was copied");
    cr_assert(rig_byte_at(&b.rig, b.to, 300, 512).exact, "that did not");
    cr_assert_eq(rig_byte_at(&b.rig, b.to, 300, 512).value, 7);
    cr_assert_eq(waiting(&b).stuck, 1);
    rig_end(&b.rig);
}

/* The other monitor's clock may be wrong by 30: a change 20 after the copy may have come before. */
Test(settle, a_change_within_the_clocks_error_disturbs_a_copy) {
    struct bench b;
    bench_start(&b);
    rig_path(&b.rig, 2, 1, "iqn.from", "naa.1", SIZE, 100);
    rig_stream(&b.rig, 1, 1, 100, LANDED_NS, false);
    rig_clock(&b.rig, 2, 1, 100, LANDED_NS, 10, 30);
    rig_fill(&b.rig, b.from, (struct stamp){200, 1, 1, 1}, 0, 0, 2048, 7);
    copy(&b, 300, 2, 0, 0, 2048);
    rig_fill(&b.rig, b.from, (struct stamp){320, 2, 1, 3}, 0, 0, 512, 9);
    rig_fill(&b.rig, b.from, (struct stamp){331, 2, 1, 4}, 0, 512, 512, 9);
    rig_fill(&b.rig, b.from, (struct stamp){261, 2, 1, 5}, 0, 1024, 512, 9);
    rig_fill(&b.rig, b.from, (struct stamp){255, 2, 1, 6}, 0, 1536, 512, 9);
    rig_commit(&b.rig);
    settle_now(&b);
    cr_assert_not(rig_byte_at(&b.rig, b.to, 300, 0).exact);
    cr_assert(rig_byte_at(&b.rig, b.to, 300, 512).exact);
    cr_assert_not(rig_byte_at(&b.rig, b.to, 300, 1024).exact);
    cr_assert(rig_byte_at(&b.rig, b.to, 300, 1536).exact);
    cr_assert_eq(rig_byte_at(&b.rig, b.to, 300, 1536).value, 9);
    rig_end(&b.rig);
}

/* The monitor of a copy did not know of it: its command had to wait for something that was missing.
 */
Test(settle, a_change_in_flight_that_comes_late_undoes_the_copy_of_its_blocks) {
    struct bench b;
    bench_start(&b);
    rig_fill(&b.rig, b.from, (struct stamp){200, 1, 1, 1}, 0, 0, 2048, 7);
    copy(&b, 300, 2, 0, 0, 2048);
    rig_commit(&b.rig);
    settle_now(&b);
    cr_assert(rig_byte_at(&b.rig, b.to, 300, 512).exact);
    rig_fill(&b.rig, b.from, (struct stamp){400, 1, 1, 3}, 301, 0, 2048, 9);
    rig_fill(&b.rig, b.from, (struct stamp){400, 1, 1, 4}, 0, 0, 2048, 9);
    rig_fill(&b.rig, b.from, (struct stamp){400, 1, 1, 5}, 300, 2048, 2048, 9);
    rig_commit(&b.rig);
    cr_assert_eq(waiting(&b).derived, 0, "none of these was in flight over it");
    rig_fill(&b.rig, b.from, (struct stamp){400, 1, 1, 6}, 300, 512, 512, 9);
    rig_commit(&b.rig);
    cr_assert_eq(waiting(&b).derived, 1);
    cr_assert_not(rig_byte_at(&b.rig, b.to, 300, 512).exact);
    settle_now(&b);
    cr_assert_eq(waiting(&b).stuck, 1);
    cr_assert_not(rig_byte_at(&b.rig, b.to, 300, 512).exact);
    cr_assert(rig_byte_at(&b.rig, b.to, 300, 0).exact);
    cr_assert_eq(rig_byte_at(&b.rig, b.to, 300, 1024).value, 7);
    /* What is partly known can be undone as well. */
    struct gap_record failed = {.time_ns = 500,
                                .issued_ns = 250,
                                .path = b.from,
                                .offset_bytes = 1024,
                                .length_bytes = 512,
                                .reason = GAP_FAILED_WRITE};
    struct stamp stamp = {500, 1, 1, 7};
    rig_ok(&b.rig, index_put_gap(rig_writer(&b.rig), &stamp, &failed, &b.rig.err));
    rig_commit(&b.rig);
    settle_now(&b);
    cr_assert_not(rig_byte_at(&b.rig, b.to, 300, 1024).exact);
    cr_assert(rig_byte_at(&b.rig, b.to, 300, 0).exact);
    rig_end(&b.rig);
}

/* Nor does what was made of it. */
Test(settle, a_change_in_flight_that_comes_late_undoes_copies_of_the_copy) {
    struct bench b;
    bench_start(&b);
    rig_fill(&b.rig, b.from, (struct stamp){200, 1, 1, 1}, 0, 0, 1024, 7);
    copy(&b, 300, 2, 0, 0, 1024);
    struct update_record back = {.time_ns = 500,
                                 .path = b.from,
                                 .offset_bytes = MIB,
                                 .length_bytes = 1024,
                                 .block_bytes = 512,
                                 .op = UPDATE_COPY,
                                 .source_path = b.to,
                                 .source_from_ns = 490,
                                 .source_until_ns = 500};
    struct stamp stamp = {500, 1, 1, 3};
    rig_ok(&b.rig, index_put_update(rig_writer(&b.rig), &stamp, &back, NULL, &b.rig.err));
    rig_commit(&b.rig);
    settle_now(&b);
    cr_assert(rig_byte_at(&b.rig, b.from, 500, MIB).exact);
    rig_fill(&b.rig, b.from, (struct stamp){400, 1, 1, 4}, 300, 0, 512, 9);
    rig_commit(&b.rig);
    cr_assert_not(rig_byte_at(&b.rig, b.from, 500, MIB).exact, "at once");
    settle_now(&b);
    cr_assert_not(rig_byte_at(&b.rig, b.from, 500, MIB).exact);
    cr_assert(rig_byte_at(&b.rig, b.from, 500, MIB + 512).exact);
    rig_end(&b.rig);
}

/* More of them in one commit than are kept apart. */
Test(settle, many_late_changes_in_one_commit_undo_what_each_of_them_would) {
    struct bench b;
    bench_start(&b);
    rig_fill(&b.rig, b.from, (struct stamp){200, 1, 1, 1}, 0, 0, MIB, 7);
    for (uint64_t i = 0; i < 256; i++)
        copy(&b, 300, 2 + i, i * 512, i * 512, 512);
    rig_commit(&b.rig);
    settle_now(&b);
    for (uint64_t i = 1400; i > 0; i -= 2)
        rig_fill(&b.rig, b.from, (struct stamp){400, 1, 1, 1000 + i}, 290, (i - 2) * 512, 512, 9);
    rig_commit(&b.rig);
    settle_now(&b);
    for (uint64_t i = 0; i < 256; i++)
        cr_assert_eq(rig_byte_at(&b.rig, b.to, 300, i * 512).exact, i % 2 == 1, "block %lu", i);
    rig_end(&b.rig);
}

Test(settle, what_another_monitor_saw_in_flight_is_waited_for) {
    struct bench b;
    bench_start(&b);
    rig_path(&b.rig, 2, 1, "iqn.from", "naa.1", SIZE, 100);
    rig_stream(&b.rig, 1, 1, 100, LANDED_NS, false);
    rig_stream(&b.rig, 2, 1, 100, 1000, false);
    rig_fill(&b.rig, b.from, (struct stamp){200, 1, 1, 1}, 0, 0, 1024, 7);
    copy(&b, 300, 2, 0, 0, 1024);
    rig_commit(&b.rig);
    settle_now(&b);
    cr_assert_not(rig_byte_at(&b.rig, b.to, 300, 0).exact, "never called exact meanwhile");
    rig_fill(&b.rig, b.from, (struct stamp){5000, 2, 1, 1}, 250, 0, 512, 9);
    rig_stream(&b.rig, 2, 1, 100, LANDED_NS, false);
    rig_commit(&b.rig);
    settle_now(&b);
    cr_assert_not(rig_byte_at(&b.rig, b.to, 300, 0).exact);
    cr_assert(rig_byte_at(&b.rig, b.to, 300, 512).exact);
    rig_end(&b.rig);
}

/* What another monitor lost, or did not understand, may have been in flight. */
Test(settle, another_monitors_whole_gap_soon_after_disturbs_a_copy) {
    struct bench b;
    bench_start(&b);
    rig_path(&b.rig, 2, 1, "iqn.from", "naa.1", SIZE, 100);
    rig_stream(&b.rig, 1, 1, 100, LANDED_NS, false);
    rig_stream(&b.rig, 2, 1, 100, LANDED_NS, false);
    rig_fill(&b.rig, b.from, (struct stamp){200, 1, 1, 1}, 0, 0, 1024, 7);
    copy(&b, 300, 2, 0, 0, 1024);
    rig_gap(&b.rig, b.from, &(struct stamp){400, 2, 1, 3}, 0, GAP_TO_END, GAP_UNKNOWN_COMMAND);
    copy(&b, 400, 4, MIB, 0, 1024);
    rig_gap(&b.rig, b.from, &(struct stamp){450, 1, 1, 5}, 0, GAP_TO_END, GAP_UNKNOWN_COMMAND);
    rig_commit(&b.rig);
    settle_now(&b);
    cr_assert_not(rig_byte_at(&b.rig, b.to, 300, 0).exact);
    cr_assert_not(rig_byte_at(&b.rig, b.to, 400, MIB).exact);
    rig_end(&b.rig);
}

/* Whoever begins to see the source late may tell of what was in flight before. */
Test(settle, a_late_witness_of_a_change_in_flight_is_heard) {
    struct bench b;
    uint64_t late_ns = 1000 + INDEX_IN_FLIGHT_NS / 2;
    bench_start(&b);
    rig_fill(&b.rig, b.from, (struct stamp){200, 1, 1, 1}, 0, 0, 1024, 7);
    copy(&b, 300, 2, 0, 0, 1024);
    rig_commit(&b.rig);
    settle_now(&b);
    cr_assert(rig_byte_at(&b.rig, b.to, 300, 0).exact);
    rig_path(&b.rig, 2, 1, "iqn.from", "naa.1", SIZE, late_ns + 5000);
    rig_stream(&b.rig, 2, 1, late_ns, late_ns, false);
    rig_commit(&b.rig);
    cr_assert_eq(waiting(&b).derived, 1);
    rig_fill(&b.rig, b.from, (struct stamp){late_ns, 2, 1, 1}, 250, 0, 512, 9);
    rig_stream(&b.rig, 1, 1, 100, 2 * LANDED_NS, false);
    rig_stream(&b.rig, 2, 1, late_ns, 2 * LANDED_NS, false);
    rig_commit(&b.rig);
    settle_now(&b);
    cr_assert_not(rig_byte_at(&b.rig, b.to, 300, 0).exact);
    cr_assert(rig_byte_at(&b.rig, b.to, 300, 512).exact);
    rig_end(&b.rig);
}

/* Longer than 64 chunks, so that its gap lies in larger ones; partly of unknown content. */
Test(settle, a_long_copy_is_derived_part_by_part) {
    struct bench b;
    bench_start(&b);
    for (uint64_t i = 0; i < 90; i++)
        rig_fill(&b.rig, b.from, (struct stamp){200, 1, 1, i}, 0, i * MIB, MIB, (uint8_t)(i + 1));
    copy(&b, 300, 200, 512, 0, (uint64_t)100 * MIB);
    rig_commit(&b.rig);
    settle_now(&b);
    cr_assert_eq(waiting(&b).stuck, 1);
    for (uint64_t i = 0; i < 90; i++) {
        struct rig_byte byte = rig_byte_at(&b.rig, b.to, 300, 512 + i * MIB);
        cr_assert(byte.exact);
        cr_assert_eq(byte.value, (uint8_t)(i + 1));
    }
    cr_assert_not(rig_byte_at(&b.rig, b.to, 300, 512 + (uint64_t)90 * MIB).exact);
    cr_assert_eq(rig_byte_at(&b.rig, b.to, 300, (uint64_t)95 * MIB).reason, 0, "never seen");
    rig_floor_zero(&b.rig, b.from, 0, SIZE);
    rig_commit(&b.rig);
    cr_assert_eq(waiting(&b).derived, 1, "a baseline makes it wait again");
    cr_assert_not(rig_byte_at(&b.rig, b.to, 300, 512).exact, "and it is a gap again");
    settle_now(&b);
    cr_assert_eq(waiting(&b).derived + waiting(&b).stuck, 0);
    cr_assert(rig_byte_at(&b.rig, b.to, 300, (uint64_t)95 * MIB).exact);
    cr_assert_eq(rig_byte_at(&b.rig, b.to, 300, (uint64_t)95 * MIB).value, 0);
    cr_assert_eq(rig_byte_at(&b.rig, b.to, 300, 512 + (uint64_t)89 * MIB).value, 90);
    cr_assert_eq(listed_gaps(&b, b.to), 0);
    rig_end(&b.rig);
}

Test(settle, a_copy_too_long_to_be_derived_stays_a_gap) {
    struct bench b;
    bench_start(&b);
    copy(&b, 300, 2, 0, 0, DERIVED_MOST_BYTES + 512);
    rig_commit(&b.rig);
    settle_now(&b);
    cr_assert_eq(waiting(&b).derived + waiting(&b).stuck, 0);
    cr_assert_eq(listed_gaps(&b, b.to), 1);
    rig_end(&b.rig);
}

/* A settler that looked at the store before something changed writes nothing. */
Test(settle, a_commit_on_grounds_that_changed_is_refused) {
    struct bench b;
    uint64_t facts;
    struct index_writer *w;
    struct derived_entry d;
    bench_start(&b);
    copy(&b, 300, 2, 0, 0, 4096);
    rig_commit(&b.rig);
    AUTO(index_reader) r = rig_reader(&b.rig);
    rig_ok(&b.rig, index_facts(r, &facts, &b.rig.err));
    rig_ok(&b.rig, index_next_derived(r, NULL, &d, &b.rig.err));
    rig_floor_zero(&b.rig, b.from, 0, SIZE);
    rig_commit(&b.rig);
    rig_ok(&b.rig, index_begin(b.rig.store->index, &w, &b.rig.err));
    index_rely_on_facts(w, facts);
    rig_ok(&b.rig, index_end_derived(w, &d, &b.rig.err));
    cr_assert_eq(index_commit(w, &b.rig.err), ERR_BUSY);
    cr_assert_eq(waiting(&b).derived, 1);
    /* One that did not see what was in flight. */
    rig_ok(&b.rig, index_begin(b.rig.store->index, &w, &b.rig.err));
    index_rely_on_facts(w, facts + 1);
    rig_ok(&b.rig, index_end_derived(w, &d, &b.rig.err));
    rig_fill(&b.rig, b.from, (struct stamp){400, 1, 1, 3}, 290, 0, 512, 9);
    rig_fill(&b.rig, b.from, (struct stamp){401, 1, 1, 4}, 0, 0, 512, 9);
    rig_commit(&b.rig);
    cr_assert_eq(index_commit(w, &b.rig.err), ERR_BUSY);
    /* And one that was overtaken by another settler. */
    settle_now(&b);
    rig_ok(&b.rig, index_begin(b.rig.store->index, &w, &b.rig.err));
    rig_ok(&b.rig, index_end_derived(w, &d, &b.rig.err));
    cr_assert_eq(index_commit(w, &b.rig.err), ERR_BUSY);
    cr_assert_not(rig_byte_at(&b.rig, b.to, 300, 0).exact);
    cr_assert(rig_byte_at(&b.rig, b.to, 300, 512).exact);
    index_reader_close(take_pointer(&r));
    rig_end(&b.rig);
}

Test(settle, a_store_that_is_open_for_reading_stays_as_it_is) {
    struct bench b;
    bench_start(&b);
    rig_fill(&b.rig, b.from, (struct stamp){200, 1, 1, 1}, 0, 0, 4096, 7);
    copy(&b, 300, 2, 0, 0, 4096);
    rig_commit(&b.rig);
    b.rig.store->mode = STORE_READ;
    settle_now(&b);
    cr_assert_eq(waiting(&b).derived, 1);
    rig_end(&b.rig);
}

/* One damaged payload keeps nothing behind it waiting. */
Test(settle, a_damaged_source_is_a_gap_and_the_rest_goes_on) {
    struct bench b;
    bench_start(&b);
    uint8_t data[512] = {1};
    struct extent extent;
    struct update_record u = {.time_ns = 200,
                              .path = b.from,
                              .length_bytes = 512,
                              .op = UPDATE_WRITE,
                              .payload_bytes = 512,
                              .payload_crc32c = 0xbad};
    struct stamp stamp = {200, 1, 1, 1};
    rig_ok(&b.rig, segments_append(b.rig.segment, data, 512, &extent, &b.rig.err));
    rig_ok(&b.rig, index_put_update(rig_writer(&b.rig), &stamp, &u, &extent, &b.rig.err));
    rig_fill(&b.rig, b.from, (struct stamp){200, 1, 1, 2}, 0, 512, 512, 7);
    copy(&b, 300, 3, 0, 0, 512);
    copy(&b, 301, 4, 512, 512, 512);
    rig_commit(&b.rig);
    settle_now(&b);
    cr_assert_eq(waiting(&b).derived, 0);
    cr_assert_eq(waiting(&b).stuck, 1);
    cr_assert(rig_byte_at(&b.rig, b.to, 301, 512).exact);
    char text[LIMIT_REASON_BYTES + 1];
    AUTO(index_reader) r = rig_reader(&b.rig);
    rig_ok(&b.rig, index_gap_text(r, b.to, &(struct stamp){300, 1, 1, 3}, text, &b.rig.err));
    cr_assert_not_null(strstr(text, "damaged"), "%s", text);
    index_reader_close(take_pointer(&r));
    rig_end(&b.rig);
}
