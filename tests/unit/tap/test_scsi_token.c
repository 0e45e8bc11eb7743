/* Tokens: POPULATE TOKEN, RECEIVE ROD TOKEN INFORMATION, WRITE USING TOKEN. */
#include "tap/scsi/token.h"

#include "scsi_recorder.h"

#include <criterion/criterion.h>
#include <string.h>

static const uint8_t zeros_token[TOKEN_BYTES] = {0xff, 0xff, 0x00, 0x01};

static void make_token(uint8_t token[TOKEN_BYTES], uint8_t number) {
    memset(token, number, TOKEN_BYTES);
    put_be(token, 0x00800000, 4);
}

struct stretch {
    uint64_t lba;
    uint32_t blocks;
};

static size_t put_ranges(uint8_t *at, const struct stretch *ranges, size_t count) {
    put_be(at, 16 * count, 2);
    for (size_t i = 0; i < count; i++) {
        put_be(at + 2 + 16 * i, ranges[i].lba, 8);
        put_be(at + 10 + 16 * i, ranges[i].blocks, 4);
    }
    return 2 + 16 * count;
}

static struct exchange *populate(struct scsi_world *w, struct nexus *n, uint8_t id,
                                 const struct stretch *ranges, size_t count) {
    const uint8_t cdb[16] = {0x83, 0x10, 0, 0, 0, 0, 0, 0, 0, id};
    uint8_t list[16 + 256] = {0};
    size_t bytes = 14 + put_ranges(list + 14, ranges, count);
    struct exchange *x = scsi_send(w, n, cdb, sizeof cdb, (uint32_t)bytes, 0);
    tracker_data_out(x, 0, list, bytes);
    return x;
}

/* What came of the list `id`. */
static void inform(struct scsi_world *w, struct nexus *n, uint8_t id, uint8_t action,
                   uint8_t status, uint64_t blocks, const uint8_t *token) {
    const uint8_t cdb[16] = {0x84, 0x07, 0, 0, 0, id};
    uint8_t answer[32 + 4 + 2 + TOKEN_BYTES] = {0};
    answer[4] = action;
    answer[5] = status;
    answer[15] = 0xf1;
    put_be(answer + 16, blocks, 8);
    if (token != NULL) {
        put_be(answer + 32, 2 + TOKEN_BYTES, 4);
        memcpy(answer + 38, token, TOKEN_BYTES);
    }
    scsi_ask(w, n, cdb, sizeof cdb, answer, sizeof answer);
}

static void use(struct scsi_world *w, struct nexus *n, uint8_t id, const uint8_t *token,
                uint64_t offset, const struct stretch *ranges, size_t count) {
    const uint8_t cdb[16] = {0x83, 0x11, 0, 0, 0, 0, 0, 0, 0, id};
    uint8_t list[536 + 256] = {0};
    put_be(list + 8, offset, 8);
    memcpy(list + 16, token, TOKEN_BYTES);
    size_t bytes = 534 + put_ranges(list + 534, ranges, count);
    scsi_do(w, n, cdb, sizeof cdb, list, bytes);
}

/* A token for blocks 100 to 109 and 200 to 209. */
static void learn(struct scsi_world *w, uint8_t token[TOKEN_BYTES]) {
    make_token(token, 7);
    const struct stretch ranges[] = {{100, 10}, {200, 10}};
    scsi_good(w, populate(w, w->nexus, 1, ranges, 2));
    inform(w, w->nexus, 1, 0x10, 0x01, 20, token);
}

