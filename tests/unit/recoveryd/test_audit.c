/* Audits: what a READ returned against what the image held. */
#include "common/blocksum.h"
#include "recoveryd/settle/settle.h"
#include "tests/unit/recoveryd/store_rig.h"

enum { SIZE = 4 << 20, MIB = 1 << 20, BLOCK = 512 };

struct bench {
    struct rig rig;
    uint64_t path;
};

static void bench_start(struct bench *b) {
    rig_start(&b->rig);
    b->path = rig_path(&b->rig, 1, 5, "iqn.a", "naa.1", SIZE, 100);
    rig_clock(&b->rig, 1, 5, 100, 1000, 1000, 0);
    rig_commit(&b->rig);
}

static void put_audit_of(struct bench *b, struct stamp stamp, uint64_t issued_ns, uint64_t offset,
                         const uint8_t *values, uint32_t blocks) {
    uint8_t crcs[4 * AUDIT_BLOCKS];
    for (uint32_t i = 0; i < blocks; i++) {
        uint8_t block[BLOCK];
        memset(block, values[i], BLOCK);
        uint32_t crc = blocksum(block, BLOCK);
        for (int k = 0; k < 4; k++)
            crcs[4 * i + (uint32_t)k] = (uint8_t)(crc >> (8 * k));
    }
    struct audit_record audit = {.time_ns = stamp.time_ns,
                                 .issued_ns = issued_ns,
                                 .path = b->path,
                                 .offset_bytes = offset,
                                 .block_bytes = BLOCK,
                                 .blocks = (uint16_t)blocks,
                                 .kind = AUDIT_BLOCKSUM,
                                 .sums = crcs};
    rig_ok(&b->rig, index_put_audit(rig_writer(&b->rig), &stamp, &audit, &b->rig.err));
}

static void put_audit(struct bench *b, uint64_t time_ns, uint64_t order, uint64_t offset,
                      const uint8_t *values, uint32_t blocks) {
    put_audit_of(b, (struct stamp){time_ns, 1, 5, order}, time_ns - 10, offset, values, blocks);
}

static struct audited_entry judge_all(struct bench *b) {
    struct audited_entry found;
    rig_commit(&b->rig);
    rig_ok(&b->rig, settle(b->rig.store, UINT64_MAX, &b->rig.err));
    AUTO(index_reader) r = rig_reader(&b->rig);
    rig_ok(&b->rig, index_get_audited(r, b->path, &found, &b->rig.err));
    return found;
}

static uint64_t audits_waiting(struct bench *b) {
    struct waiting_counts counts;
    AUTO(index_reader) r = rig_reader(&b->rig);
    rig_ok(&b->rig, index_count_waiting(r, &counts, &b->rig.err));
    return counts.audits;
}

Test(audit, blocks_that_are_the_same_are_counted_and_nothing_else_happens) {
    struct bench b;
    bench_start(&b);
    rig_fill(&b.rig, b.path, (struct stamp){200, 1, 5, 1}, 0, MIB - 1024, 2048, 3);
    put_audit(&b, 300, 2, MIB - 1024, (uint8_t[]){3, 3, 3, 3}, 4);
    struct audited_entry found = judge_all(&b);
    cr_assert_eq(found.audits, 1);
    cr_assert_eq(found.blocks, 4);
    cr_assert_eq(found.mismatches + found.skipped + found.proven, 0);
    cr_assert_eq(audits_waiting(&b), 0);
    cr_assert(rig_byte_at(&b.rig, b.path, 1000, MIB).exact);
    rig_end(&b.rig);
}

