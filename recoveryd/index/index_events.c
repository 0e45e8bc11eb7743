#include "recoveryd/index/blocks.h"
#include "recoveryd/index/index_internal.h"

/*
 * Updates and flush points by time. They lie in three places: rows of their own (those whose
 * content is derived, and what version 2 wrote), the history, and the journal's tail.
 */

struct happening {
    struct stamp stamp;
    uint64_t offset_bytes;
    uint64_t length_bytes;
    uint8_t op;
};

enum { ROWS, HISTORY, TAIL, PLACES };

struct event_walk {
    uint64_t path;
    struct kv_cursor *rows;
    struct block_cursor *history;
    const struct tail *tail;
    size_t tail_at; /* of the next one */
    bool live[PLACES];
    struct happening heads[PLACES];
};

static struct happening happening_of(const struct change *c) {
    return (struct happening){c->stamp, c->offset_bytes, c->length_bytes, c->op};
}

static void event_walk_end(struct event_walk *w) {
    kv_cursor_close(w->rows);
    block_cursor_close(w->history);
}

#define AUTO_EVENT_WALK __attribute__((cleanup(event_walk_end))) struct event_walk

static int event_walk_open(struct event_walk *w, struct index_reader *r, uint64_t path,
                           struct error *err) {
    *w = (struct event_walk){.path = path};
    int code = kv_cursor_open(r->txn, TABLE_EVENTS, &w->rows, err);
    if (code == 0)
        code = blocks_open(r->txn, TABLE_HISTORY, &w->history, err);
    return code == 0 ? reader_tail(r, &w->tail, err) : code;
}

/* code: whether there is an item, a change. */
static int take_row(struct event_walk *w, int code, struct kv_item *item, struct error *err) {
    struct event_entry event;
    uint64_t path = 0;
    struct happening *head = &w->heads[ROWS];
    if (code == 0)
        code = value_decode_event(*item, &path, &head->stamp, &event, err);
    w->live[ROWS] = code == 0 && path == w->path;
    if (w->live[ROWS]) {
        head->offset_bytes = event.offset_bytes;
        head->length_bytes = event.length_bytes;
        head->op = event.op;
    }
    return index_ended(code);
}

/* A pointer to it, as it is there only when the call that tells the code is done. */
static int take_history(struct event_walk *w, int code, const struct change *const *change) {
    w->live[HISTORY] = code == 0;
    if (code == 0)
        w->heads[HISTORY] = happening_of(*change);
    return index_ended(code);
}

static void take_tail(struct event_walk *w, size_t at) {
    const struct changes *all = &w->tail->changes;
    w->live[TAIL] = at < all->count && all->list[at].path == w->path;
    w->tail_at = at;
    if (w->live[TAIL])
        w->heads[TAIL] = happening_of(&all->list[at]);
}

/* --- upwards -------------------------------------------------------------------------------------
 */

static int seek_up(struct event_walk *w, uint64_t from_ns, struct error *err) {
    struct kv_item item;
    const struct change *change = NULL;
    const struct stamp from = {.time_ns = from_ns};
    const struct kv_key prefix = key_path(w->path);
    struct kv_key key = key_stamped(w->path, &from);
    int code = take_row(w, kv_seek_up(w->rows, &key, &item, err), &item, err);
    if (code == 0)
        code = take_history(w, blocks_seek_up(w->history, &prefix, &from, &change, err), &change);
    if (code == 0)
        take_tail(w, tail_first_change(w->tail, w->path, &from));
    return code;
}

static int advance(struct event_walk *w, int place, struct error *err) {
    struct kv_item item;
    const struct change *change = NULL;
    switch (place) {
    case ROWS:
        return take_row(w, kv_next(w->rows, &item, err), &item, err);
    case HISTORY:
        return take_history(w, blocks_next(w->history, &change, err), &change);
    default:
        take_tail(w, w->tail_at + 1);
        return 0;
    }
}

/* The oldest head, which may be in several places at once. ERR_NOT_FOUND: none is left. */
static int next_event(struct event_walk *w, struct happening *next, struct error *err) {
    const struct happening *oldest = NULL;
    for (int i = 0; i < PLACES; i++) {
        if (w->live[i] && (oldest == NULL || stamp_compare(&w->heads[i].stamp, &oldest->stamp) < 0))
            oldest = &w->heads[i];
    }
    if (oldest == NULL)
        return ERR_NOT_FOUND;
    *next = *oldest;
    int code = 0;
    for (int i = 0; code == 0 && i < PLACES; i++) {
        if (w->live[i] && stamp_compare(&w->heads[i].stamp, &next->stamp) == 0)
            code = advance(w, i, err);
    }
    return code;
}

int index_each_event(struct index_reader *r, uint64_t path, uint64_t from_ns, uint64_t until_ns,
                     bool (*visit)(void *, const struct stamp *, uint8_t op, uint64_t offset_bytes,
                                   uint64_t length_bytes),
                     void *context, struct error *err) {
    AUTO_EVENT_WALK w = {0};
    struct happening h;
    int code = event_walk_open(&w, r, path, err);
    if (code == 0)
        code = seek_up(&w, from_ns, err);
    while (code == 0 && (code = next_event(&w, &h, err)) == 0) {
        if (h.stamp.time_ns > until_ns ||
            !visit(context, &h.stamp, h.op, h.offset_bytes, h.length_bytes))
            return 0;
    }
    return index_ended(code);
}

/* --- downwards -----------------------------------------------------------------------------------
 */

/* Of each place the newest one that is no flush point. */
static int newest_row(struct event_walk *w, const struct stamp *until, struct error *err) {
    struct kv_item item;
    struct kv_key key = key_stamped(w->path, until);
    int code = take_row(w, kv_seek_down(w->rows, &key, &item, err), &item, err);
    while (code == 0 && w->live[ROWS] && w->heads[ROWS].op == UPDATE_FLUSH)
        code = take_row(w, kv_previous(w->rows, &item, err), &item, err);
    return code;
}

static int newest_of_history(struct event_walk *w, const struct stamp *until, struct error *err) {
    const struct change *change = NULL;
    const struct kv_key prefix = key_path(w->path);
    int code = take_history(w, blocks_seek_down(w->history, &prefix, until, &change, err), &change);
    while (code == 0 && w->live[HISTORY] && w->heads[HISTORY].op == UPDATE_FLUSH)
        code = take_history(w, blocks_previous(w->history, &change, err), &change);
    return code;
}

static void newest_of_tail(struct event_walk *w, const struct stamp *until) {
    size_t at = tail_find_change(w->tail, w->path, until);
    w->live[TAIL] = false;
    while (at > 0) {
        take_tail(w, --at);
        if (!w->live[TAIL] || w->heads[TAIL].op != UPDATE_FLUSH)
            return;
    }
    w->live[TAIL] = false;
}

int index_newest_update(struct index_reader *r, uint64_t path, uint64_t until_ns,
                        struct stamp *stamp, struct error *err) {
    AUTO_EVENT_WALK w = {0};
    const struct stamp until = stamp_end_of(until_ns);
    int code = event_walk_open(&w, r, path, err);
    if (code == 0)
        code = newest_row(&w, &until, err);
    if (code == 0)
        code = newest_of_history(&w, &until, err);
    if (code != 0)
        return code;
    newest_of_tail(&w, &until);
    bool found = false;
    for (int i = 0; i < PLACES; i++) {
        if (!w.live[i] || (found && stamp_compare(&w.heads[i].stamp, stamp) < 0))
            continue;
        *stamp = w.heads[i].stamp;
        found = true;
    }
    return found ? 0 : ERR_NOT_FOUND;
}
