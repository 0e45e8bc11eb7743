#include "recoveryd/index/index_internal.h"

/* Reading the tables of version 2. */

int index_each_size(struct index_reader *r, uint64_t path,
                    bool (*visit)(void *, const struct size_entry *), void *context,
                    struct error *err) {
    AUTO(kv_cursor) c = NULL;
    struct kv_item item;
    struct size_entry size;
    int code = kv_cursor_open(r->txn, TABLE_SIZES, &c, err);
    if (code != 0)
        return code;
    struct kv_key from = key_size(path, 0);
    for (code = kv_seek_up(c, &from, &item, err); code == 0; code = kv_next(c, &item, err)) {
        code = value_decode_size(item, &size, err);
        if (code != 0 || size.path != path || !visit(context, &size))
            return code;
    }
    return index_ended(code);
}

int index_each_join(struct index_reader *r, bool (*visit)(void *, uint64_t path, uint64_t other),
                    void *context, struct error *err) {
    AUTO(kv_cursor) c = NULL;
    struct kv_item item;
    int code = kv_cursor_open(r->txn, TABLE_JOINS, &c, err);
    if (code != 0)
        return code;
    struct kv_key from = key_join(0, 0);
    for (code = kv_seek_up(c, &from, &item, err); code == 0; code = kv_next(c, &item, err)) {
        uint64_t path;
        uint64_t other;
        code = value_decode_join(item, &path, &other, err);
        if (code != 0 || !visit(context, path, other))
            return code;
    }
    return index_ended(code);
}

int index_get_stream(struct index_reader *r, uint64_t monitor, uint64_t stream,
                     struct stream_entry *entry, struct error *err) {
    struct kv_key key = key_stream(monitor, stream);
    struct kv_item item = {.key = cursor_of(key.bytes, key.length)};
    int code = kv_get(r->txn, TABLE_STREAMS, &key, &item.value, err);
    return code == 0 ? value_decode_stream(item, entry, err) : code;
}

int index_gap_text(struct index_reader *r, uint64_t path, const struct stamp *stamp,
                   char text[LIMIT_REASON_BYTES + 1], struct error *err) {
    AUTO(kv_cursor) c = NULL;
    struct kv_item item;
    struct gap_entry gap;
    struct kv_key key = key_stamped(path, stamp);
    text[0] = '\0';
    int code = kv_cursor_open(r->txn, TABLE_GAPS, &c, err);
    if (code == 0)
        code = kv_seek_up(c, &key, &item, err);
    if (code == 0)
        code = value_decode_gap(item, &gap, err);
    if (code == 0 && gap.path == path && stamp_compare(&gap.stamp, stamp) == 0)
        snprintf(text, LIMIT_REASON_BYTES + 1, "%s", gap.text);
    return index_ended(code);
}

int index_facts(struct index_reader *r, uint64_t *facts, struct error *err) {
    return facts_read(r->txn, facts, err);
}

/* The first item of a table of what waits, behind the one of `stamp` and `path`. */
static int next_waiting(struct kv_cursor *c, const struct stamp *stamp, uint64_t path,
                        struct kv_item *item, struct error *err) {
    struct kv_key from = key_waiting(stamp, path);
    if (path != 0)
        kv_key_add(&from, 0, 1);
    return kv_seek_up(c, &from, item, err);
}

int index_next_derived(struct index_reader *r, const struct derived_entry *after,
                       struct derived_entry *next, struct error *err) {
    AUTO(kv_cursor) c = NULL;
    struct kv_item item;
    static const struct derived_entry start;
    after = after != NULL ? after : &start;
    int code = kv_cursor_open(r->txn, TABLE_DERIVED, &c, err);
    if (code == 0)
        code = next_waiting(c, &after->stamp, after->path, &item, err);
    return code == 0 ? value_decode_derived(item, next, err) : code;
}

static int each_derived(struct kv_cursor *c,
                        bool (*visit)(void *context, const struct derived_entry *d), void *context,
                        bool *goes_on, struct error *err) {
    struct kv_item item;
    struct derived_entry d;
    int code = next_waiting(c, &(struct stamp){0}, 0, &item, err);
    while (code == 0 && *goes_on) {
        code = value_decode_derived(item, &d, err);
        if (code != 0)
            return code;
        *goes_on = visit(context, &d);
        code = kv_next(c, &item, err);
    }
    return index_ended(code);
}

int index_each_derived(struct index_reader *r,
                       bool (*visit)(void *context, const struct derived_entry *d), void *context,
                       struct error *err) {
    static const uint8_t tables[] = {TABLE_DERIVED, TABLE_DERIVED_STUCK, TABLE_DERIVED_DONE};
    bool goes_on = true;
    int code = 0;
    for (size_t i = 0; code == 0 && goes_on && i < sizeof tables; i++) {
        AUTO(kv_cursor) c = NULL;
        code = kv_cursor_open(r->txn, tables[i], &c, err);
        if (code == 0)
            code = each_derived(c, visit, context, &goes_on, err);
    }
    return code;
}

int index_next_audit(struct index_reader *r, const struct audit_entry *after,
                     struct audit_entry *next, struct error *err) {
    AUTO(kv_cursor) c = NULL;
    struct kv_item item;
    static const struct audit_entry start;
    after = after != NULL ? after : &start;
    int code = kv_cursor_open(r->txn, TABLE_AUDITS, &c, err);
    if (code == 0)
        code = next_waiting(c, &after->stamp, after->path, &item, err);
    return code == 0 ? value_decode_audit(item, next, err) : code;
}

int index_count_waiting(struct index_reader *r, struct waiting_counts *counts, struct error *err) {
    int code = kv_count(r->txn, TABLE_DERIVED, &counts->derived, err);
    if (code == 0)
        code = kv_count(r->txn, TABLE_DERIVED_STUCK, &counts->stuck, err);
    return code == 0 ? kv_count(r->txn, TABLE_AUDITS, &counts->audits, err) : code;
}

int index_get_audited(struct index_reader *r, uint64_t path, struct audited_entry *audited,
                      struct error *err) {
    struct kv_key key = key_path(path);
    struct kv_item item = {.key = cursor_of(key.bytes, key.length)};
    *audited = (struct audited_entry){.path = path};
    int code = kv_get(r->txn, TABLE_AUDITED, &key, &item.value, err);
    return code == 0 ? value_decode_audited(item, audited, err) : index_ended(code);
}
