#include "proto/message.h"

#include "common/crc32c.h"
#include "proto/limits.h"

#include <string.h>

/* Head: magic "SRWD" | version u16 | kind u16 | length u32 | zero u32. */
static const uint8_t magic[4] = {'S', 'R', 'W', 'D'};
enum { LENGTH_AT = 8, CRC_BYTES = 4, RANGE_BYTES = 16 };

static size_t begin(struct buffer *b, uint16_t kind) {
    size_t start = b->length;
    buffer_put(b, magic, sizeof magic);
    buffer_put_le16(b, MESSAGE_VERSION);
    buffer_put_le16(b, kind);
    buffer_put_zeros(b, 8);
    return start;
}

static void finish(struct buffer *b, size_t start) {
    buffer_patch_le(b, start + LENGTH_AT, b->length - start + CRC_BYTES, 4);
    if (b->failed)
        return;
    buffer_put_le32(b, crc32c(0, b->data + start, b->length - start));
}

static void put_string(struct buffer *b, const char *text, uint16_t bytes) {
    buffer_put_le16(b, bytes);
    buffer_put(b, text, bytes);
}

static void encode_hello(struct buffer *b, const struct message_hello *h) {
    buffer_put_le64(b, h->monitor);
    buffer_put_le64(b, h->stream);
    put_string(b, h->name, h->name_bytes);
    put_string(b, h->software, h->software_bytes);
}

static void encode_welcome(struct buffer *b, const struct message_welcome *w) {
    buffer_put_le64(b, w->incarnation);
    buffer_put_le64(b, w->frontier);
    buffer_put_le64(b, w->credit_bytes);
}

static void encode_ack(struct buffer *b, const struct message_ack *a) {
    buffer_put_le64(b, a->monitor);
    buffer_put_le64(b, a->stream);
    buffer_put_le64(b, a->incarnation);
    buffer_put_le64(b, a->frontier);
    buffer_put_le32(b, a->range_count);
    for (uint32_t i = 0; i < a->range_count; i++) {
        buffer_put_le64(b, a->ranges[i].start);
        buffer_put_le64(b, a->ranges[i].end);
    }
}

static void encode_control(struct buffer *b, const struct message_control *c) {
    buffer_put_le32(b, c->json_bytes);
    buffer_put_le32(b, c->data_bytes);
    buffer_put(b, c->json, c->json_bytes);
    buffer_put(b, c->data, c->data_bytes);
}

void message_encode(struct buffer *b, const struct message *m) {
    size_t start = begin(b, m->kind);
    switch (m->kind) {
    case MESSAGE_HELLO:
        encode_hello(b, &m->hello);
        break;
    case MESSAGE_WELCOME:
        encode_welcome(b, &m->welcome);
        break;
    case MESSAGE_REFUSE:
        put_string(b, m->refuse.text, m->refuse.text_bytes);
        break;
    case MESSAGE_ACK:
        encode_ack(b, &m->ack);
        break;
    case MESSAGE_CONTROL:
    case MESSAGE_CONTROL_REPLY:
        encode_control(b, &m->control);
        break;
    default:
        b->failed = true;
    }
    finish(b, start);
}

/* Batch head: message head | monitor u64 | stream u64 | records u32 | zero u64 | crc32c u32. */
void message_batch_begin(struct buffer *b) {
    begin(b, MESSAGE_BATCH);
    buffer_put_zeros(b, BATCH_HEAD_BYTES - MESSAGE_HEAD_BYTES);
}

void message_batch_finish(struct buffer *b, const struct message_batch *batch) {
    buffer_patch_le(b, LENGTH_AT, b->length, 4);
    buffer_patch_le(b, 16, batch->monitor, 8);
    buffer_patch_le(b, 24, batch->stream, 8);
    buffer_patch_le(b, 32, batch->records, 4);
    if (!b->failed)
        buffer_patch_le(b, BATCH_HEAD_BYTES - CRC_BYTES,
                        crc32c(0, b->data, BATCH_HEAD_BYTES - CRC_BYTES), CRC_BYTES);
}

size_t message_batch_length(const uint8_t *head) {
    struct cursor c = cursor_of(head, BATCH_HEAD_BYTES);
    struct cursor crc = c;
    const uint8_t *mark = cursor_bytes(&c, 4);
    cursor_skip(&crc, BATCH_HEAD_BYTES - CRC_BYTES);
    if (memcmp(mark, magic, sizeof magic) != 0 ||
        crc32c(0, head, BATCH_HEAD_BYTES - CRC_BYTES) != cursor_le32(&crc))
        return 0;
    cursor_skip(&c, 2);
    uint16_t kind = cursor_le16(&c);
    uint32_t length = cursor_le32(&c);
    return kind == MESSAGE_BATCH && length >= BATCH_HEAD_BYTES && length <= LIMIT_BATCH_BYTES
               ? length
               : 0;
}

