#include "common/crc32c.h"
#include "proto/limits.h"
#include "proto/message.h"
#include "tap/publish/decode.h"
#include "tap/publish/publisher.h"
#include "tap/publish/stamper.h"
#include "tap/scsi/payload.h"

#include <criterion/criterion.h>
#include <string.h>

enum { MAX_RECORDS = 64 };

/* Keeps what was published, decoded; payload bytes are compared by their checksums. */
struct recorder {
    struct record records[MAX_RECORDS];
    size_t count;
    size_t batches;
};

static void record_batch(void *context, struct batch *batch) {
    struct recorder *r = context;
    struct message m;
    struct cursor body;
    struct error err = {0};
    cr_assert_eq(message_decode(batch->frame.data, batch->frame.length, &m, &body, &err), 0, "%s",
                 err.text);
    cr_assert_eq(m.kind, MESSAGE_BATCH);
    cr_assert_eq(m.batch.monitor, 11);
    cr_assert_eq(m.batch.stream, 22);
    for (uint32_t i = 0; i < m.batch.records; i++) {
        cr_assert_lt(r->count, MAX_RECORDS);
        struct record *record = &r->records[r->count++];
        cr_assert_eq(record_decode(&body, record, &err), 0, "%s", err.text);
        if (record->type == RECORD_PAYLOAD)
            cr_assert(record_payload_ok(&record->payload));
    }
    cr_assert_eq(cursor_left(&body), 0);
    r->batches++;
}

struct fixture {
    struct recorder recorder;
    struct batch_pool *batches;
    struct payload_pool *payloads;
    struct publisher *publisher;
    struct sink *sink;
    struct sink_path path;
};

static void fixture_open(struct fixture *f) {
    *f = (struct fixture){.batches = batch_pool_create(4),
                          .payloads = payload_pool_create(64 << 20)};
    struct outlet outlet = {.send = record_batch, .context = &f->recorder};
    f->publisher = publisher_create(11, 22, f->batches, &outlet, 1);
    f->sink = publisher_sink(f->publisher);
    f->path = (struct sink_path){.protocol = PATH_ISCSI, .block_bytes = 512, .target = "iqn.x"};
    f->path.id = record_path_id(PATH_ISCSI, "iqn.x", 5, 0);
}

static void fixture_close(struct fixture *f) {
    publisher_destroy(f->publisher);
    batch_pool_destroy(f->batches);
    payload_pool_destroy(f->payloads);
}

static struct payload *filled(struct fixture *f, size_t bytes, uint8_t first) {
    struct payload *p = payload_create(f->payloads, bytes);
    AUTO_FREE uint8_t *data = malloc(bytes);
    for (size_t i = 0; i < bytes; i++)
        data[i] = first == 0 ? 0 : (uint8_t)(first + i / 512);
    cr_assert(payload_write(p, 0, data, bytes));
    return p;
}

static void write_blocks(struct fixture *f, uint64_t time_ns, uint64_t lba, struct payload *data) {
    struct sink_update update = {.path = &f->path,
                                 .time_ns = time_ns,
                                 .lba = lba,
                                 .blocks = payload_length(data) / 512,
                                 .block_bytes = 512,
                                 .op = UPDATE_WRITE,
                                 .opcode = 0x2a,
                                 .applied = true,
                                 .data = data};
    f->sink->update(f->sink, &update);
    payload_destroy(data);
}

Test(stamper, times_may_step_back_but_not_below_a_promise) {
    struct stamper s = {0};
    cr_assert_eq(stamper_time(&s, 100), 100);
    cr_assert_eq(stamper_time(&s, 90), 90, "given late");
    cr_assert_eq(s.last_ns, 100);
    cr_assert_eq(stamper_promise(&s, 150), 150);
    cr_assert_eq(stamper_time(&s, 120), 151);
    cr_assert_eq(stamper_time(&s, 200), 200);
    cr_assert_eq(stamper_promise(&s, 140), 150, "a promise stands");
}

