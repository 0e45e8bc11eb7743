#include "recoveryd/index/values.h"

/* The tables of version 2: what was announced and what waits to be settled. */

static bool range_ok(uint64_t offset, uint64_t length) {
    return length <= INT64_MAX && offset <= INT64_MAX - length;
}

void value_encode_facts(struct buffer *b, uint64_t facts) {
    buffer_put_le64(b, facts);
}

int value_decode_facts(struct kv_item item, uint64_t *facts, struct error *err) {
    *facts = cursor_le64(&item.value);
    return cursor_ok(&item.value) && cursor_left(&item.value) == 0
               ? 0
               : value_damaged(err, "the number of its facts");
}

void value_encode_size(struct buffer *b, const struct size_entry *s) {
    buffer_put_le64(b, s->size_bytes);
    buffer_put_le32(b, s->block_bytes);
}

int value_decode_size(struct kv_item item, struct size_entry *s, struct error *err) {
    s->path = cursor_be64(&item.key);
    s->time_ns = cursor_be64(&item.key);
    s->size_bytes = cursor_le64(&item.value);
    s->block_bytes = cursor_le32(&item.value);
    if (!value_is_whole(&item) || s->size_bytes > INT64_MAX)
        return value_damaged(err, "a size cannot be read");
    return 0;
}

void size_entry_merge(struct size_entry *into, const struct size_entry *other) {
    if (other->size_bytes > into->size_bytes)
        into->size_bytes = other->size_bytes;
    if (other->block_bytes > into->block_bytes)
        into->block_bytes = other->block_bytes;
}

int value_decode_join(struct kv_item item, uint64_t *path, uint64_t *other, struct error *err) {
    *path = cursor_be64(&item.key);
    *other = cursor_be64(&item.key);
    return value_is_whole(&item) ? 0 : value_damaged(err, "a join of paths cannot be read");
}

int value_decode_resume(struct kv_item item, struct resume_entry *r, struct error *err) {
    r->path = cursor_be64(&item.key);
    r->monitor = cursor_be64(&item.key);
    r->stream = cursor_be64(&item.key);
    r->earlier = cursor_be64(&item.key);
    r->order = cursor_be64(&item.key);
    return value_is_whole(&item) ? 0 : value_damaged(err, "a resumption cannot be read");
}

void value_encode_derived(struct buffer *b, const struct derived_entry *d) {
    buffer_put_u8(b, d->op);
    buffer_put_u8(b, d->state);
    buffer_put_le16(b, 0);
    buffer_put_le32(b, d->block_bytes);
    buffer_put_le64(b, d->issued_ns);
    buffer_put_le64(b, d->offset_bytes);
    buffer_put_le64(b, d->length_bytes);
    if (d->op == UPDATE_COPY) {
        buffer_put_le64(b, d->source_path);
        buffer_put_le64(b, d->source_offset_bytes);
        buffer_put_le64(b, d->source_from_ns);
        buffer_put_le64(b, d->source_until_ns);
        return;
    }
    buffer_put_le32(b, d->payload.segment);
    buffer_put_le32(b, d->payload.bytes);
    buffer_put_le64(b, d->payload.offset);
    buffer_put_le32(b, d->payload_crc32c);
}

static bool derived_source_ok(const struct derived_entry *d) {
    if (d->op == UPDATE_COPY)
        return d->source_path != 0 && range_ok(d->source_offset_bytes, d->length_bytes) &&
               d->source_from_ns <= d->source_until_ns;
    return d->payload.segment != 0 && d->payload.bytes == d->length_bytes &&
           d->length_bytes <= LIMIT_UPDATE_PAYLOAD_BYTES;
}