Test(audit, a_contradicted_block_is_a_gap_since_its_content_began_until_the_next_update) {
    struct bench b;
    bench_start(&b);
    rig_fill(&b.rig, b.path, (struct stamp){200, 1, 5, 1}, 0, 0, 4096, 3);
    rig_fill(&b.rig, b.path, (struct stamp){250, 1, 5, 2}, 0, 1024, 512, 4);
    put_audit(&b, 300, 3, 0, (uint8_t[]){3, 9, 9, 3}, 4);
    rig_fill(&b.rig, b.path, (struct stamp){400, 1, 5, 4}, 0, 512, 512, 5);
    struct audited_entry found = judge_all(&b);
    cr_assert_eq(found.blocks, 2);
    cr_assert_eq(found.mismatches, 2);
    cr_assert_eq(found.mismatch_ns, 300);
    cr_assert_eq(found.mismatch_offset, 512);
    cr_assert_eq(found.mismatch_length, 1024);
    struct rig_byte byte = rig_byte_at(&b.rig, b.path, 200, 512);
    cr_assert_not(byte.exact, "since the content began, not since the READ");
    cr_assert_eq(byte.reason, GAP_CONTRADICTED);
    cr_assert_eq(byte.since_ns, 200);
    cr_assert_eq(byte.value, 3, "the best guess stays");
    cr_assert(rig_byte_at(&b.rig, b.path, 200, 1024).exact, "what was there before was not read");
    cr_assert_eq(rig_byte_at(&b.rig, b.path, 250, 1024).since_ns, 250);
    cr_assert_not(rig_byte_at(&b.rig, b.path, 250, 1024).exact);
    cr_assert(rig_byte_at(&b.rig, b.path, 300, 0).exact);
    cr_assert(rig_byte_at(&b.rig, b.path, 400, 512).exact, "written again");
    cr_assert_eq(rig_gap_count(&b.rig, b.path, 300), 3, "both, and what was never seen");
    rig_end(&b.rig);
}

Test(audit, a_wrong_baseline_is_contradicted_and_a_right_one_is_not) {
    struct bench b;
    bench_start(&b);
    rig_floor_zero(&b.rig, b.path, 0, SIZE);
    put_audit(&b, 300, 3, 1024, (uint8_t[]){8, 0}, 2);
    struct audited_entry found = judge_all(&b);
    cr_assert_eq(found.mismatches, 1);
    cr_assert_eq(found.blocks, 1);
    struct rig_byte byte = rig_byte_at(&b.rig, b.path, 100, 1024);
    cr_assert_not(byte.exact);
    cr_assert_eq(byte.reason, GAP_CONTRADICTED);
    cr_assert_eq(rig_gap_count(&b.rig, b.path, 1000), 1);
    cr_assert(rig_byte_at(&b.rig, b.path, 100, 1536).exact);
    /* A newer one hides the older one and what was said of it. */
    struct floor floor = {.stamp = {0, 0, 2, 0}, .kind = FLOOR_ZERO, .size_bytes = SIZE};
    rig_ok(&b.rig, index_put_floor(rig_writer(&b.rig), b.path, &floor, &b.rig.err));
    rig_commit(&b.rig);
    cr_assert_eq(rig_gap_count(&b.rig, b.path, 1000), 0);
    rig_end(&b.rig);
}

/* What a device without LBPRZ returns after an UNMAP is known once it was read. */
Test(audit, a_read_proves_the_best_guess_of_a_gap) {
    struct bench b;
    bench_start(&b);
    rig_fill(&b.rig, b.path, (struct stamp){200, 1, 5, 1}, 0, 0, 2048, 0x33);
    rig_gap(&b.rig, b.path, &(struct stamp){250, 1, 5, 2}, 0, 2048, GAP_UNKNOWN_CONTENT);
    put_audit(&b, 300, 3, 0, (uint8_t[]){0x33, 0, 0x33}, 3);
    struct audited_entry found = judge_all(&b);
    cr_assert_eq(found.proven, 2);
    cr_assert_eq(found.skipped, 1);
    cr_assert_eq(found.mismatches, 0);
    cr_assert_not(rig_byte_at(&b.rig, b.path, 299, 0).exact, "only from the READ on");
    cr_assert(rig_byte_at(&b.rig, b.path, 300, 0).exact);
    cr_assert_eq(rig_byte_at(&b.rig, b.path, 300, 0).value, 0x33);
    cr_assert_not(rig_byte_at(&b.rig, b.path, 300, 512).exact);
    cr_assert(rig_byte_at(&b.rig, b.path, 300, 1024).exact);
    rig_end(&b.rig);
}

