/* The taking out: see thinned.h. */
#include "recoveryd/index/blocks.h"
#include "recoveryd/index/counter.h"
#include "recoveryd/index/index_internal.h"
#include "recoveryd/index/piece_walk.h"
#include "recoveryd/index/runs.h"
#include "recoveryd/index/shadows.h"

#include <stdlib.h>

/*
 * What is looked at for one step, and what is taken out in one. The writer's lock is held for the
 * second only: 4096 changes take some ten ms.
 */
enum {
    STEP_CHANGES = 4096,
    STEP_CHUNKS = 4096,
    STEP_PIECES = 1 << 18,
    STEP_EVENTS = 1 << 15,
    THIN_RANGES = 1 << 14, /* of one chunk that are hidden */
};

/* A change that can go. */
struct chosen {
    uint64_t chunk;
    struct stamp stamp;
    uint64_t part;
    uint64_t length_bytes; /* that had a payload */
    uint32_t segment;
    bool in_runs;
    bool beyond; /* what hides it is not in the runs of its chunk */
};

struct thinning {
    struct index_reader *reader;
    struct piece_walk *walk;
    struct piece_walk *over; /* NULL: it is no base path */
    struct rangeset written; /* over the chunk of a base path */
    const struct thinned_entry *entry;
    const struct thin_ground *ground;
    struct chosen *chosen; /* by chunk */
    size_t count;
    size_t pieces;          /* that were looked at */
    struct shadows by_runs; /* what those in the runs of the chunk hide */
    struct shadows by_all;
};

static void thinning_release(struct thinning *t) {
    shadows_release(&t->by_runs);
    shadows_release(&t->by_all);
    rangeset_release(&t->written);
    piece_walk_destroy(t->over);
    piece_walk_destroy(t->walk);
    index_reader_close(t->reader);
    free(t->chosen);
}

#define AUTO_THINNING __attribute__((cleanup(thinning_release))) struct thinning

/* --- choosing ------------------------------------------------------------------------------------
 */

static void choose(struct thinning *t, uint64_t chunk, const struct piece *p, bool beyond) {
    bool has_payload = p->kind == PIECE_DATA;
    t->chosen[t->count++] = (struct chosen){.chunk = chunk,
                                            .stamp = p->stamp,
                                            .part = p->part,
                                            .length_bytes = has_payload ? p->length_bytes : 0,
                                            .segment = has_payload ? p->extent.segment : 0,
                                            .in_runs = p->place == PIECE_IN_RUNS,
                                            .beyond = beyond};
}

static bool is_hidden(const struct rangeset *by, const struct piece *p) {
    return by != NULL && rangeset_contains(by, p->offset_bytes, p->offset_bytes + p->length_bytes);
}

/*
 * Newest first. Too many ranges to tell apart, or of too many monitors, hide nothing: then more is
 * kept than need be.
 */
static void look_at(struct thinning *t, uint64_t chunk, const struct piece *p) {
    uint64_t end = p->offset_bytes + p->length_bytes;
    if (p->kind == PIECE_GAP)
        return; /* it goes on telling, and hides nothing */
    struct rangeset *runs = shadows_of(&t->by_runs, p->stamp.monitor);
    struct rangeset *all = shadows_of(&t->by_all, p->stamp.monitor);
    bool by_runs = is_hidden(runs, p);
    if (by_runs || is_hidden(all, p) || is_hidden(&t->written, p) ||
        stamp_compare(&p->stamp, &t->ground->baseline) < 0) {
        if (p->place != PIECE_ELSEWHERE)
            choose(t, chunk, p, !by_runs);
        return;
    }
    if (all == NULL || p->part != 0)
        return;
    if (p->place == PIECE_IN_RUNS)
        rangeset_add(runs, p->offset_bytes, end);
    rangeset_add(all, p->offset_bytes, end);
}

/* What lies over a base path's chunk, down to its baseline. */
static int look_over(struct thinning *t, uint64_t chunk, struct error *err) {
    struct stamp until = stamp_end_of(t->entry->until_ns);
    struct piece piece;
    int code = piece_walk_seek(t->over, chunk, &until, err);
    while (code == 0) {
        code = piece_walk_next(t->over, &piece, err);
        if (code != 0 || stamp_compare(&piece.stamp, &t->ground->over_since) <= 0)
            break;
        if (piece.kind != PIECE_GAP && piece.part == 0)
            rangeset_add(&t->written, piece.offset_bytes, piece.offset_bytes + piece.length_bytes);
        t->pieces++;
    }
    return index_ended(code);
}

/* *whole: there was room for all of the chunk that can go. */
static int look_at_chunk(struct thinning *t, uint64_t chunk, bool *whole, struct error *err) {
    struct stamp until = stamp_end_of(t->entry->until_ns);
    struct piece piece;
    shadows_clear(&t->by_runs);
    shadows_clear(&t->by_all);
    rangeset_clear(&t->written);
    int code = t->over != NULL ? look_over(t, chunk, err) : 0;
    if (code == 0)
        code = piece_walk_seek(t->walk, chunk, &until, err);
    for (*whole = true; code == 0;) {
        code = piece_walk_next(t->walk, &piece, err);
        if (code != 0 || (t->over == NULL && piece.stamp.time_ns <= t->entry->from_ns))
            break;
        *whole = t->count < STEP_CHANGES;
        if (!*whole)
            return 0;
        look_at(t, chunk, &piece);
        t->pieces++;
    }
    return index_ended(code);
}