Test(publisher, an_update_and_its_payload_share_a_mark) {
    struct fixture f;
    fixture_open(&f);
    f.sink->path(f.sink, &f.path, 10);
    write_blocks(&f, 20, 8, filled(&f, 4096, 1));
    publisher_flush(f.publisher);
    const struct record *r = f.recorder.records;
    cr_assert_eq(f.recorder.count, 3);
    cr_assert_eq(r[0].type, RECORD_PATH);
    cr_assert_eq(r[0].order, 0);
    cr_assert_eq(r[1].type, RECORD_UPDATE);
    cr_assert_eq(r[1].order, 1);
    cr_assert_eq(r[1].update.offset_bytes, 4096);
    cr_assert_eq(r[1].update.length_bytes, 4096);
    cr_assert_eq(r[2].type, RECORD_PAYLOAD);
    cr_assert_eq(r[2].order, 1);
    cr_assert_eq(r[2].payload.crc32c, r[1].update.payload_crc32c);
    fixture_close(&f);
}

Test(publisher, zeros_travel_without_bytes) {
    struct fixture f;
    fixture_open(&f);
    write_blocks(&f, 20, 0, filled(&f, 4096, 0));
    publisher_flush(f.publisher);
    cr_assert_eq(f.recorder.count, 1);
    cr_assert_eq(f.recorder.records[0].update.op, UPDATE_ZERO);
    cr_assert_eq(f.recorder.records[0].update.length_bytes, 4096);
    fixture_close(&f);
}

Test(publisher, a_large_write_is_split_at_one_time) {
    struct fixture f;
    fixture_open(&f);
    size_t bytes = 2 * LIMIT_UPDATE_PAYLOAD_BYTES + 512;
    write_blocks(&f, 20, 16, filled(&f, bytes, 3));
    publisher_flush(f.publisher);
    uint64_t expected = 16 * 512;
    uint64_t total = 0;
    for (size_t i = 0; i < f.recorder.count; i++) {
        const struct record *r = &f.recorder.records[i];
        if (r->type != RECORD_UPDATE)
            continue;
        cr_assert_eq(r->update.time_ns, 20);
        cr_assert_eq(r->update.offset_bytes, expected);
        expected += r->update.length_bytes;
        total += r->update.length_bytes;
    }
    cr_assert_eq(total, bytes);
    cr_assert_eq(publisher_next_order(f.publisher), 3);
    cr_assert_gt(f.recorder.batches, 1, "a batch is closed when it is full");
    fixture_close(&f);
}

Test(publisher, a_gap_without_a_path_concerns_every_path) {
    struct fixture f;
    fixture_open(&f);
    struct sink_path other = f.path;
    other.lun = UINT64_C(1) << 48;
    other.id = record_path_id(PATH_ISCSI, "iqn.x", 5, other.lun);
    f.sink->path(f.sink, &f.path, 10);
    f.sink->path(f.sink, &other, 10);
    f.sink->path(f.sink, &other, 11);
    f.sink->gap(f.sink, &(struct sink_gap){.time_ns = 30,
                                           .length_bytes = GAP_TO_END,
                                           .reason = GAP_CAPTURE_LOSS,
                                           .text = "5 packets"});
    publisher_flush(f.publisher);
    cr_assert_eq(publisher_gaps(f.publisher), 2);
    cr_assert_eq(f.recorder.records[3].gap.path, f.path.id);
    cr_assert_eq(f.recorder.records[4].gap.path, other.id);
    fixture_close(&f);
}

Test(publisher, a_failed_write_is_not_sent) {
    struct fixture f;
    fixture_open(&f);
    f.sink->update(f.sink, &(struct sink_update){.path = &f.path, .op = UPDATE_WRITE, .status = 2});
    publisher_end(f.publisher, 99, &(struct publisher_vitals){0});
    cr_assert_eq(f.recorder.count, 1);
    cr_assert_eq(f.recorder.records[0].type, RECORD_FRONTIER);
    cr_assert_eq(f.recorder.records[0].frontier.flags, FRONTIER_END);
    cr_assert_eq(f.recorder.records[0].frontier.time_ns, 99);
    fixture_close(&f);
}

Test(publisher, a_heartbeat_tells_how_good_the_clock_is) {
    struct fixture f;
    fixture_open(&f);
    publisher_heartbeat(f.publisher, 5, &(struct publisher_vitals){.clock_error_ns = 250000});
    publisher_end(f.publisher, 9, &(struct publisher_vitals){.clock_error_ns = 251000});
    cr_assert_eq(f.recorder.count, 2);
    cr_assert_eq(f.recorder.records[0].frontier.clock_error_ns, 250000);
    cr_assert_eq(f.recorder.records[1].frontier.clock_error_ns, 251000);
    fixture_close(&f);
}

