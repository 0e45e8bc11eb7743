/*
 * Stored bytes through their decoders: the index's values, the head of a segment, the text of
 * FORMAT.
 *
 * Input: kind u8 | key length u8 | key | value. What a decoder takes must come out of the encoder
 * as it went in, or a record would change its meaning by being copied.
 */
#include "recoveryd/index/change.h"
#include "recoveryd/index/values.h"
#include "recoveryd/store/format_file.h"
#include "recoveryd/store/segment_file.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum kind {
    PIECE,
    FLOOR,
    GAP,
    EVENT,
    PATH,
    STREAM,
    TALLY,
    META,
    SEGMENT,
    FORMAT,
    SIZE,
    JOIN,
    RESUME,
    DERIVED,
    AUDIT,
    AUDITED,
    CHANGES,
    THINNED,
    RETENTION,
    KINDS
};

static void same(const struct buffer *again, struct cursor value) {
    if (again->failed || again->length != cursor_left(&value) ||
        memcmp(again->data, value.next, again->length) != 0)
        abort();
}

/* Bytes that an encoder writes as 0 and a decoder skips. */
static bool canonical(struct cursor value, size_t zero_at) {
    return cursor_left(&value) <= zero_at || value.next[zero_at] == 0;
}

static void try_piece(struct kv_item item, struct buffer *b) {
    struct piece p;
    uint64_t path;
    uint64_t chunk;
    if (value_decode_piece(item, &path, &chunk, &p, NULL) != 0 || !canonical(item.value, 1))
        return;
    value_encode_piece(b, &p);
    same(b, item.value);
    struct kv_key key = key_piece(path, chunk, &p.stamp);
    key_add_part(&key, p.part);
    if (memcmp(key.bytes, item.key.next, key.length) != 0)
        abort();
}

static void try_small(enum kind kind, struct kv_item item, struct buffer *b) {
    struct floor floor;
    struct gap_entry gap;
    struct event_entry event;
    struct stamp stamp;
    uint64_t number;
    uint64_t path;
    uint8_t level;
    if (kind == FLOOR && value_decode_floor(item, &path, &floor, NULL) == 0) {
        value_encode_floor(b, &floor);
        same(b, item.value);
    }
    if (kind == GAP && value_decode_gap(item, &gap, NULL) == 0) {
        value_encode_gap(b, &gap);
        same(b, item.value);
    }
    if (kind == EVENT && value_decode_event(item, &path, &stamp, &event, NULL) == 0 &&
        canonical(item.value, 1)) {
        value_encode_event(b, &event);
        same(b, item.value);
    }
    if (kind == TALLY && value_decode_tally(item, &path, &level, &number, &number, NULL) == 0) {
        value_encode_tally(b, number);
        same(b, item.value);
    }
}

/* What waits to be settled, and what was announced. */
static void try_settled(enum kind kind, struct kv_item item, struct buffer *b) {
    struct size_entry size;
    struct resume_entry resume;
    struct derived_entry derived;
    struct audit_entry audit;
    struct audited_entry audited;
    uint64_t path;
    uint64_t other;
    if (kind == SIZE && value_decode_size(item, &size, NULL) == 0)
        value_encode_size(b, &size);
    else if (kind == DERIVED && value_decode_derived(item, &derived, NULL) == 0 &&
             canonical(item.value, 2) && canonical(item.value, 3))
        value_encode_derived(b, &derived);
    else if (kind == AUDIT && value_decode_audit(item, &audit, NULL) == 0)
        value_encode_audit(b, &audit);
    else if (kind == AUDITED && value_decode_audited(item, &audited, NULL) == 0)
        value_encode_audited(b, &audited);
    if (kind >= SIZE && b->length > 0)
        same(b, item.value);
    if (kind == JOIN)
        value_decode_join(item, &path, &other, NULL);
    if (kind == RESUME && value_decode_resume(item, &resume, NULL) == 0 &&
        memcmp(key_resume(&resume).bytes, item.key.next, cursor_left(&item.key)) != 0)
        abort();
}

/* What retention keeps, and what it took out. */
static void try_retention(enum kind kind, struct kv_item item, struct buffer *b) {
    struct thinned_entry thinned;
    struct retention_entry retention;
    if (kind == THINNED && value_decode_thinned(item, &thinned, NULL) == 0) {
        value_encode_thinned(b, &thinned);
        same(b, item.value);
    }
    if (kind == RETENTION && value_decode_retention(item, &retention, NULL) == 0) {
        value_encode_retention(b, &retention);
        same(b, item.value);
    }
}

static void try_large(enum kind kind, struct kv_item item, struct buffer *b) {
    static struct path_entry path;
    static struct stream_entry stream;
    struct meta_entry meta;
    if (kind == PATH && value_decode_path(item, &path, NULL) == 0) {
        value_encode_path(b, &path);
        struct path_entry twice = path;
        path_entry_merge(&twice, &path);
        if (memcmp(twice.target, path.target, sizeof path.target) != 0 ||
            twice.size_bytes != path.size_bytes)
            abort();
    }
    if (kind == STREAM && value_decode_stream(item, &stream, NULL) == 0)
        value_encode_stream(b, &stream);
    if (kind == STREAM)
        value_decode_stream_v1(item, &stream, NULL);
    if (kind == META)
        value_decode_meta(item, &meta, NULL);
}

static bool same_change(const struct change *a, const struct change *b) {
    return stamp_compare(&a->stamp, &b->stamp) == 0 && a->path == b->path &&
           a->issued_ns == b->issued_ns && a->offset_bytes == b->offset_bytes &&
           a->length_bytes == b->length_bytes && a->whole_offset == b->whole_offset &&
           a->extent.segment == b->extent.segment && a->extent.offset == b->extent.offset &&
           a->extent.bytes == b->extent.bytes && a->payload_crc32c == b->payload_crc32c &&
           a->flags == b->flags && a->op == b->op;
}

/* A packed block: numbers may be longer than they need be, but mean the same when packed again. */
static void try_changes(struct kv_item item, struct buffer *b) {
    AUTO_CHANGES first = {0};
    AUTO_CHANGES second = {0};
    struct change_state state = change_state_none();
    if (changes_unpack(&first, change_state_none(), item.value, NULL) != 0 || first.count == 0)
        return;
    for (size_t i = 0; i < first.count; i++)
        change_pack(&state, b, &first.list[i]);
    if (b->failed)
        return;
    if (changes_unpack(&second, change_state_none(), cursor_of(b->data, b->length), NULL) != 0 ||
        second.count != first.count)
        abort();
    for (size_t i = 0; i < first.count; i++) {
        if (!same_change(&first.list[i], &second.list[i]))
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct cursor c = cursor_of(data, size);
    enum kind kind = cursor_u8(&c) % KINDS;
    uint8_t key_bytes = cursor_u8(&c);
    struct kv_item item = {.key = cursor_child(&c, key_bytes)};
    item.value = c;
    if (!cursor_ok(&c))
        return 0;
    AUTO_BUFFER b;
    buffer_init(&b, 65536);
    uint64_t store_id;
    struct segment_head head;
    if (kind == PIECE)
        try_piece(item, &b);
    else if (kind == CHANGES)
        try_changes(item, &b);
    else if (kind == SEGMENT)
        segment_head_decode(item.value, &head, NULL);
    else if (kind == FORMAT)
        format_file_parse((const char *)item.value.next, cursor_left(&item.value), &store_id, NULL);
    else {
        try_small(kind, item, &b);
        try_large(kind, item, &b);
        try_settled(kind, item, &b);
        try_retention(kind, item, &b);
    }
    return 0;
}