Test(scsi_token, known_content_is_copied) {
    struct scsi_world w = scsi_world_disk();
    uint8_t token[TOKEN_BYTES];
    learn(&w, token);
    uint64_t until_ns = w.now_ns - 2;
    const struct stretch to[] = {{1000, 8}, {2000, 4}};
    use(&w, w.nexus, 2, token, 0, to, 2);
    cr_assert_eq(UPDATES(w), 3);
    cr_assert_eq(GAPS(w), 0);
    const struct {
        uint64_t lba, blocks, source;
    } want[] = {{1000, 8, 100}, {2000, 2, 108}, {2002, 2, 200}};
    for (size_t i = 0; i < 3; i++) {
        const struct recorded *e = recorded_update(w.recorder, i);
        cr_assert_eq(e->op, UPDATE_COPY);
        cr_assert(e->lba == want[i].lba && e->blocks == want[i].blocks);
        cr_assert_eq(e->source_lba, want[i].source);
        cr_assert_eq(e->source_until_ns, until_ns, "when the token was made, not used");
        cr_assert_eq(e->source_from_ns, until_ns - 1);
    }
    const struct stretch tail[] = {{3000, 2}};
    use(&w, w.nexus, 3, token, 18, tail, 1);
    cr_assert_eq(recorded_update(w.recorder, 3)->source_lba, 208);
    scsi_world_end(&w);
}

/* A write that was in flight when the token was made, and came late. */
Test(scsi_token, source_that_was_being_written) {
    struct scsi_world w = scsi_world_disk();
    uint8_t token[TOKEN_BYTES];
    learn(&w, token);
    uint64_t made_ns = w.now_ns - 2;
    const struct stretch to[] = {{1000, 8}};
    w.now_ns = made_ns + 100;
    struct exchange *behind = scsi_write(&w, w.nexus, 104, 2, 1);
    use(&w, w.nexus, 2, token, 0, to, 1);
    cr_assert_eq(GAPS(w), 0, "it began when the token had been made");
    w.now_ns = made_ns - 2;
    struct exchange *late = scsi_write(&w, w.nexus, 104, 2, 1);
    expect_gap(w.recorder, 0, 1000, 8, GAP_OVERLAP);
    w.now_ns = made_ns + 200;
    const struct stretch again[] = {{2000, 8}};
    use(&w, w.nexus, 3, token, 0, again, 1);
    expect_gap(w.recorder, 1, 2000, 8, GAP_OVERLAP);
    scsi_good(&w, late);
    scsi_good(&w, behind);
    scsi_world_end(&w);
}

Test(scsi_token, more_than_the_token_stands_for) {
    struct scsi_world w = scsi_world_disk();
    uint8_t token[TOKEN_BYTES];
    learn(&w, token);
    const struct stretch to[] = {{1000, 8}};
    use(&w, w.nexus, 2, token, 16, to, 1);
    cr_assert_eq(UPDATES(w), 1);
    cr_assert_eq(recorded_update(w.recorder, 0)->blocks, 4);
    expect_gap(w.recorder, 0, 1004, 4, GAP_UNKNOWN_CONTENT);
    scsi_world_end(&w);
}

Test(scsi_token, zeros) {
    struct scsi_world w = scsi_world_disk();
    const struct stretch to[] = {{1000, 8}, {2000, 0}, {3000, 1}};
    use(&w, w.nexus, 2, zeros_token, 0, to, 3);
    cr_assert_eq(UPDATES(w), 2);
    cr_assert_eq(recorded_update(w.recorder, 1)->op, UPDATE_ZERO);
    cr_assert_eq(recorded_update(w.recorder, 1)->lba, 3000);
    cr_assert_eq(GAPS(w), 0);
    scsi_world_end(&w);
}

Test(scsi_token, unknown_tokens_are_gaps) {
    struct scsi_world w = scsi_world_disk();
    uint8_t token[TOKEN_BYTES];
    const struct stretch to[] = {{1000, 8}};
    learn(&w, token);
    token[100]++;
    use(&w, w.nexus, 2, token, 0, to, 1);
    expect_gap(w.recorder, 0, 1000, 8, GAP_UNKNOWN_CONTENT);
    const struct stretch from[] = {{100, 10}};
    scsi_good(&w, populate(&w, w.nexus, 1, from, 1));
    make_token(token, 8);
    put_be(token, 0x00010000, 4); /* access upon reference: its content is that of the use */
    inform(&w, w.nexus, 1, 0x10, 0x01, 10, token);
    use(&w, w.nexus, 2, token, 0, to, 1);
    scsi_good(&w, populate(&w, w.nexus, 1, from, 1));
    make_token(token, 9);
    inform(&w, w.nexus, 1, 0x10, 0x03, 10, token);
    use(&w, w.nexus, 2, token, 0, to, 1);
    scsi_good(&w, populate(&w, w.nexus, 1, from, 1));
    inform(&w, w.nexus, 5, 0x10, 0x01, 10, token); /* another list */
    use(&w, w.nexus, 2, token, 0, to, 1);
    cr_assert_eq(GAPS(w), 4);
    cr_assert_eq(UPDATES(w), 0);
    scsi_world_end(&w);
}