static void lose(struct fixture *f, uint64_t since_ns) {
    f->sink->gap(f->sink, &(struct sink_gap){.path = &f->path,
                                             .time_ns = since_ns,
                                             .length_bytes = GAP_TO_END,
                                             .reason = GAP_STREAM_HOLE,
                                             .text = "lost"});
}

static void expect_gap(const struct record *r, uint64_t time_ns, uint64_t offset, uint64_t length) {
    cr_assert_eq(r->type, RECORD_GAP);
    cr_assert_eq(r->gap.time_ns, time_ns);
    cr_assert_eq(r->gap.offset_bytes, offset);
    cr_assert_eq(r->gap.length_bytes, length);
}

Test(publisher, updates_of_the_time_of_a_loss_do_not_end_the_gap) {
    struct fixture f;
    fixture_open(&f);
    f.sink->path(f.sink, &f.path, 10);
    publisher_heartbeat(f.publisher, 15, &(struct publisher_vitals){0});
    write_blocks(&f, 20, 1, filled(&f, 512, 0));
    write_blocks(&f, 40, 2, filled(&f, 512, 0));
    lose(&f, 30);
    write_blocks(&f, 35, 3, filled(&f, 512, 0)); /* held back until now */
    write_blocks(&f, 50, 4, filled(&f, 512, 0));
    publisher_flush(f.publisher);
    const struct record *r = f.recorder.records;
    cr_assert_eq(f.recorder.count, 9);
    expect_gap(&r[4], 30, 0, GAP_TO_END);
    expect_gap(&r[5], 40, 1024, 512);
    cr_assert_eq(r[6].update.time_ns, 35, "not moved");
    expect_gap(&r[7], 35, 1536, 512);
    cr_assert_eq(r[8].type, RECORD_UPDATE, "behind the loss all is well again");
    fixture_close(&f);
}

Test(publisher, a_gap_reaches_back_to_the_last_promise_only) {
    struct fixture f;
    fixture_open(&f);
    f.sink->path(f.sink, &f.path, 10);
    write_blocks(&f, 20, 1, filled(&f, 512, 0));
    publisher_heartbeat(f.publisher, 30, &(struct publisher_vitals){0});
    lose(&f, 5);
    publisher_flush(f.publisher);
    cr_assert_eq(f.recorder.count, 4);
    expect_gap(&f.recorder.records[3], 31, 0, GAP_TO_END);
    fixture_close(&f);
}

Test(publisher, no_promise_was_made_for_a_path_that_appears_behind_it) {
    struct fixture f;
    fixture_open(&f);
    publisher_heartbeat(f.publisher, 30, &(struct publisher_vitals){0});
    f.sink->path(f.sink, &f.path, 40);
    lose(&f, 5);
    publisher_flush(f.publisher);
    expect_gap(&f.recorder.records[2], 5, 0, GAP_TO_END);
    fixture_close(&f);
}

Test(publisher, what_is_combined_keeps_its_zeros) {
    struct fixture f;
    fixture_open(&f);
    struct payload *data = filled(&f, LIMIT_UPDATE_PAYLOAD_BYTES + 512, 0);
    struct sink_update update = {.path = &f.path,
                                 .time_ns = 20,
                                 .lba = 8,
                                 .blocks = payload_length(data) / 512,
                                 .block_bytes = 512,
                                 .op = UPDATE_XOR,
                                 .applied = true,
                                 .data = data};
    f.sink->update(f.sink, &update);
    publisher_flush(f.publisher);
    const struct record *r = f.recorder.records;
    cr_assert_eq(f.recorder.count, 4);
    cr_assert(r[0].update.op == UPDATE_XOR && r[2].update.op == UPDATE_XOR);
    cr_assert_eq(r[0].update.payload_bytes, LIMIT_UPDATE_PAYLOAD_BYTES);
    cr_assert(r[2].update.payload_bytes == 512 && r[2].order == 1);
    cr_assert_eq(r[2].update.offset_bytes, 8 * 512 + LIMIT_UPDATE_PAYLOAD_BYTES);
    payload_destroy(data);
    fixture_close(&f);
}

