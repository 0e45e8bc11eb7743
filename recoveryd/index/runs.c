#include "recoveryd/index/runs.h"

#include "recoveryd/index/blocks.h"
#include "recoveryd/index/index_internal.h"
#include "recoveryd/index/shadows.h"

#include <stdlib.h>
#include <string.h>

enum {
    KEYFRAME_BLOCKS = 24,    /* of runs between two of them, and: */
    BLOCK_CHANGES = 30,      /* about so many are in one */
    KEYFRAME_SHARE = 3,      /* times as many bytes as the last one took */
    KEYFRAME_CHANGES = 8192, /* one that would be larger is not made */
    MOST_REMADE = 64,        /* at one insertion, of those that it made wrong */
};

static const struct stamp last_stamp = {UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX};

/* --- reading -------------------------------------------------------------------------------------
 */

struct run_cursor {
    struct block_cursor *blocks;
    struct kv_cursor *keyframes; /* NULL: they are not wanted */
    bool has_keyframe;
    bool in_keyframe;
    struct stamp keyframe_stamp;
    struct cursor keyframe; /* its value, borrowed */
    struct changes shown;   /* what it holds, once in_keyframe */
};

int runs_open(struct kv_txn *t, bool all, struct run_cursor **out, struct error *err) {
    AUTO(run_cursor) c = calloc(1, sizeof *c);
    if (c == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    int code = blocks_open(t, TABLE_RUNS, &c->blocks, err);
    if (code == 0 && !all)
        code = kv_cursor_open(t, TABLE_KEYFRAMES, &c->keyframes, err);
    if (code == 0)
        *out = take_pointer(&c);
    return code;
}

void run_cursor_close(struct run_cursor *c) {
    if (c == NULL)
        return;
    block_cursor_close(c->blocks);
    kv_cursor_close(c->keyframes);
    changes_release(&c->shown);
    free(c);
}

static int find_keyframe(struct run_cursor *c, const struct kv_key *prefix,
                         const struct stamp *until, struct error *err) {
    struct kv_item item;
    struct kv_key key = block_key(prefix, until);
    c->has_keyframe = false;
    c->in_keyframe = false;
    if (c->keyframes == NULL)
        return 0;
    int code = kv_seek_down(c->keyframes, &key, &item, err);
    if (code == 0 && block_key_stamp(item.key, prefix, &c->keyframe_stamp)) {
        c->has_keyframe = true;
        c->keyframe = item.value;
    }
    return index_ended(code);
}

static int next_of_keyframe(struct run_cursor *c, const struct change **change) {
    if (c->shown.count == 0)
        return ERR_NOT_FOUND;
    *change = &c->shown.list[--c->shown.count];
    return 0;
}

/* The runs gave this (code says whether anything): from the keyframe's stamp on it is the
 * keyframe's turn. */
static int or_keyframe(struct run_cursor *c, int code, const struct change **change,
                       struct error *err) {
    if (!c->has_keyframe || (code != 0 && code != ERR_NOT_FOUND) ||
        (code == 0 && stamp_compare(&(*change)->stamp, &c->keyframe_stamp) > 0))
        return code;
    c->in_keyframe = true;
    c->shown.count = 0;
    code = changes_unpack(&c->shown, change_state_none(), c->keyframe, err);
    return code == 0 ? next_of_keyframe(c, change) : code;
}

int runs_seek(struct run_cursor *c, uint64_t path, uint64_t level_chunk, const struct stamp *until,
              const struct change **change, struct error *err) {
    struct kv_key prefix = key_run(path, level_chunk);
    int code = find_keyframe(c, &prefix, until, err);
    if (code != 0)
        return code;
    return or_keyframe(c, blocks_seek_down(c->blocks, &prefix, until, change, err), change, err);
}

int runs_previous(struct run_cursor *c, const struct change **change, struct error *err) {
    if (c->in_keyframe)
        return next_of_keyframe(c, change);
    return or_keyframe(c, blocks_previous(c->blocks, change, err), change, err);
}

/* --- keyframes -----------------------------------------------------------------------------------
 */

struct gathering {
    struct changes shown; /* newest first */
    struct shadows shadows;
};

static void gathering_release(struct gathering *g) {
    shadows_release(&g->shadows);
    changes_release(&g->shown);
}

#define AUTO_GATHERING __attribute__((cleanup(gathering_release))) struct gathering

/* What is not hidden yet of a change is shown. False: it does not fit into a keyframe. */
static bool show(struct gathering *g, const struct change *c) {
    struct changes *shown = &g->shown;
    struct rangeset *hidden = shadows_of(&g->shadows, c->stamp.monitor);
    if (hidden == NULL)
        return false;
    uint64_t end = c->offset_bytes + c->length_bytes;
    struct range hole = {c->offset_bytes, c->offset_bytes};
    while (hole.end < end && rangeset_missing(hidden, hole.end, end, &hole)) {
        struct change part = *c;
        part.offset_bytes = hole.start;
        part.length_bytes = hole.end - hole.start;
        if (shown->count >= KEYFRAME_CHANGES || !changes_add(shown, &part))
            return false;
    }
    return rangeset_add(hidden, c->offset_bytes, end);
}

/* Newest first; *whole: all of it fits into a keyframe. */
static int gather_shown(struct kv_txn *t, uint64_t path, uint64_t level_chunk,
                        const struct stamp *until, struct gathering *g, bool *whole,
                        struct error *err) {
    AUTO(run_cursor) c = NULL;
    const struct change *change = NULL;
    int code = runs_open(t, false, &c, err);
    if (code == 0)
        code = runs_seek(c, path, level_chunk, until, &change, err);
    *whole = true;
    while (code == 0 && *whole) {
        *whole = show(g, change);
        code = runs_previous(c, &change, err);
    }
    return index_ended(code);
}

static int make_keyframe(struct kv_txn *t, uint64_t path, uint64_t level_chunk,
                         const struct stamp *stamp, struct error *err) {
    AUTO_GATHERING g = {.shadows = {.ranges = KEYFRAME_CHANGES}};
    AUTO_BUFFER value;
    struct change_state state = change_state_none();
    bool whole = false;
    buffer_init(&value, (size_t)KEYFRAME_CHANGES * CHANGE_MOST_BYTES);
    int code = gather_shown(t, path, level_chunk, stamp, &g, &whole, err);
    if (code != 0 || !whole)
        return code;
    for (size_t i = g.shown.count; i-- > 0;)
        change_pack(&state, &value, &g.shown.list[i]);
    if (value.failed)
        return error_set(err, ERR_NOMEM, "out of memory");
    struct kv_key prefix = key_run(path, level_chunk);
    struct kv_key key = block_key(&prefix, stamp);
    return kv_put(t, TABLE_KEYFRAMES, &key, value.data, value.length, err);
}

/* Those at or behind a stamp do not hold what is now put before them, or hold what is taken out. */
static int remove_keyframes(struct kv_txn *t, const struct kv_key *prefix, const struct stamp *from,
                            const struct stamp *to, struct stamp removed[MOST_REMADE],
                            size_t *count, struct error *err) {
    AUTO(kv_cursor) c = NULL;
    struct kv_item item;
    struct stamp stamp;
    struct kv_key key = block_key(prefix, from);
    *count = 0;
    int code = kv_cursor_open(t, TABLE_KEYFRAMES, &c, err);
    while (code == 0 && (code = kv_seek_up(c, &key, &item, err)) == 0) {
        bool found;
        if (!block_key_stamp(item.key, prefix, &stamp) || stamp_compare(&stamp, to) > 0)
            return 0;
        if (*count < MOST_REMADE)
            removed[(*count)++] = stamp;
        key = block_key(prefix, &stamp);
        code = kv_delete(t, TABLE_KEYFRAMES, &key, &found, err);
    }
    return index_ended(code);
}

/* The last keyframe's stamp, and how many blocks of runs there ought to be behind it before the
 * next. */
static int last_keyframe(struct kv_txn *t, const struct kv_key *prefix, struct stamp *stamp,
                         size_t *wanted, struct error *err) {
    AUTO(kv_cursor) c = NULL;
    struct kv_item item;
    struct kv_key key = block_key(prefix, &last_stamp);
    *stamp = (struct stamp){0};
    *wanted = KEYFRAME_BLOCKS;
    int code = kv_cursor_open(t, TABLE_KEYFRAMES, &c, err);
    if (code == 0)
        code = kv_seek_down(c, &key, &item, err);
    if (code != 0 || !block_key_stamp(item.key, prefix, stamp))
        return index_ended(code);
    size_t share = KEYFRAME_SHARE * cursor_left(&item.value) / BLOCK_MOST_BYTES;
    *wanted = share > KEYFRAME_BLOCKS ? share : KEYFRAME_BLOCKS;
    return 0;
}

/* *due: so many blocks have come behind the last keyframe that there ought to be another, at
 * *stamp: before the last block, where what comes a little late is not expected any more. */
static int is_due(struct kv_txn *t, const struct kv_key *prefix, bool *due, struct stamp *stamp,
                  struct error *err) {
    AUTO(kv_cursor) c = NULL;
    struct kv_item item;
    struct stamp after;
    struct stamp first;
    size_t wanted;
    size_t blocks = 0;
    struct kv_key key = block_key(prefix, &last_stamp);
    *due = false;
    int code = last_keyframe(t, prefix, &after, &wanted, err);
    if (code == 0)
        code = kv_cursor_open(t, TABLE_RUNS, &c, err);
    if (code == 0)
        code = kv_seek_down(c, &key, &item, err);
    for (; code == 0; code = kv_previous(c, &item, err)) {
        if (!block_key_stamp(item.key, prefix, &first) || stamp_compare(&first, &after) <= 0)
            return 0;
        if (++blocks == 2) {
            AUTO_CHANGES block = {0};
            code = changes_unpack(&block, change_state_at(&first), item.value, err);
            if (code != 0 || block.count == 0)
                return code;
            *stamp = block.list[block.count - 1].stamp;
        }
        if (blocks > wanted) {
            *due = true;
            return 0;
        }
    }
    return index_ended(code);
}

int runs_insert(struct kv_txn *t, uint64_t path, uint64_t level_chunk, const struct change *list,
                size_t count, struct error *err) {
    struct kv_key prefix = key_run(path, level_chunk);
    struct stamp remade[MOST_REMADE];
    struct stamp stamp;
    size_t removed;
    size_t blocks = 0;
    bool due = false;
    if (count == 0)
        return 0;
    int code = remove_keyframes(t, &prefix, &list[0].stamp, &last_stamp, remade, &removed, err);
    if (code == 0)
        code = blocks_insert(t, TABLE_RUNS, &prefix, list, count, NULL, &blocks, err);
    for (size_t i = 0; code == 0 && i < removed; i++)
        code = make_keyframe(t, path, level_chunk, &remade[i], err);
    if (code == 0 && blocks > 0)
        code = is_due(t, &prefix, &due, &stamp, err);
    return code == 0 && due ? make_keyframe(t, path, level_chunk, &stamp, err) : code;
}

/* --- dropping ------------------------------------------------------------------------------------
 */

/* Many blocks lie between `until` and the last keyframe before it; *stamp: of the newest change up
 * to there. */
static int is_due_before(struct kv_txn *t, uint64_t path, uint64_t level_chunk,
                         const struct stamp *until, bool *due, struct stamp *stamp,
                         struct error *err) {
    AUTO(run_cursor) c = NULL;
    const struct change *change = NULL;
    size_t changes = 0;
    *due = false;
    int code = runs_open(t, false, &c, err);
    if (code == 0)
        code = runs_seek(c, path, level_chunk, until, &change, err);
    if (code == 0)
        *stamp = change->stamp;
    for (; code == 0 && !*due && !c->in_keyframe; code = runs_previous(c, &change, err))
        *due = ++changes > (size_t)KEYFRAME_BLOCKS * BLOCK_CHANGES;
    return index_ended(code);
}

/* Keyframes from the first one that was taken out on are gone; those that are needed come back. */
static int remake_keyframes(struct kv_txn *t, uint64_t path, uint64_t level_chunk,
                            const struct stamp *until, const struct stamp *removed, size_t count,
                            struct error *err) {
    struct stamp stamp;
    bool due = false;
    int code = is_due_before(t, path, level_chunk, until, &due, &stamp, err);
    if (code == 0 && due)
        code = make_keyframe(t, path, level_chunk, &stamp, err);
    for (size_t i = 0; code == 0 && i < count; i++) {
        if (stamp_compare(&removed[i], until) > 0)
            code = make_keyframe(t, path, level_chunk, &removed[i], err);
    }
    return code;
}

int runs_drop(struct kv_txn *t, uint64_t path, uint64_t level_chunk, const struct stamp *stamps,
              size_t count, const struct stamp *until, bool beyond, bool *gone, struct error *err) {
    struct kv_key prefix = key_run(path, level_chunk);
    struct stamp removed[MOST_REMADE];
    size_t removed_count = 0;
    if (count == 0)
        return 0;
    int code = remove_keyframes(t, &prefix, &stamps[0], beyond ? &last_stamp : until, removed,
                                &removed_count, err);
    if (code == 0)
        code = blocks_drop(t, TABLE_RUNS, &prefix, stamps, count, gone, err);
    return code == 0 ? remake_keyframes(t, path, level_chunk, until, removed, removed_count, err)
                     : code;
}

int runs_have(struct kv_txn *t, uint64_t path, uint64_t level_chunk, const struct stamp *stamp,
              bool *have, struct error *err) {
    AUTO(block_cursor) c = NULL;
    const struct change *change = NULL;
    struct kv_key prefix = key_run(path, level_chunk);
    int code = blocks_open(t, TABLE_RUNS, &c, err);
    if (code == 0)
        code = blocks_seek_down(c, &prefix, stamp, &change, err);
    *have = code == 0 && stamp_compare(&change->stamp, stamp) == 0;
    return index_ended(code);
}
