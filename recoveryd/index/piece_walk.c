#include "recoveryd/index/piece_walk.h"

#include "recoveryd/index/index_internal.h"
#include "recoveryd/index/values.h"

/* One path at one level that has pieces at all. */
struct lane {
    struct kv_cursor *cursor;
    uint64_t path;
    unsigned level;
    bool stranger;
    bool live;         /* `head` is the newest piece not yet given out */
    struct piece head; /* cut to the chunk */
};

struct piece_walk {
    uint64_t chunk;
    size_t count;
    struct lane lanes[];
};

static bool has_level(struct kv_cursor *c, uint64_t path, unsigned level, int *code,
                      struct error *err) {
    struct kv_item item;
    struct kv_key key = key_piece(path, level_chunk(level, 0), &(struct stamp){0});
    *code = kv_seek_up(c, &key, &item, err);
    if (*code != 0) {
        *code = *code == ERR_NOT_FOUND ? 0 : *code;
        return false;
    }
    return cursor_be64(&item.key) == path && cursor_be64(&item.key) >> 56 == level;
}

static int add_lanes(struct piece_walk *w, struct index_reader *r, uint64_t path, bool stranger,
                     struct error *err) {
    AUTO(kv_cursor) probe = NULL;
    int code = kv_cursor_open(r->txn, TABLE_PIECES, &probe, err);
    for (unsigned level = 0; code == 0 && level < LEVELS; level++) {
        if (!has_level(probe, path, level, &code, err))
            continue;
        struct lane *lane = &w->lanes[w->count];
        code = kv_cursor_open(r->txn, TABLE_PIECES, &lane->cursor, err);
        if (code != 0)
            return code;
        lane->path = path;
        lane->level = level;
        lane->stranger = stranger;
        w->count++;
    }
    return code;
}

int piece_walk_create(struct index_reader *r, const uint64_t *paths, size_t count, size_t strangers,
                      struct piece_walk **out, struct error *err) {
    AUTO(piece_walk) w = calloc(1, sizeof *w + count * LEVELS * sizeof w->lanes[0]);
    if (w == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    for (size_t i = 0; i < count; i++) {
        int code = add_lanes(w, r, paths[i], i + strangers >= count, err);
        if (code != 0)
            return code;
    }
    *out = take_pointer(&w);
    return 0;
}

void piece_walk_destroy(struct piece_walk *w) {
    if (w == NULL)
        return;
    for (size_t i = 0; i < w->count; i++)
        kv_cursor_close(w->lanes[i].cursor);
    free(w);
}

/* Cuts a piece to the chunk; false when it lies beside it (a larger chunk's piece may). */
static bool cut(struct piece *piece, uint64_t chunk) {
    uint64_t start = chunk * INDEX_CHUNK_BYTES;
    uint64_t end = start + INDEX_CHUNK_BYTES;
    uint64_t piece_end = piece->offset_bytes + piece->length_bytes;
    if (piece->offset_bytes >= end || piece_end <= start)
        return false;
    if (piece->offset_bytes < start)
        piece->offset_bytes = start;
    piece->length_bytes = (piece_end < end ? piece_end : end) - piece->offset_bytes;
    return true;
}

/* From the item that the cursor is at (code says whether there is one) to a piece that counts. */
static int settle(struct piece_walk *w, struct lane *lane, struct kv_item *item, int code,
                  struct error *err) {
    uint64_t wanted = level_chunk(lane->level, w->chunk >> (LEVEL_STEP_BITS * lane->level));
    for (; code == 0; code = kv_previous(lane->cursor, item, err)) {
        uint64_t path;
        uint64_t chunk;
        int decoded = value_decode_piece(*item, &path, &chunk, &lane->head, err);
        if (decoded != 0)
            return decoded;
        if (path != lane->path || chunk != wanted)
            break;
        if (cut(&lane->head, w->chunk)) {
            lane->live = true;
            return 0;
        }
    }
    lane->live = false;
    return code == ERR_NOT_FOUND ? 0 : code;
}

int piece_walk_seek(struct piece_walk *w, uint64_t chunk, const struct stamp *until,
                    struct error *err) {
    w->chunk = chunk;
    for (size_t i = 0; i < w->count; i++) {
        struct lane *lane = &w->lanes[i];
        struct kv_item item;
        uint64_t number = chunk >> (LEVEL_STEP_BITS * lane->level);
        struct kv_key key = key_piece(lane->path, level_chunk(lane->level, number), until);
        key_add_part(&key, UINT64_MAX);
        int code = kv_seek_down(lane->cursor, &key, &item, err);
        code = settle(w, lane, &item, code, err);
        if (code != 0)
            return code;
    }
    return 0;
}

/* Of one stamp and part, what lies in smaller chunks was derived later: see add_lanes(). */
static bool is_newer(const struct piece *a, const struct piece *b) {
    int order = stamp_compare(&a->stamp, &b->stamp);
    return order != 0 ? order > 0 : a->part > b->part;
}

int piece_walk_next(struct piece_walk *w, struct piece *piece, struct error *err) {
    struct lane *newest = NULL;
    for (size_t i = 0; i < w->count; i++) {
        struct lane *lane = &w->lanes[i];
        if (lane->live && (newest == NULL || is_newer(&lane->head, &newest->head)))
            newest = lane;
    }
    if (newest == NULL)
        return ERR_NOT_FOUND;
    *piece = newest->head;
    piece->stranger = newest->stranger;
    struct kv_item item;
    int code = kv_previous(newest->cursor, &item, err);
    return settle(w, newest, &item, code, err);
}
