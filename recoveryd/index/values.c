#include "recoveryd/index/values.h"

#include <stdlib.h>
#include <string.h>

static void put_string(struct buffer *b, const char *text) {
    size_t bytes = strlen(text);
    buffer_put_le16(b, (uint16_t)bytes);
    buffer_put(b, text, bytes);
}

/* NUL-terminated into `to`; a longer one, or one with a NUL inside, fails the cursor. */
static void take_string(struct cursor *c, char *to, size_t room) {
    uint16_t bytes = cursor_le16(c);
    const uint8_t *text = cursor_bytes(c, bytes);
    to[0] = '\0';
    if (text == NULL || bytes >= room || memchr(text, '\0', bytes) != NULL) {
        c->failed = true;
        return;
    }
    memcpy(to, text, bytes);
    to[bytes] = '\0';
}

static bool range_ok(uint64_t offset, uint64_t length) {
    const uint64_t end = UINT64_C(1) << 63;
    return length <= end && offset <= end - length;
}

void value_encode_meta(struct buffer *b, const struct meta_entry *m) {
    buffer_put_le32(b, m->version);
    buffer_put_le64(b, m->store_id);
}

/* A later version may have put more behind: the version itself must be readable for ever. */
int value_decode_meta(struct kv_item item, struct meta_entry *m, struct error *err) {
    m->version = cursor_le32(&item.value);
    m->store_id = cursor_le64(&item.value);
    return cursor_ok(&item.value) ? 0 : value_damaged(err, "its format record is cut short");
}

/* Behind the stamp of a key, when there are several of one. */
static uint64_t take_part(struct cursor *key) {
    return cursor_left(key) > 0 ? cursor_be64(key) : 0;
}

static bool has_extent(uint8_t kind) {
    return kind == PIECE_DATA || kind == PIECE_PATTERN;
}

void value_encode_piece(struct buffer *b, const struct piece *p) {
    buffer_put_u8(b, p->kind);
    buffer_put_u8(b, 0);
    buffer_put_le16(b, p->reason);
    buffer_put_le64(b, p->issued_ns);
    buffer_put_le64(b, p->offset_bytes);
    buffer_put_le64(b, p->length_bytes);
    if (!has_extent(p->kind))
        return;
    buffer_put_le64(b, p->whole_offset);
    buffer_put_le32(b, p->extent.segment);
    buffer_put_le32(b, p->extent.bytes);
    buffer_put_le64(b, p->extent.offset);
    buffer_put_le32(b, p->payload_crc32c);
}

static bool piece_extent_ok(const struct piece *p) {
    if (p->extent.segment == 0 || p->extent.bytes == 0 ||
        p->extent.bytes > LIMIT_UPDATE_PAYLOAD_BYTES || p->offset_bytes < p->whole_offset)
        return false;
    return p->kind == PIECE_PATTERN ||
           p->offset_bytes - p->whole_offset + p->length_bytes <= p->extent.bytes;
}

static bool piece_range_ok(const struct piece *p, uint64_t chunk) {
    uint64_t level = chunk >> 56;
    uint64_t number = chunk & ((UINT64_C(1) << 56) - 1);
    if (level >= LEVELS || p->length_bytes == 0 || !range_ok(p->offset_bytes, p->length_bytes))
        return false;
    unsigned shift = level_shift((unsigned)level);
    return p->offset_bytes >> shift == number &&
           (p->offset_bytes + p->length_bytes - 1) >> shift == number;
}

int value_decode_piece(struct kv_item item, uint64_t *path, uint64_t *level_chunk, struct piece *p,
                       struct error *err) {
    *p = (struct piece){0};
    *path = cursor_be64(&item.key);
    *level_chunk = cursor_be64(&item.key);
    p->stamp = key_take_stamp(&item.key);
    bool has_part = cursor_left(&item.key) > 0;
    p->part = take_part(&item.key);
    p->kind = cursor_u8(&item.value);
    cursor_skip(&item.value, 1);
    p->reason = cursor_le16(&item.value);
    p->issued_ns = cursor_le64(&item.value);
    p->offset_bytes = cursor_le64(&item.value);
    p->length_bytes = cursor_le64(&item.value);
    if (has_extent(p->kind)) {
        p->whole_offset = cursor_le64(&item.value);
        p->extent.segment = cursor_le32(&item.value);
        p->extent.bytes = cursor_le32(&item.value);
        p->extent.offset = cursor_le64(&item.value);
        p->payload_crc32c = cursor_le32(&item.value);
    }
    if (!value_is_whole(&item) || p->kind < PIECE_DATA || p->kind > PIECE_GAP ||
        has_part != (p->part != 0))
        return value_damaged(err, "a piece has the wrong size or kind");
    if (!piece_range_ok(p, *level_chunk) || (has_extent(p->kind) && !piece_extent_ok(p)))
        return value_damaged(err, "a piece has an impossible range");
    return 0;
}

void value_encode_floor(struct buffer *b, const struct floor *f) {
    buffer_put_le16(b, f->reason);
    buffer_put_le64(b, f->base_path);
    buffer_put_le64(b, f->size_bytes);
    put_string(b, f->text);
}

