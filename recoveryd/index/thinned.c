#include "recoveryd/index/thinned.h"

#include "recoveryd/index/counter.h"
#include "recoveryd/index/index_internal.h"

#include <string.h>

/* --- stretches -----------------------------------------------------------------------------------
 */

/* The first stretch of the path that ends at or behind until_ns. ERR_NOT_FOUND. */
static int seek(struct kv_txn *t, uint64_t path, uint64_t until_ns, struct thinned_entry *e,
                struct error *err) {
    AUTO(kv_cursor) c = NULL;
    struct kv_item item;
    struct kv_key key = key_thinned(path, until_ns);
    int code = kv_cursor_open(t, TABLE_THINNED, &c, err);
    if (code == 0)
        code = kv_seek_up(c, &key, &item, err);
    if (code == 0)
        code = value_decode_thinned(item, e, err);
    return code;
}

int thinned_at(struct kv_txn *t, uint64_t path, uint64_t time_ns, bool below,
               struct thinned_entry *e, struct error *err) {
    uint64_t first_ns = below || time_ns == UINT64_MAX ? time_ns : time_ns + 1;
    int code = seek(t, path, first_ns, e, err);
    if (code == 0 && (e->path != path || e->from_ns >= time_ns))
        return ERR_NOT_FOUND;
    return code;
}

int index_thinned_at(struct index_reader *r, uint64_t path, uint64_t time_ns, bool below,
                     struct thinned_entry *e, struct error *err) {
    return thinned_at(r->txn, path, time_ns, below, e, err);
}

int index_next_thinning(struct index_reader *r, struct thinned_entry *e, struct error *err) {
    AUTO(kv_cursor) c = NULL;
    struct kv_item item;
    struct kv_key first = key_path(0);
    int code = kv_cursor_open(r->txn, TABLE_THINNING, &c, err);
    if (code == 0)
        code = kv_seek_up(c, &first, &item, err);
    if (code != 0)
        return code;
    uint64_t path = cursor_be64(&item.key);
    uint64_t until_ns = cursor_be64(&item.key);
    code = seek(r->txn, path, until_ns, e, err);
    if (code == ERR_NOT_FOUND || (code == 0 && (e->path != path || e->until_ns != until_ns)))
        return error_set(err, ERR_FORMAT, "the index is damaged: what is being thinned");
    return code;
}

int index_thinned_ends(struct index_reader *r, uint64_t path, uint64_t *horizon_ns,
                       uint64_t *until_ns, struct error *err) {
    AUTO(kv_cursor) c = NULL;
    struct kv_item item;
    struct thinned_entry e;
    struct kv_key key = key_thinned(path, UINT64_MAX);
    *horizon_ns = 0;
    *until_ns = 0;
    int code = kv_cursor_open(r->txn, TABLE_THINNED, &c, err);
    if (code == 0)
        code = kv_seek_down(c, &key, &item, err);
    if (code == 0)
        code = value_decode_thinned(item, &e, err);
    if (code == 0 && e.path == path)
        *until_ns = e.until_ns;
    if (code == 0)
        code = seek(r->txn, path, 0, &e, err);
    if (code == 0 && e.path == path && e.from_ns == 0)
        *horizon_ns = e.until_ns;
    return index_ended(code);
}

/* Those that lie inside of (from, until). */
static int remove_inside(struct kv_txn *t, const struct thinned_entry *e, struct error *err) {
    struct thinned_entry inner = {.until_ns = e->from_ns};
    int code;
    while ((code = seek(t, e->path, inner.until_ns + 1, &inner, err)) == 0) {
        bool found;
        struct kv_key key = key_thinned(inner.path, inner.until_ns);
        if (inner.path != e->path || inner.until_ns > e->until_ns)
            return 0;
        if (inner.from_ns < e->from_ns)
            return error_set(err, ERR_USAGE, "a stretch that lies across another one");
        code = kv_delete(t, TABLE_THINNED, &key, &found, err);
        if (code == 0)
            code = kv_delete(t, TABLE_THINNING, &key, &found, err);
        if (code != 0)
            return code;
    }
    return index_ended(code);
}