Test(audit, what_was_never_seen_and_reads_as_zeros_is_proven) {
    struct bench b;
    bench_start(&b);
    put_audit(&b, 300, 3, 0, (uint8_t[]){0, 1}, 2);
    cr_assert_eq(judge_all(&b).proven, 1);
    cr_assert(rig_byte_at(&b.rig, b.path, 300, 0).exact);
    cr_assert_not(rig_byte_at(&b.rig, b.path, 299, 0).exact);
    cr_assert_not(rig_byte_at(&b.rig, b.path, 300, 512).exact);
    rig_end(&b.rig);
}

/* A loss that the monitor told of after the READ may have happened after it, too. */
Test(audit, a_gap_that_was_told_of_later_is_not_ended) {
    struct bench b;
    bench_start(&b);
    rig_fill(&b.rig, b.path, (struct stamp){200, 1, 5, 1}, 0, 0, 512, 3);
    rig_gap(&b.rig, b.path, &(struct stamp){250, 1, 5, 9}, 0, 512, GAP_STREAM_HOLE);
    put_audit(&b, 300, 3, 0, (uint8_t[]){3}, 1);
    cr_assert_eq(judge_all(&b).skipped, 1);
    cr_assert_not(rig_byte_at(&b.rig, b.path, 300, 0).exact);
    rig_end(&b.rig);
}

Test(audit, what_changed_while_it_was_read_is_left_out) {
    struct bench b;
    bench_start(&b);
    rig_fill(&b.rig, b.path, (struct stamp){200, 1, 5, 1}, 0, 0, 2048, 3);
    rig_fill(&b.rig, b.path, (struct stamp){295, 1, 5, 2}, 0, 0, 512, 4);     /* in its time */
    rig_fill(&b.rig, b.path, (struct stamp){310, 1, 5, 4}, 299, 512, 512, 5); /* in flight */
    rig_gap(&b.rig, b.path, &(struct stamp){292, 1, 5, 1}, 1024, 512, GAP_FAILED_WRITE);
    put_audit(&b, 300, 3, 0, (uint8_t[]){9, 9, 3, 9}, 4);
    struct audited_entry found = judge_all(&b);
    cr_assert_eq(found.skipped, 3);
    cr_assert_eq(found.mismatches, 1, "the fourth did not change");
    rig_end(&b.rig);
}

/* Another monitor's update within the error of both clocks may have come while it was read. */
Test(audit, the_clocks_error_leaves_blocks_out) {
    struct bench b;
    bench_start(&b);
    rig_path(&b.rig, 2, 5, "iqn.a", "naa.1", SIZE, 100);
    rig_clock(&b.rig, 2, 5, 100, 320, 1000, 20);
    rig_fill(&b.rig, b.path, (struct stamp){200, 1, 5, 1}, 0, 0, 2048, 3);
    rig_fill(&b.rig, b.path, (struct stamp){315, 2, 5, 2}, 0, 0, 512, 4);
    rig_fill(&b.rig, b.path, (struct stamp){275, 2, 5, 2}, 0, 512, 512, 4);
    put_audit(&b, 300, 3, 0, (uint8_t[]){3, 4, 3}, 3);
    rig_clock(&b.rig, 2, 5, 100, 319, 1000, 20);
    rig_commit(&b.rig);
    rig_ok(&b.rig, settle(b.rig.store, UINT64_MAX, &b.rig.err));
    cr_assert_eq(audits_waiting(&b), 1, "not before the watermark has passed that, too");
    rig_clock(&b.rig, 2, 5, 100, 320, 1000, 20);
    struct audited_entry found = judge_all(&b);
    cr_assert_eq(found.skipped, 2);
    cr_assert_eq(found.blocks, 1);
    rig_end(&b.rig);
}