static int bad(struct error *err, const char *what) {
    return error_set(err, ERR_FORMAT, "malformed message: %s", what);
}

static const char *take_string(struct cursor *c, size_t limit, uint16_t *bytes) {
    *bytes = cursor_le16(c);
    if (*bytes > limit)
        c->failed = true;
    return (const char *)cursor_bytes(c, *bytes);
}

static void decode_hello(struct cursor *c, struct message_hello *h) {
    h->monitor = cursor_le64(c);
    h->stream = cursor_le64(c);
    h->name = take_string(c, LIMIT_NAME_BYTES, &h->name_bytes);
    h->software = take_string(c, LIMIT_NAME_BYTES, &h->software_bytes);
}

static void decode_welcome(struct cursor *c, struct message_welcome *w) {
    w->incarnation = cursor_le64(c);
    w->frontier = cursor_le64(c);
    w->credit_bytes = cursor_le64(c);
}

static void decode_ack(struct cursor *c, struct message_ack *a) {
    a->monitor = cursor_le64(c);
    a->stream = cursor_le64(c);
    a->incarnation = cursor_le64(c);
    a->frontier = cursor_le64(c);
    a->range_count = cursor_le32(c);
    a->ranges = NULL;
    if (a->range_count > LIMIT_ACK_RANGES || cursor_left(c) != (size_t)a->range_count * RANGE_BYTES)
        c->failed = true;
}

static void decode_control(struct cursor *c, struct message_control *control) {
    control->json_bytes = cursor_le32(c);
    control->data_bytes = cursor_le32(c);
    control->json = (const char *)cursor_bytes(c, control->json_bytes);
    control->data = cursor_bytes(c, control->data_bytes);
}

static int decode_body(struct cursor *c, struct message *m, struct error *err) {
    switch (m->kind) {
    case MESSAGE_HELLO:
        decode_hello(c, &m->hello);
        break;
    case MESSAGE_WELCOME:
        decode_welcome(c, &m->welcome);
        break;
    case MESSAGE_REFUSE:
        m->refuse.text = take_string(c, LIMIT_REASON_BYTES, &m->refuse.text_bytes);
        break;
    case MESSAGE_ACK:
        decode_ack(c, &m->ack);
        break;
    case MESSAGE_CONTROL:
    case MESSAGE_CONTROL_REPLY:
        decode_control(c, &m->control);
        break;
    default:
        return bad(err, "its kind is unknown");
    }
    return cursor_ok(c) ? 0 : bad(err, "a field reaches past its end");
}

static int decode_batch(const void *frame, size_t length, struct message_batch *batch,
                        struct cursor *body, struct error *err) {
    struct cursor head = cursor_of(frame, length);
    cursor_skip(&head, MESSAGE_HEAD_BYTES);
    batch->monitor = cursor_le64(&head);
    batch->stream = cursor_le64(&head);
    batch->records = cursor_le32(&head);
    cursor_skip(&head, 8);
    uint32_t crc = cursor_le32(&head);
    if (!cursor_ok(&head) || length > LIMIT_BATCH_BYTES || batch->records > LIMIT_BATCH_RECORDS)
        return bad(err, "a batch of an impossible size");
    if (crc32c(0, frame, BATCH_HEAD_BYTES - CRC_BYTES) != crc)
        return bad(err, "the checksum of a batch does not match");
    *body = head;
    return 0;
}

int message_decode(const void *frame, size_t length, struct message *m, struct cursor *body,
                   struct error *err) {
    struct cursor c = cursor_of(frame, length);
    const uint8_t *mark = cursor_bytes(&c, sizeof magic);
    uint16_t version = cursor_le16(&c);
    m->kind = cursor_le16(&c);
    uint32_t stated = cursor_le32(&c);
    cursor_skip(&c, 4);
    if (!cursor_ok(&c) || memcmp(mark, magic, sizeof magic) != 0)
        return bad(err, "it does not begin as one");
    if (version != MESSAGE_VERSION)
        return error_set(err, ERR_VERSION,
                         "the other side speaks protocol version %u, this program version %d",
                         version, MESSAGE_VERSION);
    if (stated != length || length > LIMIT_CONTROL_BYTES)
        return bad(err, "its length is not what it says");
    if (m->kind == MESSAGE_BATCH)
        return decode_batch(frame, length, &m->batch, body, err);
    if (cursor_left(&c) < CRC_BYTES)
        return bad(err, "it ends early");
    struct cursor fields = cursor_child(&c, cursor_left(&c) - CRC_BYTES);
    if (crc32c(0, frame, length - CRC_BYTES) != cursor_le32(&c))
        return bad(err, "its checksum does not match");
    int code = decode_body(&fields, m, err);
    *body = fields;
    return code;
}

struct range message_ack_range(struct cursor *body) {
    uint64_t start = cursor_le64(body);
    return (struct range){start, cursor_le64(body)};
}