Test(scsi_token, source_that_is_being_written) {
    struct scsi_world w = scsi_world_disk();
    uint8_t token[TOKEN_BYTES];
    struct exchange *write = scsi_write(&w, w.nexus, 204, 1, 1);
    learn(&w, token);
    scsi_good(&w, write);
    const struct stretch to[] = {{1000, 8}};
    use(&w, w.nexus, 2, token, 0, to, 1);
    expect_gap(w.recorder, 0, 1000, 8, GAP_UNKNOWN_CONTENT);
    scsi_world_end(&w);
}

Test(scsi_token, partly_made) {
    struct scsi_world w = scsi_world_disk();
    uint8_t token[TOKEN_BYTES];
    make_token(token, 7);
    const struct stretch from[] = {{100, 10}};
    scsi_good(&w, populate(&w, w.nexus, 1, from, 1));
    inform(&w, w.nexus, 1, 0x10, 0x01, 4, token);
    const struct stretch to[] = {{1000, 8}};
    use(&w, w.nexus, 2, token, 0, to, 1);
    cr_assert_eq(recorded_update(w.recorder, 0)->blocks, 4);
    expect_gap(w.recorder, 0, 1004, 4, GAP_UNKNOWN_CONTENT);
    scsi_world_end(&w);
}

/* GOOD is not the last word: the copy manager can say that it left something out. */
Test(scsi_token, write_that_was_not_complete) {
    struct scsi_world w = scsi_world_disk();
    uint8_t token[TOKEN_BYTES];
    learn(&w, token);
    const struct stretch to[] = {{1000, 8}};
    use(&w, w.nexus, 2, token, 0, to, 1);
    inform(&w, w.nexus, 2, 0x11, 0x12, 0, NULL);
    cr_assert_eq(GAPS(w), 0, "still at it");
    inform(&w, w.nexus, 2, 0x11, 0x01, 8, NULL);
    cr_assert_eq(GAPS(w), 0);
    use(&w, w.nexus, 2, token, 0, to, 1);
    inform(&w, w.nexus, 2, 0x11, 0x01, 7, NULL);
    expect_gap(w.recorder, 0, 1000, 8, GAP_UNKNOWN_CONTENT);
    use(&w, w.nexus, 2, token, 0, to, 1);
    inform(&w, w.nexus, 2, 0x11, 0x04, 8, NULL);
    expect_gap(w.recorder, 1, 1000, 8, GAP_UNKNOWN_CONTENT);
    scsi_world_end(&w);
}

Test(scsi_token, write_in_the_background) {
    struct scsi_world w = scsi_world_disk();
    const uint8_t cdb[16] = {0x83, 0x11, 0, 0, 0, 0, 0, 0, 0, 2};
    const struct stretch to[] = {{1000, 8}};
    uint8_t list[536 + 16] = {0, 0, 0x01};
    memcpy(list + 16, zeros_token, TOKEN_BYTES);
    put_ranges(list + 534, to, 1);
    scsi_do(&w, w.nexus, cdb, sizeof cdb, list, sizeof list);
    expect_gap(w.recorder, 0, 1000, 8, GAP_UNKNOWN_CONTENT);
    scsi_good(&w, scsi_write(&w, w.nexus, 1000, 8, 1));
    inform(&w, w.nexus, 2, 0x11, 0x01, 8, NULL);
    expect_gap(w.recorder, 1, 1000, 8, GAP_UNKNOWN_CONTENT);
    cr_assert_eq(GAPS(w), 2, "it may have gone over what was written meanwhile");
    scsi_world_end(&w);
}