Test(audit, a_read_behind_the_last_promise_of_a_dead_stream_proves_nothing) {
    struct bench b;
    bench_start(&b);
    rig_fill(&b.rig, b.path, (struct stamp){200, 1, 5, 1}, 0, 0, 512, 3);
    rig_clock(&b.rig, 1, 5, 100, 250, 1000, 0);
    put_audit(&b, 300, 3, 0, (uint8_t[]){4}, 1);
    rig_commit(&b.rig);
    rig_ok(&b.rig, settle(b.rig.store, UINT64_MAX, &b.rig.err));
    cr_assert_eq(audits_waiting(&b), 1, "its promise may still come");
    rig_clock(&b.rig, 1, 6, 400, 1000, 1000, 0);
    rig_path(&b.rig, 1, 6, "iqn.a", "naa.1", SIZE, 400);
    struct audited_entry found = judge_all(&b);
    cr_assert_eq(found.skipped, 1);
    cr_assert_eq(found.mismatches, 0);
    cr_assert_eq(audits_waiting(&b), 0);
    rig_end(&b.rig);
}

/* What was copied from content that turns out to be wrong is in doubt with it. */
Test(audit, a_contradiction_reaches_what_was_derived) {
    struct bench b;
    bench_start(&b);
    rig_fill(&b.rig, b.path, (struct stamp){200, 1, 5, 1}, 0, 0, 512, 3);
    struct update_record u = {.time_ns = 250,
                              .path = b.path,
                              .offset_bytes = MIB,
                              .length_bytes = 512,
                              .op = UPDATE_COPY,
                              .source_path = b.path,
                              .source_from_ns = 240,
                              .source_until_ns = 250};
    struct stamp stamp = {250, 1, 5, 2};
    rig_ok(&b.rig, index_put_update(rig_writer(&b.rig), &stamp, &u, NULL, &b.rig.err));
    judge_all(&b);
    cr_assert(rig_byte_at(&b.rig, b.path, 250, MIB).exact);
    put_audit(&b, 300, 3, 0, (uint8_t[]){4}, 1);
    cr_assert_eq(judge_all(&b).mismatches, 1);
    rig_ok(&b.rig, settle(b.rig.store, UINT64_MAX, &b.rig.err));
    cr_assert_not(rig_byte_at(&b.rig, b.path, 250, MIB).exact);
    cr_assert_eq(rig_byte_at(&b.rig, b.path, 250, MIB).reason, 0);
    rig_end(&b.rig);
}

/* Blocks of other sizes than chunks have, and an end beyond the volume. */
Test(audit, blocks_across_chunks_are_left_out) {
    struct bench b;
    bench_start(&b);
    uint8_t crcs[12] = {0};
    struct audit_record audit = {.time_ns = 300,
                                 .issued_ns = 290,
                                 .path = b.path,
                                 .offset_bytes = MIB - 5000,
                                 .block_bytes = 4000,
                                 .blocks = 3,
                                 .kind = AUDIT_BLOCKSUM,
                                 .sums = crcs};
    struct stamp stamp = {300, 1, 5, 3};
    rig_ok(&b.rig, index_put_audit(rig_writer(&b.rig), &stamp, &audit, &b.rig.err));
    struct audited_entry found = judge_all(&b);
    cr_assert_eq(found.skipped, 3);
    rig_end(&b.rig);
}

/* Of an older monitor. */
Test(audit, sums_of_another_kind_say_nothing) {
    struct bench b;
    bench_start(&b);
    uint8_t sums[4] = {0};
    struct audit_record audit = {.time_ns = 300,
                                 .issued_ns = 290,
                                 .path = b.path,
                                 .block_bytes = BLOCK,
                                 .blocks = 1,
                                 .kind = AUDIT_CRC32C,
                                 .sums = sums};
    struct stamp stamp = {300, 1, 5, 3};
    rig_ok(&b.rig, index_put_audit(rig_writer(&b.rig), &stamp, &audit, &b.rig.err));
    struct audited_entry found = judge_all(&b);
    cr_assert_eq(found.skipped, 1);
    cr_assert_eq(found.mismatches, 0);
    rig_end(&b.rig);
}