int value_decode_floor(struct kv_item item, uint64_t *path, struct floor *f, struct error *err) {
    *f = (struct floor){0};
    *path = cursor_be64(&item.key);
    f->stamp = key_take_stamp(&item.key);
    f->kind = cursor_u8(&item.key);
    f->reason = cursor_le16(&item.value);
    f->base_path = cursor_le64(&item.value);
    f->size_bytes = cursor_le64(&item.value);
    take_string(&item.value, f->text, sizeof f->text);
    if (!value_is_whole(&item) || (f->kind != FLOOR_ZERO && f->kind != FLOOR_GAP) ||
        f->size_bytes > INT64_MAX)
        return value_damaged(err, "a baseline or whole gap cannot be read");
    return 0;
}

void value_encode_gap(struct buffer *b, const struct gap_entry *g) {
    buffer_put_le64(b, g->offset_bytes);
    buffer_put_le64(b, g->length_bytes);
    buffer_put_le64(b, g->issued_ns);
    buffer_put_le16(b, g->reason);
    put_string(b, g->text);
}

int value_decode_gap(struct kv_item item, struct gap_entry *g, struct error *err) {
    g->path = cursor_be64(&item.key);
    g->stamp = key_take_stamp(&item.key);
    bool has_part = cursor_left(&item.key) > 0;
    g->part = take_part(&item.key);
    g->offset_bytes = cursor_le64(&item.value);
    g->length_bytes = cursor_le64(&item.value);
    g->issued_ns = cursor_le64(&item.value);
    g->reason = cursor_le16(&item.value);
    take_string(&item.value, g->text, sizeof g->text);
    if (!value_is_whole(&item) || has_part != (g->part != 0) ||
        (g->length_bytes != GAP_TO_END && !range_ok(g->offset_bytes, g->length_bytes)))
        return value_damaged(err, "a gap cannot be read");
    return 0;
}

void value_encode_event(struct buffer *b, const struct event_entry *e) {
    buffer_put_u8(b, e->op);
    buffer_put_u8(b, 0);
    buffer_put_le16(b, e->flags);
    buffer_put_le64(b, e->offset_bytes);
    buffer_put_le64(b, e->length_bytes);
}

int value_decode_event(struct kv_item item, uint64_t *path, struct stamp *stamp,
                       struct event_entry *e, struct error *err) {
    *path = cursor_be64(&item.key);
    *stamp = key_take_stamp(&item.key);
    e->op = cursor_u8(&item.value);
    cursor_skip(&item.value, 1);
    e->flags = cursor_le16(&item.value);
    e->offset_bytes = cursor_le64(&item.value);
    e->length_bytes = cursor_le64(&item.value);
    if (!value_is_whole(&item) || e->op < UPDATE_WRITE || e->op > UPDATE_XOR ||
        !range_ok(e->offset_bytes, e->length_bytes))
        return value_damaged(err, "an event cannot be read");
    return 0;
}

void value_encode_path(struct buffer *b, const struct path_entry *p) {
    buffer_put_le64(b, p->first_ns);
    buffer_put_le64(b, p->last_ns);
    buffer_put_le64(b, p->lun);
    buffer_put_le64(b, p->size_bytes);
    buffer_put_le64(b, p->size_ns);
    buffer_put_le64(b, p->designator_ns);
    buffer_put_le64(b, p->serial_ns);
    buffer_put_le64(b, p->block_ns);
    buffer_put_le32(b, p->block_bytes);
    buffer_put_le16(b, p->flags);
    buffer_put_u8(b, p->protocol);
    buffer_put_u8(b, 0);
    put_string(b, p->target);
    put_string(b, p->designator);
    put_string(b, p->serial);
}

int value_decode_path(struct kv_item item, struct path_entry *p, struct error *err) {
    p->path = cursor_be64(&item.key);
    p->first_ns = cursor_le64(&item.value);
    p->last_ns = cursor_le64(&item.value);
    p->lun = cursor_le64(&item.value);
    p->size_bytes = cursor_le64(&item.value);
    p->size_ns = cursor_le64(&item.value);
    p->designator_ns = cursor_le64(&item.value);
    p->serial_ns = cursor_le64(&item.value);
    p->block_ns = cursor_le64(&item.value);
    p->block_bytes = cursor_le32(&item.value);
    p->flags = cursor_le16(&item.value);
    p->protocol = cursor_u8(&item.value);
    cursor_skip(&item.value, 1);
    take_string(&item.value, p->target, sizeof p->target);
    take_string(&item.value, p->designator, sizeof p->designator);
    take_string(&item.value, p->serial, sizeof p->serial);
    if (!value_is_whole(&item) || p->size_bytes > INT64_MAX)
        return value_damaged(err, "a path cannot be read");
    return 0;
}