Test(scsi_token, lists_that_are_cut) {
    struct scsi_world w = scsi_world_disk();
    const uint8_t cdb[16] = {0x83, 0x11};
    uint8_t list[536 + 16] = {0};
    const struct stretch to[] = {{1000, 8}};
    memcpy(list + 16, zeros_token, TOKEN_BYTES);
    put_ranges(list + 534, to, 1);
    for (size_t bytes = 1; bytes < sizeof list; bytes += 50) {
        scsi_do(&w, w.nexus, cdb, sizeof cdb, list, bytes);
        expect_whole_gap(w.recorder, 0, GAP_UNKNOWN_CONTENT);
        recorder_forget(w.recorder);
    }
    scsi_world_end(&w);
}

/* List identifiers are those of a session; tokens are anybody's. */
Test(scsi_token, sessions) {
    struct scsi_world w = scsi_world_disk();
    struct nexus *n = tracker_nexus_open(w.tracker, PATH_ISCSI, "iqn.another", "iqn.target");
    uint8_t token[TOKEN_BYTES];
    const struct stretch from[] = {{100, 10}};
    const struct stretch to[] = {{1000, 8}};
    make_token(token, 7);
    scsi_good(&w, populate(&w, n, 1, from, 1));
    inform(&w, w.nexus, 1, 0x10, 0x01, 10, token);
    use(&w, w.nexus, 2, token, 0, to, 1);
    cr_assert_eq(UPDATES(w), 0);
    inform(&w, n, 1, 0x10, 0x01, 10, token);
    use(&w, w.nexus, 2, token, 0, to, 1);
    cr_assert_eq(UPDATES(w), 1);
    scsi_good(&w, populate(&w, n, 1, from, 1));
    tracker_nexus_close(n, 0, NULL, 0);
    n = tracker_nexus_open(w.tracker, PATH_ISCSI, "iqn.another", "iqn.target");
    make_token(token, 8);
    inform(&w, n, 1, 0x10, 0x01, 10, token);
    use(&w, w.nexus, 2, token, 0, to, 1);
    cr_assert_eq(UPDATES(w), 1);
    tracker_nexus_close(n, 0, NULL, 0);
    scsi_world_end(&w);
}

/* The oldest tokens and lists make room for others. */
Test(scsi_token, many) {
    struct scsi_world w = scsi_world_disk();
    uint8_t token[TOKEN_BYTES];
    const struct stretch from[] = {{100, 10}};
    const struct stretch to[] = {{1000, 8}};
    for (uint32_t i = 0; i < 1000; i++) {
        make_token(token, 7);
        put_be(token + 8, i, 4);
        scsi_good(&w, populate(&w, w.nexus, (uint8_t)i, from, 1));
        if (i % 3 == 0)
            inform(&w, w.nexus, (uint8_t)i, 0x10, 0x01, 10, token);
    }
    put_be(token + 8, 999, 4);
    use(&w, w.nexus, 2, token, 0, to, 1);
    cr_assert_eq(UPDATES(w), 1);
    put_be(token + 8, 3, 4);
    use(&w, w.nexus, 2, token, 0, to, 1);
    cr_assert_eq(UPDATES(w), 1);
    scsi_world_end(&w);
}

Test(scsi_token, information) {
    uint8_t answer[32 + 8 + 4 + 2 + TOKEN_BYTES] = {0};
    struct token_information info;
    answer[4] = 0x10;
    answer[5] = 0x01;
    answer[13] = 8; /* sense data lies in between */
    answer[15] = 0x02;
    put_be(answer + 16, 3, 8);
    put_be(answer + 40, 2 + TOKEN_BYTES, 4);
    answer[46] = 0x5a;
    cr_assert(token_information_parse(answer, sizeof answer, &info));
    cr_assert(!info.writes && info.progress == TOKEN_DONE && !info.in_blocks);
    cr_assert(info.transferred == 3 && info.unit_bytes == 1 << 20);
    cr_assert_eq(info.token, answer + 46);
    for (size_t bytes = 0; bytes < sizeof answer; bytes++) {
        bool read = token_information_parse(answer, bytes, &info);
        cr_expect_eq(read, bytes >= 32, "%zu", bytes);
        cr_expect(!read || info.token == NULL);
    }
    answer[4] = 0x01;
    cr_assert_not(token_information_parse(answer, sizeof answer, &info), "an EXTENDED COPY");
}
