#include "recoveryd/index/piece_walk.h"

#include "recoveryd/index/index_internal.h"
#include "recoveryd/index/runs.h"
#include "recoveryd/index/values.h"

/*
 * One path at one level, in one of the places where its pieces can be: rows of their own (gaps,
 * what is derived or proven, what version 2 wrote), runs, or the journal's tail.
 */
enum lane_kind { LANE_ROWS, LANE_RUNS, LANE_TAIL, LANE_KINDS };

struct lane {
    enum lane_kind kind;
    struct kv_cursor *rows;
    struct run_cursor *runs;
    const struct tail *tail;
    size_t tail_at; /* parts of the tail before it are older, and still to come */
    uint64_t path;
    unsigned level;
    bool stranger;
    bool live;         /* `head` is the newest piece not yet given out */
    struct piece head; /* cut to the chunk */
};

struct piece_walk {
    enum piece_walk_kind kind;
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
        *code = index_ended(*code);
        return false;
    }
    return cursor_be64(&item.key) == path && cursor_be64(&item.key) >> 56 == level;
}

static bool tail_has_level(const struct tail *tail, uint64_t path, unsigned level) {
    size_t at = tail_first(tail, path, level_chunk(level, 0));
    return at < tail->count && tail->parts[at].path == path &&
           tail->parts[at].level_chunk >> 56 == level;
}

/* A lane for a table, if it has any of that path and level. */
static int add_table_lane(struct piece_walk *w, struct index_reader *r, const struct lane *like,
                          unsigned table, struct error *err) {
    AUTO(kv_cursor) probe = NULL;
    int code = kv_cursor_open(r->txn, table, &probe, err);
    if (code != 0 || !has_level(probe, like->path, like->level, &code, err))
        return code;
    struct lane *lane = &w->lanes[w->count];
    *lane = *like;
    code = lane->kind == LANE_ROWS ? kv_cursor_open(r->txn, table, &lane->rows, err)
                                   : runs_open(r->txn, w->kind == WALK_ALL, &lane->runs, err);
    w->count += code == 0;
    return code;
}

static int add_lanes(struct piece_walk *w, struct index_reader *r, uint64_t path, bool stranger,
                     struct error *err) {
    struct lane lane = {.path = path, .stranger = stranger};
    int code = reader_tail(r, &lane.tail, err);
    for (; code == 0 && lane.level < LEVELS; lane.level++) {
        lane.kind = LANE_ROWS;
        code = add_table_lane(w, r, &lane, TABLE_PIECES, err);
        lane.kind = LANE_RUNS;
        if (code == 0)
            code = add_table_lane(w, r, &lane, TABLE_RUNS, err);
        lane.kind = LANE_TAIL;
        if (code == 0 && tail_has_level(lane.tail, path, lane.level))
            w->lanes[w->count++] = lane;
    }
    return code;
}

int piece_walk_create(struct index_reader *r, enum piece_walk_kind kind, const uint64_t *paths,
                      size_t count, size_t strangers, struct piece_walk **out, struct error *err) {
    AUTO(piece_walk) w = calloc(1, sizeof *w + count * LEVELS * LANE_KINDS * sizeof w->lanes[0]);
    if (w == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    w->kind = kind;
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
    for (size_t i = 0; i < w->count; i++) {
        kv_cursor_close(w->lanes[i].rows);
        run_cursor_close(w->lanes[i].runs);
    }
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

static uint64_t wanted_chunk(const struct piece_walk *w, const struct lane *lane) {
    return level_chunk(lane->level, w->chunk >> (LEVEL_STEP_BITS * lane->level));
}

/* From the item that the cursor is at (code says whether there is one) to a piece that counts. */
static int settle_rows(struct piece_walk *w, struct lane *lane, struct kv_item *item, int code,
                       struct error *err) {
    uint64_t wanted = wanted_chunk(w, lane);
    for (; code == 0; code = kv_previous(lane->rows, item, err)) {
        uint64_t path;
        uint64_t chunk;
        int decoded = value_decode_piece(*item, &path, &chunk, &lane->head, err);
        if (decoded != 0)
            return decoded;
        if (path != lane->path || chunk != wanted)
            break;
        lane->head.place = lane->level == 0 ? PIECE_IN_ROWS : PIECE_ELSEWHERE;
        if (cut(&lane->head, w->chunk)) {
            lane->live = true;
            return 0;
        }
    }
    lane->live = false;
    return index_ended(code);
}

static bool needs_payload(const struct change *c) {
    return c->op == UPDATE_WRITE || c->op == UPDATE_PATTERN;
}

/* The same for a change that the runs gave. */
static int settle_runs(struct piece_walk *w, struct lane *lane, const struct change *change,
                       int code, struct error *err) {
    for (; code == 0; code = runs_previous(lane->runs, &change, err)) {
        if (change->op == UPDATE_FLUSH || (needs_payload(change) && change->extent.bytes == 0))
            return error_set(err, ERR_FORMAT, "the index is damaged: a run of pieces");
        lane->head = change_piece(change);
        lane->head.place = lane->level == 0 ? PIECE_IN_RUNS : PIECE_ELSEWHERE;
        if (cut(&lane->head, w->chunk)) {
            lane->live = true;
            return 0;
        }
    }
    lane->live = false;
    return index_ended(code);
}

static void settle_tail(struct piece_walk *w, struct lane *lane) {
    uint64_t wanted = wanted_chunk(w, lane);
    lane->live = false;
    while (lane->tail_at > 0 && !lane->live) {
        const struct tail_part *part = &lane->tail->parts[lane->tail_at - 1];
        if (part->path != lane->path || part->level_chunk != wanted)
            return;
        struct change change = tail_part_change(lane->tail, --lane->tail_at);
        lane->head = change_piece(&change);
        lane->live = cut(&lane->head, w->chunk);
    }
}

static int seek_lane(struct piece_walk *w, struct lane *lane, const struct stamp *until,
                     struct error *err) {
    uint64_t wanted = wanted_chunk(w, lane);
    struct kv_key key = key_piece(lane->path, wanted, until);
    struct kv_item item;
    const struct change *change = NULL;
    switch (lane->kind) {
    case LANE_ROWS:
        key_add_part(&key, UINT64_MAX);
        return settle_rows(w, lane, &item, kv_seek_down(lane->rows, &key, &item, err), err);
    case LANE_RUNS: {
        int code = runs_seek(lane->runs, lane->path, wanted, until, &change, err);
        return settle_runs(w, lane, change, code, err);
    }
    default:
        lane->tail_at = tail_find(lane->tail, lane->path, wanted, until);
        settle_tail(w, lane);
        return 0;
    }
}

static int advance_lane(struct piece_walk *w, struct lane *lane, struct error *err) {
    struct kv_item item;
    const struct change *change = NULL;
    switch (lane->kind) {
    case LANE_ROWS:
        return settle_rows(w, lane, &item, kv_previous(lane->rows, &item, err), err);
    case LANE_RUNS: {
        int code = runs_previous(lane->runs, &change, err);
        return settle_runs(w, lane, change, code, err);
    }
    default:
        settle_tail(w, lane);
        return 0;
    }
}

int piece_walk_seek(struct piece_walk *w, uint64_t chunk, const struct stamp *until,
                    struct error *err) {
    int code = 0;
    w->chunk = chunk;
    for (size_t i = 0; code == 0 && i < w->count; i++)
        code = seek_lane(w, &w->lanes[i], until, err);
    return code;
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
    return advance_lane(w, newest, err);
}
