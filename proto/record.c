#include "proto/record.h"

#include "common/crc32c.h"
#include "common/digest.h"
#include "proto/limits.h"

#include <string.h>

/* Head: crc32c u32 | length u32 | type u16 | head_length u16 | zero u32 | order u64. */
enum { HEAD_CRC_BYTES = 4, LENGTH_AT = 4, HEAD_LENGTH_AT = 10 };

static size_t begin(struct buffer *b, uint16_t type, uint64_t order) {
    size_t start = b->length;
    buffer_put_zeros(b, 8); /* crc32c and length come last */
    buffer_put_le16(b, type);
    buffer_put_zeros(b, 6);
    buffer_put_le64(b, order);
    return start;
}

/* Fixes the length, the head length and the CRC of the record that began at `start`. */
static void finish(struct buffer *b, size_t start, size_t data_bytes) {
    size_t head = b->length - start;
    size_t whole = (head + data_bytes + RECORD_ALIGN - 1) / RECORD_ALIGN * RECORD_ALIGN;
    buffer_patch_le(b, start + LENGTH_AT, whole, 4);
    buffer_patch_le(b, start + HEAD_LENGTH_AT, head, 2);
    if (b->failed)
        return;
    uint32_t crc = crc32c(0, b->data + start + HEAD_CRC_BYTES, head - HEAD_CRC_BYTES);
    buffer_patch_le(b, start, crc, 4);
}

static void put_string(struct buffer *b, const char *text, uint16_t bytes) {
    buffer_put_le16(b, bytes);
    buffer_put(b, text, bytes);
}

static void encode_update(struct buffer *b, const struct update_record *u) {
    buffer_put_le64(b, u->time_ns);
    buffer_put_le64(b, u->issued_ns);
    buffer_put_le64(b, u->path);
    buffer_put_le64(b, u->offset_bytes);
    buffer_put_le64(b, u->length_bytes);
    buffer_put_le32(b, u->block_bytes);
    buffer_put_u8(b, u->op);
    buffer_put_u8(b, u->opcode);
    buffer_put_le16(b, u->flags);
    buffer_put_le32(b, u->payload_bytes);
    buffer_put_le32(b, u->payload_crc32c);
    if (u->op != UPDATE_COPY)
        return;
    buffer_put_le64(b, u->source_path);
    buffer_put_le64(b, u->source_offset_bytes);
    buffer_put_le64(b, u->source_from_ns);
    buffer_put_le64(b, u->source_until_ns);
}

static void encode_gap(struct buffer *b, const struct gap_record *g) {
    buffer_put_le64(b, g->time_ns);
    buffer_put_le64(b, g->issued_ns);
    buffer_put_le64(b, g->path);
    buffer_put_le64(b, g->offset_bytes);
    buffer_put_le64(b, g->length_bytes);
    buffer_put_le16(b, g->reason);
    put_string(b, g->text, g->text_bytes);
}

static void encode_path(struct buffer *b, const struct path_record *p) {
    buffer_put_le64(b, p->time_ns);
    buffer_put_le64(b, p->path);
    buffer_put_le64(b, p->size_bytes);
    buffer_put_le64(b, p->lun);
    buffer_put_le32(b, p->block_bytes);
    buffer_put_le16(b, p->flags);
    buffer_put_u8(b, p->protocol);
    buffer_put_u8(b, 0);
    put_string(b, p->target, p->target_bytes);
    put_string(b, p->designator, p->designator_bytes);
    put_string(b, p->serial, p->serial_bytes);
    buffer_put_le64(b, p->same_as);
}

static void encode_frontier(struct buffer *b, const struct frontier_record *f) {
    buffer_put_le64(b, f->time_ns);
    buffer_put_le64(b, f->wall_ns);
    buffer_put_le64(b, f->packets);
    buffer_put_le64(b, f->bytes);
    buffer_put_le64(b, f->dropped);
    buffer_put_le64(b, f->malformed);
    buffer_put_le64(b, f->clock_error_ns);
    buffer_put_le32(b, f->flags);
}

static void encode_audit(struct buffer *b, const struct audit_record *a) {
    buffer_put_le64(b, a->time_ns);
    buffer_put_le64(b, a->issued_ns);
    buffer_put_le64(b, a->path);
    buffer_put_le64(b, a->offset_bytes);
    buffer_put_le32(b, a->block_bytes);
    buffer_put_le32(b, a->blocks);
    buffer_put(b, a->crc32c, (size_t)a->blocks * 4);
}