/* From entry->next_chunk on; *next: where the next step begins. */
static int choose_some(struct thinning *t, uint64_t *next, struct error *err) {
    uint64_t path = t->entry->path;
    int code = 0;
    bool whole = true;
    *next = t->entry->next_chunk;
    for (size_t chunks = 0; code == 0 && whole && chunks < STEP_CHUNKS && t->pieces < STEP_PIECES;
         chunks++) {
        uint64_t chunk;
        code = index_next_chunk(t->reader, path, *next, &chunk, err);
        if (code == ERR_NOT_FOUND) {
            *next = THINNED_HISTORY;
            return 0;
        }
        if (code == 0)
            code = look_at_chunk(t, chunk, &whole, err);
        if (code == 0)
            *next = whole ? chunk + 1 : chunk;
    }
    return code;
}

/* --- taking out ----------------------------------------------------------------------------------
 */

/* What one step takes out. The counters are written when another segment comes, and at the end, and
 * not for each change: the writer's lock is held. */
struct taking {
    struct kv_txn *txn;
    const struct thinned_entry *entry;
    struct thin_result *result;
    uint64_t held_bytes; /* less */
    uint32_t segment;    /* of which so much more is dead */
    uint64_t dead_bytes;
    struct error *err;
};

static int count_dead(struct taking *t, uint32_t next) {
    struct kv_key dead = key_segment(t->segment);
    int code = counter_add(t->txn, TABLE_DEAD, &dead, t->dead_bytes, t->err);
    t->segment = next;
    t->dead_bytes = 0;
    return code;
}

static int count_out(struct taking *t, const struct chosen *c) {
    t->result->changes++;
    t->result->bytes += c->length_bytes;
    t->held_bytes += c->in_runs ? c->length_bytes : 0;
    int code = c->segment != t->segment ? count_dead(t, c->segment) : 0;
    t->dead_bytes += c->length_bytes;
    return code;
}

static int count_rest(struct taking *t) {
    struct kv_key held = key_path(t->entry->path);
    int code = count_dead(t, 0);
    return code == 0 ? counter_take(t->txn, TABLE_HELD, &held, t->held_bytes, t->err) : code;
}

/* What is not in the runs is a row of its own. */
static int take_out_row(struct taking *t, const struct chosen *c) {
    struct kv_key key = key_piece(t->entry->path, level_chunk(0, c->chunk), &c->stamp);
    bool found = false;
    key_add_part(&key, c->part);
    int code = kv_delete(t->txn, TABLE_PIECES, &key, &found, t->err);
    return code == 0 && found ? count_out(t, c) : code;
}

/* Those of one chunk, which were chosen newest first. */
static int take_out_chunk(struct taking *t, const struct chosen *list, size_t count) {
    AUTO_FREE struct stamp *stamps = malloc(count * sizeof *stamps);
    AUTO_FREE size_t *numbers = malloc(count * sizeof *numbers);
    AUTO_FREE bool *gone = calloc(count, sizeof *gone);
    struct stamp until = stamp_end_of(t->entry->until_ns);
    bool beyond = false;
    size_t in_runs = 0;
    int code = 0;
    if (stamps == NULL || numbers == NULL || gone == NULL)
        return error_set(t->err, ERR_NOMEM, "out of memory");
    for (size_t i = count; code == 0 && i-- > 0;) {
        if (!list[i].in_runs) {
            code = take_out_row(t, &list[i]);
            continue;
        }
        beyond = beyond || list[i].beyond;
        stamps[in_runs] = list[i].stamp;
        numbers[in_runs++] = i;
    }
    if (code == 0)
        code = runs_drop(t->txn, t->entry->path, level_chunk(0, list[0].chunk), stamps, in_runs,
                         &until, beyond, gone, t->err);
    for (size_t i = 0; code == 0 && i < in_runs; i++) {
        if (gone[i])
            code = count_out(t, &list[numbers[i]]);
    }
    return code;
}

static int take_out(struct taking *t, const struct chosen *list, size_t count) {
    int code = 0;
    for (size_t start = 0, end = 0; code == 0 && start < count; start = end) {
        for (end = start; end < count && list[end].chunk == list[start].chunk;)
            end++;
        code = take_out_chunk(t, &list[start], end - start);
    }
    return code == 0 ? count_rest(t) : code;
}

/* The entry is where it has moved to when that is durable, with what was done up to there. */
static int end_step(struct kv_txn *txn, struct thinned_entry *e, const struct thinned_entry *moved,
                    struct error *err) {
    int code = thinned_put(txn, moved, err);
    if (code != 0) {
        kv_abort(txn);
        return code;
    }
    code = kv_commit(txn, err);
    if (code == 0)
        *e = *moved;
    return code;
}