int value_decode_derived(struct kv_item item, struct derived_entry *d, struct error *err) {
    *d = (struct derived_entry){.stamp = key_take_stamp(&item.key)};
    d->path = cursor_be64(&item.key);
    d->op = cursor_u8(&item.value);
    d->state = cursor_u8(&item.value);
    cursor_skip(&item.value, 2);
    d->block_bytes = cursor_le32(&item.value);
    d->issued_ns = cursor_le64(&item.value);
    d->offset_bytes = cursor_le64(&item.value);
    d->length_bytes = cursor_le64(&item.value);
    if (d->op == UPDATE_COPY) {
        d->source_path = cursor_le64(&item.value);
        d->source_offset_bytes = cursor_le64(&item.value);
        d->source_from_ns = cursor_le64(&item.value);
        d->source_until_ns = cursor_le64(&item.value);
    } else {
        d->payload.segment = cursor_le32(&item.value);
        d->payload.bytes = cursor_le32(&item.value);
        d->payload.offset = cursor_le64(&item.value);
        d->payload_crc32c = cursor_le32(&item.value);
    }
    if (!value_is_whole(&item) || d->op < UPDATE_COPY || d->op > UPDATE_XOR ||
        d->state >= DERIVED_STATES)
        return value_damaged(err, "content that is to be derived has the wrong size or operation");
    if (d->length_bytes == 0 || d->length_bytes > DERIVED_MOST_BYTES ||
        !range_ok(d->offset_bytes, d->length_bytes) || !derived_source_ok(d))
        return value_damaged(err,
                             "content that is to be derived has an impossible range or source");
    return 0;
}

void value_encode_audit(struct buffer *b, const struct audit_entry *a) {
    buffer_put_le64(b, a->issued_ns);
    buffer_put_le64(b, a->offset_bytes);
    buffer_put_le32(b, a->block_bytes);
    buffer_put_le16(b, a->blocks);
    buffer_put_le16(b, a->kind);
    buffer_put(b, a->sums, (size_t)a->blocks * 4);
}

int value_decode_audit(struct kv_item item, struct audit_entry *a, struct error *err) {
    *a = (struct audit_entry){.stamp = key_take_stamp(&item.key)};
    a->path = cursor_be64(&item.key);
    a->issued_ns = cursor_le64(&item.value);
    a->offset_bytes = cursor_le64(&item.value);
    a->block_bytes = cursor_le32(&item.value);
    a->blocks = cursor_le16(&item.value);
    a->kind = cursor_le16(&item.value);
    if (a->blocks == 0 || a->blocks > AUDIT_BLOCKS || a->block_bytes == 0)
        return value_damaged(err, "an audit has an impossible size");
    a->sums = cursor_bytes(&item.value, (size_t)a->blocks * 4);
    if (!value_is_whole(&item) || !range_ok(a->offset_bytes, (uint64_t)a->blocks * a->block_bytes))
        return value_damaged(err, "an audit cannot be read");
    return 0;
}

void value_encode_audited(struct buffer *b, const struct audited_entry *a) {
    buffer_put_le64(b, a->audits);
    buffer_put_le64(b, a->blocks);
    buffer_put_le64(b, a->skipped);
    buffer_put_le64(b, a->proven);
    buffer_put_le64(b, a->mismatches);
    buffer_put_le64(b, a->mismatch_ns);
    buffer_put_le64(b, a->mismatch_offset);
    buffer_put_le64(b, a->mismatch_length);
}

int value_decode_audited(struct kv_item item, struct audited_entry *a, struct error *err) {
    a->path = cursor_be64(&item.key);
    a->audits = cursor_le64(&item.value);
    a->blocks = cursor_le64(&item.value);
    a->skipped = cursor_le64(&item.value);
    a->proven = cursor_le64(&item.value);
    a->mismatches = cursor_le64(&item.value);
    a->mismatch_ns = cursor_le64(&item.value);
    a->mismatch_offset = cursor_le64(&item.value);
    a->mismatch_length = cursor_le64(&item.value);
    return value_is_whole(&item) ? 0 : value_damaged(err, "what audits found cannot be read");
}

void audited_entry_merge(struct audited_entry *into, const struct audited_entry *other) {
    into->audits += other->audits;
    into->blocks += other->blocks;
    into->skipped += other->skipped;
    into->proven += other->proven;
    into->mismatches += other->mismatches;
    if (other->mismatch_ns < into->mismatch_ns || other->mismatch_ns == 0)
        return;
    into->mismatch_ns = other->mismatch_ns;
    into->mismatch_offset = other->mismatch_offset;
    into->mismatch_length = other->mismatch_length;
}