static void encode_resume(struct buffer *b, const struct resume_record *r) {
    buffer_put_le64(b, r->time_ns);
    buffer_put_le64(b, r->path);
    buffer_put_le64(b, r->stream);
    buffer_put_le64(b, r->order);
}

size_t record_payload_begin(struct buffer *b, uint64_t order, uint32_t bytes, uint32_t crc) {
    size_t start = begin(b, RECORD_PAYLOAD, order);
    buffer_put_le32(b, bytes);
    buffer_put_le32(b, crc);
    finish(b, start, bytes);
    return start;
}

void record_payload_end(struct buffer *b, size_t start) {
    size_t over = (b->length - start) % RECORD_ALIGN;
    if (over != 0)
        buffer_put_zeros(b, RECORD_ALIGN - over);
}

static void encode_payload(struct buffer *b, uint64_t order, const struct payload_record *p) {
    size_t start = record_payload_begin(b, order, p->bytes, p->crc32c);
    buffer_put(b, p->data, p->bytes);
    record_payload_end(b, start);
}

void record_encode(struct buffer *b, const struct record *r) {
    if (r->type == RECORD_PAYLOAD) {
        encode_payload(b, r->order, &r->payload);
        return;
    }
    size_t start = begin(b, r->type, r->order);
    switch (r->type) {
    case RECORD_UPDATE:
        encode_update(b, &r->update);
        break;
    case RECORD_GAP:
        encode_gap(b, &r->gap);
        break;
    case RECORD_PATH:
        encode_path(b, &r->path);
        break;
    case RECORD_FRONTIER:
        encode_frontier(b, &r->frontier);
        break;
    case RECORD_AUDIT:
        encode_audit(b, &r->audit);
        break;
    case RECORD_RESUME:
        encode_resume(b, &r->resume);
        break;
    default:
        b->failed = true;
    }
    finish(b, start, 0);
    record_payload_end(b, start);
}

static int bad(struct error *err, const char *what) {
    return error_set(err, ERR_FORMAT, "malformed record: %s", what);
}

static const char *take_string(struct cursor *c, size_t limit, uint16_t *bytes) {
    *bytes = cursor_le16(c);
    if (*bytes > limit)
        c->failed = true;
    return (const char *)cursor_bytes(c, *bytes);
}

static bool range_wraps(uint64_t offset, uint64_t length) {
    return length > INT64_MAX || offset > INT64_MAX || offset + length > INT64_MAX;
}

static bool payload_size_fits(const struct update_record *u) {
    switch (u->op) {
    case UPDATE_WRITE:
    case UPDATE_OR:
    case UPDATE_XOR:
        return u->payload_bytes == u->length_bytes && u->payload_bytes > 0;
    case UPDATE_PATTERN:
        return u->payload_bytes > 0 && u->length_bytes % u->payload_bytes == 0;
    case UPDATE_ZERO:
    case UPDATE_FLUSH:
    case UPDATE_COPY:
        return u->payload_bytes == 0;
    default:
        return false;
    }
}

static int decode_source(struct cursor *c, struct update_record *u, struct error *err) {
    u->source_path = cursor_le64(c);
    u->source_offset_bytes = cursor_le64(c);
    u->source_from_ns = cursor_le64(c);
    u->source_until_ns = cursor_le64(c);
    if (!cursor_ok(c))
        return bad(err, "a copy cut short");
    if (u->source_path == 0 || u->source_until_ns < u->source_from_ns ||
        range_wraps(u->source_offset_bytes, u->length_bytes))
        return bad(err, "a copy from an impossible place or time");
    return 0;
}

static int decode_update(struct cursor *c, struct update_record *u, struct error *err) {
    u->time_ns = cursor_le64(c);
    u->issued_ns = cursor_le64(c);
    u->path = cursor_le64(c);
    u->offset_bytes = cursor_le64(c);
    u->length_bytes = cursor_le64(c);
    u->block_bytes = cursor_le32(c);
    u->op = cursor_u8(c);
    u->opcode = cursor_u8(c);
    u->flags = cursor_le16(c);
    u->payload_bytes = cursor_le32(c);
    u->payload_crc32c = cursor_le32(c);
    if (!cursor_ok(c))
        return bad(err, "an update cut short");
    if (u->path == 0 || range_wraps(u->offset_bytes, u->length_bytes))
        return bad(err, "an update with an impossible path or range");
    if (!payload_size_fits(u) || u->payload_bytes > LIMIT_UPDATE_PAYLOAD_BYTES)
        return bad(err, "an update whose payload does not fit its operation");
    if (u->op == UPDATE_COPY)
        return decode_source(c, u, err);
    u->source_path = u->source_offset_bytes = u->source_from_ns = u->source_until_ns = 0;
    return 0;
}