static int thin_chunks(struct index *i, struct thinned_entry *e, const struct thin_ground *ground,
                       struct thin_result *result, struct error *err) {
    AUTO_THINNING t = {.entry = e,
                       .ground = ground,
                       .by_runs = {.ranges = THIN_RANGES},
                       .by_all = {.ranges = THIN_RANGES}};
    AUTO(kv_txn) txn = NULL;
    struct thinned_entry moved = *e;
    t.chosen = malloc(STEP_CHANGES * sizeof *t.chosen);
    if (t.chosen == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    rangeset_init(&t.written, THIN_RANGES);
    int code = index_read(i, &t.reader, err);
    if (code == 0)
        code = piece_walk_create(t.reader, WALK_ALL, &e->path, 1, 0, &t.walk, err);
    if (code == 0 && ground->over_path != 0)
        code = piece_walk_create(t.reader, WALK_ALL, &ground->over_path, 1, 0, &t.over, err);
    if (code == 0)
        code = choose_some(&t, &moved.next_chunk, err);
    if (code == 0)
        code = kv_write(i->kv, &txn, err);
    struct taking taking = {.txn = txn, .entry = e, .result = result, .err = err};
    if (code == 0)
        code = take_out(&taking, t.chosen, t.count);
    return code == 0 ? end_step(take_pointer(&txn), e, &moved, err) : code;
}

/* --- history -------------------------------------------------------------------------------------
 */

/* Whether any part of the change is still in the runs. */
static int is_left(struct kv_txn *t, uint64_t path, const struct change *c, bool *left,
                   struct error *err) {
    unsigned level = level_of_range(c->offset_bytes, c->length_bytes);
    uint64_t last = (c->offset_bytes + c->length_bytes - 1) >> level_shift(level);
    int code = 0;
    *left = false;
    for (uint64_t n = c->offset_bytes >> level_shift(level); code == 0 && !*left && n <= last; n++)
        code = runs_have(t, path, level_chunk(level, n), &c->stamp, left, err);
    return code;
}

/* A flush point marks a moment, and goes with it. */
static int can_go(struct kv_txn *t, const struct thinned_entry *e, const struct change *c, bool *go,
                  struct error *err) {
    bool left = false;
    *go = c->op == UPDATE_FLUSH && c->stamp.time_ns < e->until_ns;
    if (c->op == UPDATE_FLUSH || c->length_bytes == 0)
        return 0;
    int code = is_left(t, e->path, c, &left, err);
    *go = !left;
    return code;
}

/* The oldest that can go, from entry->next on; where the next step begins, or that it is done. */
static int choose_history(struct kv_txn *t, struct thinned_entry *e, struct stamp *stamps,
                          size_t *count, struct error *err) {
    AUTO(block_cursor) c = NULL;
    const struct kv_key prefix = key_path(e->path);
    const struct change *change = NULL;
    struct stamp from = e->next;
    size_t seen = 0;
    bool go;
    if (e->from_ns > 0 && from.time_ns <= e->from_ns)
        from = (struct stamp){.time_ns = e->from_ns + 1};
    int code = blocks_open(t, TABLE_HISTORY, &c, err);
    if (code == 0)
        code = blocks_seek_up(c, &prefix, &from, &change, err);
    for (; code == 0 && change->stamp.time_ns <= e->until_ns; code = blocks_next(c, &change, err)) {
        e->next = change->stamp;
        if (*count == STEP_CHANGES || seen++ == STEP_EVENTS)
            return 0;
        code = can_go(t, e, change, &go, err);
        if (code != 0)
            return code;
        if (go)
            stamps[(*count)++] = change->stamp;
    }
    e->next_chunk = THINNED_DONE;
    return index_ended(code);
}

static int thin_history(struct index *i, struct thinned_entry *e, struct error *err) {
    AUTO_FREE struct stamp *stamps = malloc(STEP_CHANGES * sizeof *stamps);
    AUTO(kv_txn) reader = NULL;
    AUTO(kv_txn) txn = NULL;
    const struct kv_key prefix = key_path(e->path);
    struct thinned_entry moved = *e;
    size_t count = 0;
    if (stamps == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    int code = kv_read(i->kv, &reader, err);
    if (code == 0)
        code = choose_history(reader, &moved, stamps, &count, err);
    kv_abort(take_pointer(&reader));
    if (code == 0)
        code = kv_write(i->kv, &txn, err);
    if (code == 0)
        code = blocks_drop(txn, TABLE_HISTORY, &prefix, stamps, count, NULL, err);
    return code == 0 ? end_step(take_pointer(&txn), e, &moved, err) : code;
}

int index_thin(struct index *i, struct thinned_entry *e, const struct thin_ground *ground,
               struct thin_result *result, struct error *err) {
    if (e->next_chunk == THINNED_DONE)
        return 0;
    return e->next_chunk < THINNED_HISTORY ? thin_chunks(i, e, ground, result, err)
                                           : thin_history(i, e, err);
}