static struct sink_update copy_of(const struct fixture *f, const struct sink_path *source,
                                  uint64_t blocks) {
    return (struct sink_update){.path = &f->path,
                                .time_ns = 20,
                                .issued_ns = 15,
                                .lba = 8,
                                .blocks = blocks,
                                .block_bytes = 512,
                                .op = UPDATE_COPY,
                                .opcode = 0x83,
                                .applied = true,
                                .source = source,
                                .source_lba = 3,
                                .source_from_ns = 15,
                                .source_until_ns = 20};
}

Test(publisher, a_copy_is_split_like_a_write) {
    struct fixture f;
    fixture_open(&f);
    struct sink_path source = f.path;
    source.id = 77;
    source.block_bytes = 4096;
    f.sink->path(f.sink, &f.path, 10);
    struct sink_update update = copy_of(&f, &source, 2 * 2048 + 1);
    f.sink->update(f.sink, &update);
    lose(&f, 19);
    publisher_flush(f.publisher);
    const struct record *r = f.recorder.records;
    for (size_t i = 0; i < 3; i++) {
        const struct update_record *u = &r[i + 1].update;
        cr_assert_eq(u->op, UPDATE_COPY);
        cr_assert_eq(u->offset_bytes, 8 * 512 + i * LIMIT_UPDATE_PAYLOAD_BYTES);
        cr_assert_eq(u->length_bytes, i < 2 ? LIMIT_UPDATE_PAYLOAD_BYTES : 512);
        cr_assert(u->source_path == 77 && u->payload_bytes == 0);
        cr_assert_eq(u->source_offset_bytes, 3 * 4096 + i * LIMIT_UPDATE_PAYLOAD_BYTES);
        cr_assert(u->source_from_ns == 15 && u->source_until_ns == 20 && u->time_ns == 20);
    }
    expect_gap(&r[4], 19, 0, GAP_TO_END);
    expect_gap(&r[5], 20, 8 * 512, (2 * 2048 + 1) * 512);
    fixture_close(&f);
}

Test(publisher, an_audit_takes_a_mark) {
    struct fixture f;
    fixture_open(&f);
    const uint32_t sums[2] = {0x11223344, 0xaabbccdd};
    f.sink->audit(f.sink, &(struct sink_audit){.path = &f.path,
                                               .time_ns = 20,
                                               .issued_ns = 15,
                                               .lba = 8,
                                               .block_bytes = 512,
                                               .blocks = 2,
                                               .sums = sums});
    publisher_flush(f.publisher);
    cr_assert_eq(f.recorder.count, 1);
    const struct record *r = &f.recorder.records[0];
    cr_assert_eq(r->type, RECORD_AUDIT);
    cr_assert(r->audit.time_ns == 20 && r->audit.issued_ns == 15 && r->audit.path == f.path.id);
    cr_assert(r->audit.offset_bytes == 4096 && r->audit.blocks == 2);
    cr_assert_eq(publisher_next_order(f.publisher), 1);
    fixture_close(&f);
}

/* What --decode prints of a copy and of a READ. */
Test(decode, lines_of_copies_and_audits) {
    struct fixture f;
    char *text = NULL;
    size_t bytes = 0;
    fixture_open(&f);
    FILE *out = open_memstream(&text, &bytes);
    struct decode_sink *d = decode_create(out);
    struct sink *sink = decode_sink(d);
    struct sink_path source = f.path;
    source.lun = UINT64_C(5) << 48;
    struct sink_update update = copy_of(&f, &source, 4);
    const uint32_t sum = 0x0badcafe;
    sink->update(sink, &update);
    sink->audit(sink, &(struct sink_audit){.path = &f.path,
                                           .time_ns = 20,
                                           .lba = 8,
                                           .block_bytes = 512,
                                           .blocks = 1,
                                           .sums = &sum});
    decode_destroy(d);
    fclose(out);
    cr_expect_not_null(strstr(text, "\"op\":\"copy\""));
    cr_expect_not_null(strstr(text, "\"source_volume\":\"iqn.x/5\",\"source_lba\":3"), "%s", text);
    cr_expect_not_null(strstr(text, "\"op\":\"audit\""));
    cr_expect_not_null(strstr(text, "\"sums\":[\"0badcafe\"]"), "%s", text);
    free(text);
    fixture_close(&f);
}
