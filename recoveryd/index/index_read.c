#include "recoveryd/index/index_internal.h"
#include "recoveryd/index/index_resumed.h"
#include "recoveryd/index/piece_walk.h"

int index_read(struct index *i, struct index_reader **out, struct error *err) {
    struct index_reader *r = calloc(1, sizeof *r);
    if (r == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    int code = kv_read(i->kv, &r->txn, err);
    if (code != 0) {
        free(r);
        return code;
    }
    pthread_mutex_init(&r->lock, NULL);
    *out = r;
    return 0;
}

static int make_tail(struct index_reader *r, struct error *err) {
    AUTO_CHANGES changes = {0};
    uint64_t last;
    int code = journal_read(r->txn, SIZE_MAX, &changes, &last, err);
    if (code == 0)
        code = tail_make(&r->tail, &changes, err);
    r->has_tail = code == 0;
    if (code != 0)
        tail_release(&r->tail);
    return code;
}

int reader_tail(struct index_reader *r, const struct tail **tail, struct error *err) {
    pthread_mutex_lock(&r->lock);
    int code = r->has_tail ? 0 : make_tail(r, err);
    pthread_mutex_unlock(&r->lock);
    *tail = &r->tail;
    return code;
}

void index_reader_close(struct index_reader *r) {
    if (r == NULL)
        return;
    kv_abort(r->txn);
    tail_release(&r->tail);
    pthread_mutex_destroy(&r->lock);
    free(r);
}

int index_each_path(struct index_reader *r, bool (*visit)(void *, const struct path_entry *),
                    void *context, struct error *err) {
    AUTO(kv_cursor) c = NULL;
    struct kv_item item;
    struct path_entry path;
    int code = kv_cursor_open(r->txn, TABLE_PATHS, &c, err);
    if (code != 0)
        return code;
    struct kv_key from = key_path(0);
    for (code = kv_seek_up(c, &from, &item, err); code == 0; code = kv_next(c, &item, err)) {
        code = value_decode_path(item, &path, err);
        if (code != 0 || !visit(context, &path))
            return code;
    }
    return index_ended(code);
}

int index_each_stream(struct index_reader *r, bool (*visit)(void *, const struct stream_entry *),
                      void *context, struct error *err) {
    AUTO(kv_cursor) c = NULL;
    struct kv_item item;
    struct stream_entry stream;
    int code = kv_cursor_open(r->txn, TABLE_STREAMS, &c, err);
    if (code != 0)
        return code;
    struct kv_key from = key_stream(0, 0);
    for (code = kv_seek_up(c, &from, &item, err); code == 0; code = kv_next(c, &item, err)) {
        code = value_decode_stream(item, &stream, err);
        if (code != 0 || !visit(context, &stream))
            return code;
    }
    return index_ended(code);
}

int index_each_stream_of_path(struct index_reader *r, uint64_t path,
                              bool (*visit)(void *, uint64_t monitor, uint64_t stream),
                              void *context, struct error *err) {
    AUTO(kv_cursor) c = NULL;
    struct kv_item item;
    int code = kv_cursor_open(r->txn, TABLE_PATH_STREAMS, &c, err);
    if (code != 0)
        return code;
    struct kv_key from = key_path_stream(path, 0, 0);
    for (code = kv_seek_up(c, &from, &item, err); code == 0; code = kv_next(c, &item, err)) {
        if (cursor_be64(&item.key) != path)
            return 0;
        uint64_t monitor = cursor_be64(&item.key);
        uint64_t stream = cursor_be64(&item.key);
        if (!cursor_ok(&item.key))
            return error_set(err, ERR_FORMAT, "the index is damaged: a path's stream");
        if (!visit(context, monitor, stream))
            return 0;
    }
    return index_ended(code);
}

int index_each_gap(struct index_reader *r, uint64_t path, uint64_t until_ns,
                   bool (*visit)(void *, const struct gap_entry *), void *context,
                   struct error *err) {
    AUTO(kv_cursor) c = NULL;
    struct kv_item item;
    struct gap_entry gap;
    int code = kv_cursor_open(r->txn, TABLE_GAPS, &c, err);
    if (code != 0)
        return code;
    struct kv_key from = key_stamped(path, &(struct stamp){0});
    for (code = kv_seek_up(c, &from, &item, err); code == 0; code = kv_next(c, &item, err)) {
        bool resumed = false;
        code = value_decode_gap(item, &gap, err);
        if (code != 0 || gap.path != path || gap.stamp.time_ns > until_ns)
            return code;
        if (is_restart_gap(gap.reason, &gap.stamp))
            code = resumed_look_up(r, path, &gap.stamp, &resumed, err);
        if (code != 0 || (!resumed && !visit(context, &gap)))
            return code;
    }
    return index_ended(code);
}

int index_each_piece(struct index_reader *r, uint64_t path, uint64_t chunk, uint64_t until_ns,
                     bool (*visit)(void *, const struct piece *), void *context,
                     struct error *err) {
    AUTO(piece_walk) walk = NULL;
    struct piece piece;
    int code = piece_walk_create(r, WALK_ALL, &path, 1, 0, &walk, err);
    struct stamp until = stamp_end_of(until_ns);
    if (code == 0)
        code = piece_walk_seek(walk, chunk, &until, err);
    while (code == 0) {
        code = piece_walk_next(walk, &piece, err);
        if (code == 0 && !visit(context, &piece))
            return 0;
    }
    return index_ended(code);
}

/* The first chunk >= from that lies in the chunk with this number of (path, level); UINT64_MAX:
 * none. */
static uint64_t chunk_from(uint64_t path, unsigned level, uint64_t from, uint64_t found_path,
                           uint64_t found) {
    if (found_path != path || found >> 56 != level)
        return UINT64_MAX;
    uint64_t first = (found & ((UINT64_C(1) << 56) - 1)) << (LEVEL_STEP_BITS * level);
    return first > from ? first : from;
}

static uint64_t level_chunk_of(unsigned level, uint64_t chunk) {
    return level_chunk(level, chunk >> (LEVEL_STEP_BITS * level));
}

/* In one of the tables whose keys begin with path and chunk. */
static int next_in_table(struct kv_txn *t, unsigned table, uint64_t path, uint64_t from,
                         uint64_t *chunk, struct error *err) {
    AUTO(kv_cursor) c = NULL;
    int code = kv_cursor_open(t, table, &c, err);
    for (unsigned level = 0; code == 0 && level < LEVELS && *chunk != from; level++) {
        struct kv_item item;
        struct kv_key key = key_piece(path, level_chunk_of(level, from), &(struct stamp){0});
        code = kv_seek_up(c, &key, &item, err);
        if (code != 0) {
            code = index_ended(code);
            continue;
        }
        uint64_t found_path = cursor_be64(&item.key);
        uint64_t next = chunk_from(path, level, from, found_path, cursor_be64(&item.key));
        *chunk = next < *chunk ? next : *chunk;
    }
    return code;
}

static void next_in_tail(const struct tail *tail, uint64_t path, uint64_t from, uint64_t *chunk) {
    for (unsigned level = 0; level < LEVELS && *chunk != from; level++) {
        size_t i = tail_first(tail, path, level_chunk_of(level, from));
        if (i == tail->count)
            continue;
        uint64_t next =
            chunk_from(path, level, from, tail->parts[i].path, tail->parts[i].level_chunk);
        *chunk = next < *chunk ? next : *chunk;
    }
}

int index_next_chunk(struct index_reader *r, uint64_t path, uint64_t from, uint64_t *chunk,
                     struct error *err) {
    const struct tail *tail;
    if (from >= INDEX_CHUNK_COUNT)
        return ERR_NOT_FOUND;
    *chunk = UINT64_MAX;
    int code = next_in_table(r->txn, TABLE_RUNS, path, from, chunk, err);
    if (code == 0)
        code = next_in_table(r->txn, TABLE_PIECES, path, from, chunk, err);
    if (code == 0)
        code = reader_tail(r, &tail, err);
    if (code != 0)
        return code;
    next_in_tail(tail, path, from, chunk);
    return *chunk == UINT64_MAX ? ERR_NOT_FOUND : 0;
}

int index_each_floor(struct index_reader *r, uint64_t path, uint64_t until_ns,
                     bool (*visit)(void *, const struct floor *), void *context,
                     struct error *err) {
    AUTO(kv_cursor) c = NULL;
    struct kv_item item;
    struct floor floor;
    uint64_t found;
    struct stamp until = stamp_end_of(until_ns);
    int code = kv_cursor_open(r->txn, TABLE_FLOORS, &c, err);
    if (code != 0)
        return code;
    struct kv_key from = key_floor(path, &until, UINT8_MAX);
    for (code = kv_seek_down(c, &from, &item, err); code == 0; code = kv_previous(c, &item, err)) {
        bool resumed = false;
        code = value_decode_floor(item, &found, &floor, err);
        if (code != 0 || found != path)
            return code;
        if (floor.kind == FLOOR_GAP && is_restart_gap(floor.reason, &floor.stamp))
            code = resumed_look_up(r, path, &floor.stamp, &resumed, err);
        if (code != 0 || (!resumed && !visit(context, &floor)))
            return code;
    }
    return index_ended(code);
}

static int newest_gap(struct index_reader *r, uint64_t path, uint64_t until_ns, struct stamp *stamp,
                      struct error *err) {
    AUTO(kv_cursor) c = NULL;
    struct kv_item item;
    struct gap_entry gap;
    struct stamp until = stamp_end_of(until_ns);
    struct kv_key from = key_stamped(path, &until);
    key_add_part(&from, UINT64_MAX);
    int code = kv_cursor_open(r->txn, TABLE_GAPS, &c, err);
    if (code == 0)
        code = kv_seek_down(c, &from, &item, err);
    if (code == 0)
        code = value_decode_gap(item, &gap, err);
    if (code != 0)
        return code;
    *stamp = gap.stamp;
    return gap.path == path ? 0 : ERR_NOT_FOUND;
}

int index_newest_change(struct index_reader *r, uint64_t path, uint64_t until_ns,
                        struct stamp *stamp, struct error *err) {
    struct stamp gap;
    int updated = index_newest_update(r, path, until_ns, stamp, err);
    if (updated != 0 && updated != ERR_NOT_FOUND)
        return updated;
    int doubted = newest_gap(r, path, until_ns, &gap, err);
    if (doubted != 0 && doubted != ERR_NOT_FOUND)
        return doubted;
    if (doubted == 0 && (updated != 0 || stamp_compare(&gap, stamp) > 0))
        *stamp = gap;
    return updated == 0 || doubted == 0 ? 0 : ERR_NOT_FOUND;
}