static int decode_gap(struct cursor *c, struct gap_record *g, struct error *err) {
    g->time_ns = cursor_le64(c);
    g->issued_ns = cursor_le64(c);
    g->path = cursor_le64(c);
    g->offset_bytes = cursor_le64(c);
    g->length_bytes = cursor_le64(c);
    g->reason = cursor_le16(c);
    g->text = take_string(c, LIMIT_REASON_BYTES, &g->text_bytes);
    if (!cursor_ok(c))
        return bad(err, "a gap cut short");
    if (g->path == 0)
        return bad(err, "a gap without a path");
    if (g->length_bytes != GAP_TO_END && range_wraps(g->offset_bytes, g->length_bytes))
        return bad(err, "a gap with an impossible range");
    return 0;
}

static int decode_path(struct cursor *c, struct path_record *p, struct error *err) {
    p->time_ns = cursor_le64(c);
    p->path = cursor_le64(c);
    p->size_bytes = cursor_le64(c);
    p->lun = cursor_le64(c);
    p->block_bytes = cursor_le32(c);
    p->flags = cursor_le16(c);
    p->protocol = cursor_u8(c);
    cursor_skip(c, 1);
    p->target = take_string(c, LIMIT_NAME_BYTES, &p->target_bytes);
    p->designator = take_string(c, LIMIT_NAME_BYTES, &p->designator_bytes);
    p->serial = take_string(c, LIMIT_NAME_BYTES, &p->serial_bytes);
    p->same_as = cursor_left(c) > 0 ? cursor_le64(c) : 0; /* monitors of the first version */
    if (!cursor_ok(c))
        return bad(err, "a path cut short");
    if (p->path != record_path_id(p->protocol, p->target, p->target_bytes, p->lun))
        return bad(err, "a path whose number is not that of its target and LUN");
    if (p->size_bytes > INT64_MAX)
        return bad(err, "a path with an impossible size");
    return 0;
}

static int decode_frontier(struct cursor *c, struct frontier_record *f, struct error *err) {
    f->time_ns = cursor_le64(c);
    f->wall_ns = cursor_le64(c);
    f->packets = cursor_le64(c);
    f->bytes = cursor_le64(c);
    f->dropped = cursor_le64(c);
    f->malformed = cursor_le64(c);
    f->clock_error_ns = cursor_le64(c);
    f->flags = cursor_le32(c);
    return cursor_ok(c) ? 0 : bad(err, "a frontier cut short");
}

static int decode_audit(struct cursor *c, struct audit_record *a, struct error *err) {
    a->time_ns = cursor_le64(c);
    a->issued_ns = cursor_le64(c);
    a->path = cursor_le64(c);
    a->offset_bytes = cursor_le64(c);
    a->block_bytes = cursor_le32(c);
    a->blocks = cursor_le32(c);
    if (!cursor_ok(c) || a->path == 0 || a->block_bytes == 0 || a->blocks == 0 ||
        a->blocks > AUDIT_BLOCKS)
        return bad(err, "an audit of an impossible path or size");
    a->crc32c = cursor_bytes(c, (size_t)a->blocks * 4);
    if (!cursor_ok(c))
        return bad(err, "an audit cut short");
    if (range_wraps(a->offset_bytes, (uint64_t)a->blocks * a->block_bytes))
        return bad(err, "an audit of an impossible range");
    return 0;
}

static int decode_resume(struct cursor *c, struct resume_record *r, struct error *err) {
    r->time_ns = cursor_le64(c);
    r->path = cursor_le64(c);
    r->stream = cursor_le64(c);
    r->order = cursor_le64(c);
    if (!cursor_ok(c) || r->path == 0)
        return bad(err, "a resumption cut short or without a path");
    return 0;
}

static int decode_payload(struct cursor *c, struct cursor *data, struct payload_record *p,
                          struct error *err) {
    p->bytes = cursor_le32(c);
    p->crc32c = cursor_le32(c);
    if (!cursor_ok(c) || p->bytes == 0 || p->bytes > LIMIT_UPDATE_PAYLOAD_BYTES)
        return bad(err, "a payload of an impossible size");
    p->data = cursor_bytes(data, p->bytes);
    if (p->data == NULL)
        return bad(err, "a payload cut short");
    return 0;
}