int thinned_put(struct kv_txn *t, const struct thinned_entry *e, struct error *err) {
    AUTO_BUFFER value;
    buffer_init(&value, 64);
    struct kv_key key = key_thinned(e->path, e->until_ns);
    value_encode_thinned(&value, e);
    if (value.failed)
        return error_set(err, ERR_NOMEM, "out of memory");
    int code = kv_put(t, TABLE_THINNED, &key, value.data, value.length, err);
    if (code == 0 && e->next_chunk != THINNED_DONE)
        return kv_put(t, TABLE_THINNING, &key, "", 0, err);
    bool found;
    return code == 0 ? kv_delete(t, TABLE_THINNING, &key, &found, err) : code;
}

int index_put_thinned(struct index *i, const struct thinned_entry *list, size_t count,
                      struct error *err) {
    AUTO(kv_txn) t = NULL;
    int code = kv_write(i->kv, &t, err);
    for (size_t n = 0; code == 0 && n < count; n++) {
        code = remove_inside(t, &list[n], err);
        if (code == 0)
            code = thinned_put(t, &list[n], err);
    }
    return code == 0 ? kv_commit(take_pointer(&t), err) : code;
}

/* --- what is kept --------------------------------------------------------------------------------
 */

int index_held(struct index_reader *r, uint64_t path, uint64_t *bytes, struct error *err) {
    struct kv_key key = key_path(path);
    return counter_get(r->txn, TABLE_HELD, &key, bytes, err);
}

int index_each_dead(struct index_reader *r, bool (*visit)(void *, uint32_t segment, uint64_t bytes),
                    void *context, struct error *err) {
    AUTO(kv_cursor) c = NULL;
    struct kv_item item;
    struct kv_key from = key_segment(0);
    int code = kv_cursor_open(r->txn, TABLE_DEAD, &c, err);
    if (code != 0)
        return code;
    for (code = kv_seek_up(c, &from, &item, err); code == 0; code = kv_next(c, &item, err)) {
        uint32_t segment = cursor_be32(&item.key);
        uint64_t bytes = cursor_le64(&item.value);
        if (!cursor_ok(&item.key) || !cursor_ok(&item.value))
            return error_set(err, ERR_FORMAT, "the index is damaged: what of a segment is dead");
        if (!visit(context, segment, bytes))
            return 0;
    }
    return index_ended(code);
}

/* --- rules ---------------------------------------------------------------------------------------
 */

int index_put_retention(struct index *i, const struct retention_entry *e, bool remove,
                        struct error *err) {
    AUTO(kv_txn) t = NULL;
    AUTO_BUFFER value;
    bool found;
    struct kv_key key = key_retention(e->volume);
    buffer_init(&value, 2 * LIMIT_NAME_BYTES);
    value_encode_retention(&value, e);
    if (value.failed)
        return error_set(err, ERR_NOMEM, "out of memory");
    int code = kv_write(i->kv, &t, err);
    if (code == 0 && remove)
        code = kv_delete(t, TABLE_RETENTIONS, &key, &found, err);
    else if (code == 0)
        code = kv_put(t, TABLE_RETENTIONS, &key, value.data, value.length, err);
    return code == 0 ? kv_commit(take_pointer(&t), err) : code;
}

static int get(struct index_reader *r, const char *volume, struct retention_entry *e,
               struct error *err) {
    struct kv_key key = key_retention(volume);
    struct kv_item item = {.key = cursor_of(key.bytes, key.length)};
    int code = kv_get(r->txn, TABLE_RETENTIONS, &key, &item.value, err);
    return code == 0 ? value_decode_retention(item, e, err) : code;
}

int index_get_retention(struct index_reader *r, const char *volume, struct retention_entry *e,
                        struct error *err) {
    int code = get(r, volume, e, err);
    return code == ERR_NOT_FOUND ? get(r, "", e, err) : code;
}

int index_each_retention(struct index_reader *r,
                         bool (*visit)(void *, const struct retention_entry *), void *context,
                         struct error *err) {
    AUTO(kv_cursor) c = NULL;
    struct kv_item item;
    struct retention_entry e;
    struct kv_key from = key_path(0);
    int code = kv_cursor_open(r->txn, TABLE_RETENTIONS, &c, err);
    if (code != 0)
        return code;
    for (code = kv_seek_up(c, &from, &item, err); code == 0; code = kv_next(c, &item, err)) {
        code = value_decode_retention(item, &e, err);
        if (code != 0 || !visit(context, &e))
            return code;
    }
    return index_ended(code);
}