void value_encode_stream(struct buffer *b, const struct stream_entry *s) {
    buffer_put_le64(b, s->first_ns);
    buffer_put_le64(b, s->frontier);
    buffer_put_le64(b, s->frontier_ns);
    buffer_put_le64(b, s->heard_ns);
    buffer_put_le64(b, s->updates);
    buffer_put_le64(b, s->bytes);
    buffer_put_le64(b, s->packets);
    buffer_put_le64(b, s->dropped);
    buffer_put_u8(b, s->ended);
    put_string(b, s->name);
    buffer_put_le32(b, s->run_count);
    for (uint32_t i = 0; i < s->run_count && i < STREAM_RUNS; i++) {
        buffer_put_le64(b, s->runs[i].start);
        buffer_put_le64(b, s->runs[i].end);
        buffer_put_le64(b, s->runs[i].last_ns);
    }
    buffer_put_le64(b, s->clock_error_ns);
    buffer_put_le64(b, s->clock_error_max_ns);
}

/* Sorted, disjoint and beyond the frontier, as whoever goes on from them relies on. */
static bool take_runs(struct cursor *c, struct stream_entry *s) {
    uint64_t after = s->frontier;
    s->run_count = cursor_le32(c);
    if (s->run_count > STREAM_RUNS)
        return false;
    for (uint32_t i = 0; i < s->run_count; i++) {
        struct stream_run *run = &s->runs[i];
        run->start = cursor_le64(c);
        run->end = cursor_le64(c);
        run->last_ns = cursor_le64(c);
        if (!cursor_ok(c) || run->start < after || run->end <= run->start)
            return false;
        after = run->end;
    }
    return true;
}

static int decode_stream(struct kv_item item, bool has_clock, struct stream_entry *s,
                         struct error *err) {
    memset(s, 0, sizeof *s);
    s->monitor = cursor_be64(&item.key);
    s->stream = cursor_be64(&item.key);
    s->first_ns = cursor_le64(&item.value);
    s->frontier = cursor_le64(&item.value);
    s->frontier_ns = cursor_le64(&item.value);
    s->heard_ns = cursor_le64(&item.value);
    s->updates = cursor_le64(&item.value);
    s->bytes = cursor_le64(&item.value);
    s->packets = cursor_le64(&item.value);
    s->dropped = cursor_le64(&item.value);
    s->ended = cursor_u8(&item.value) != 0;
    take_string(&item.value, s->name, sizeof s->name);
    bool runs_ok = take_runs(&item.value, s);
    if (has_clock) {
        s->clock_error_ns = cursor_le64(&item.value);
        s->clock_error_max_ns = cursor_le64(&item.value);
    }
    if (!runs_ok || !value_is_whole(&item))
        return value_damaged(err, "a stream cannot be read");
    return 0;
}

int value_decode_stream(struct kv_item item, struct stream_entry *s, struct error *err) {
    return decode_stream(item, true, s, err);
}

int value_decode_stream_v1(struct kv_item item, struct stream_entry *s, struct error *err) {
    return decode_stream(item, false, s, err);
}

void value_encode_tally(struct buffer *b, uint64_t updates) {
    buffer_put_le64(b, updates);
}

int value_decode_tally(struct kv_item item, uint64_t *path, uint8_t *level, uint64_t *bucket,
                       uint64_t *updates, struct error *err) {
    *path = cursor_be64(&item.key);
    *level = cursor_u8(&item.key);
    *bucket = cursor_be64(&item.key);
    *updates = cursor_le64(&item.value);
    return value_is_whole(&item) ? 0 : value_damaged(err, "a tally cannot be read");
}

/* Whether a known fact replaces another: the later, and of one moment the greater, for any order.
 */
static bool number_wins(uint64_t value, uint64_t ns, uint64_t old, uint64_t old_ns) {
    if (value == 0 || old == 0)
        return value != 0;
    return ns != old_ns ? ns > old_ns : value > old;
}

static bool text_wins(const char *value, uint64_t ns, const char *old, uint64_t old_ns) {
    if (value[0] == '\0' || old[0] == '\0')
        return value[0] != '\0';
    return ns != old_ns ? ns > old_ns : strcmp(value, old) > 0;
}

void path_entry_merge(struct path_entry *into, const struct path_entry *other) {
    if (other->first_ns < into->first_ns)
        into->first_ns = other->first_ns;
    if (other->last_ns > into->last_ns)
        into->last_ns = other->last_ns;
    if (number_wins(other->size_bytes, other->size_ns, into->size_bytes, into->size_ns)) {
        into->size_bytes = other->size_bytes;
        into->size_ns = other->size_ns;
    }
    if (number_wins(other->block_bytes, other->block_ns, into->block_bytes, into->block_ns)) {
        into->block_bytes = other->block_bytes;
        into->block_ns = other->block_ns;
    }
    if (text_wins(other->designator, other->designator_ns, into->designator, into->designator_ns)) {
        memcpy(into->designator, other->designator, sizeof into->designator);
        into->designator_ns = other->designator_ns;
    }
    if (text_wins(other->serial, other->serial_ns, into->serial, into->serial_ns)) {
        memcpy(into->serial, other->serial, sizeof into->serial);
        into->serial_ns = other->serial_ns;
    }
    into->flags |= other->flags;
}