static int decode_body(struct cursor *fields, struct cursor *data, struct record *r,
                       struct error *err) {
    switch (r->type) {
    case RECORD_UPDATE:
        return decode_update(fields, &r->update, err);
    case RECORD_PAYLOAD:
        return decode_payload(fields, data, &r->payload, err);
    case RECORD_GAP:
        return decode_gap(fields, &r->gap, err);
    case RECORD_PATH:
        return decode_path(fields, &r->path, err);
    case RECORD_FRONTIER:
        return decode_frontier(fields, &r->frontier, err);
    case RECORD_AUDIT:
        return decode_audit(fields, &r->audit, err);
    case RECORD_RESUME:
        return decode_resume(fields, &r->resume, err);
    default:
        return error_set(err, ERR_VERSION, "a record of type %u, which this version does not know",
                         r->type);
    }
}

int record_decode(struct cursor *c, struct record *r, struct error *err) {
    const uint8_t *start = c->next;
    struct cursor head = *c;
    uint32_t crc = cursor_le32(&head);
    uint32_t length = cursor_le32(&head);
    r->type = cursor_le16(&head);
    uint16_t head_length = cursor_le16(&head);
    cursor_skip(&head, 4);
    r->order = cursor_le64(&head);
    if (!cursor_ok(&head) || head_length < RECORD_HEAD_BYTES || head_length > length ||
        head_length > LIMIT_RECORD_HEAD_BYTES || length % RECORD_ALIGN != 0)
        return bad(err, "an impossible head");
    struct cursor whole = cursor_child(c, length);
    struct cursor fields = cursor_child(&whole, head_length);
    if (!cursor_ok(&fields))
        return bad(err, "it ends early");
    if (crc32c(0, start + HEAD_CRC_BYTES, head_length - HEAD_CRC_BYTES) != crc)
        return bad(err, "its checksum does not match");
    cursor_skip(&fields, RECORD_HEAD_BYTES);
    return decode_body(&fields, &whole, r, err);
}

bool record_payload_ok(const struct payload_record *p) {
    return crc32c(0, p->data, p->bytes) == p->crc32c;
}

uint64_t record_path_id(uint8_t protocol, const char *target, size_t target_bytes, uint64_t lun) {
    uint8_t key[9 + LIMIT_NAME_BYTES];
    if (target_bytes > LIMIT_NAME_BYTES)
        target_bytes = LIMIT_NAME_BYTES;
    key[0] = protocol;
    for (size_t i = 0; i < 8; i++)
        key[1 + i] = (uint8_t)(lun >> (8 * (7 - i)));
    if (target_bytes > 0)
        memcpy(key + 9, target, target_bytes);
    uint64_t id = digest_id64(key, 9 + target_bytes);
    return id != 0 ? id : 1;
}

const char *record_gap_reason(uint16_t reason) {
    static const char *const names[] = {
        [GAP_CAPTURE_LOSS] = "capture loss",
        [GAP_STREAM_HOLE] = "hole in the stream",
        [GAP_BAD_DIGEST] = "bad digest",
        [GAP_FAILED_WRITE] = "failed write",
        [GAP_NEXUS_LOST] = "nexus lost",
        [GAP_ABORTED] = "aborted write",
        [GAP_OVERLAP] = "overlapping writes",
        [GAP_UNKNOWN_COMMAND] = "unknown command",
        [GAP_UNKNOWN_CONTENT] = "unknown content",
        [GAP_MONITOR_RESTART] = "monitor restart",
        [GAP_OVERFLOW] = "overflow",
        [GAP_MALFORMED] = "malformed traffic",
        [GAP_UNREADABLE] = "unreadable payload",
        [GAP_CONTRADICTED] = "contradicted by a read",
        [GAP_CLOCK] = "clocks too far apart",
        [GAP_UNRESOLVED] = "copy of unknown content",
        [GAP_STRANGER] = "changed on a path of unknown name",
        [GAP_NAME_LOST] = "name never known",
    };
    if (reason >= sizeof names / sizeof names[0] || names[reason] == NULL)
        return "unknown reason";
    return names[reason];
}

uint64_t record_time_ns(const struct record *r) {
    switch (r->type) {
    case RECORD_UPDATE:
        return r->update.time_ns;
    case RECORD_GAP:
        return r->gap.time_ns;
    case RECORD_PATH:
        return r->path.time_ns;
    case RECORD_FRONTIER:
        return r->frontier.time_ns;
    case RECORD_AUDIT:
        return r->audit.time_ns;
    case RECORD_RESUME:
        return r->resume.time_ns;
    default:
        return 0;
    }
}
