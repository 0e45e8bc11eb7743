#include "tap/publish/link_state.h"

#include <stdlib.h>

/*
 * While older batches are read from files, one in LIVE_SHARE is of those that were just published.
 * A server does not take marks far ahead of its frontier (docs/wire-protocol.md): WINDOW is half of
 * it.
 */
enum { MAX_PENDING = 1024, LIVE_SHARE = 4, WINDOW = 1 << 17 };
#define RETRY_NS     (5 * NS_PER_SECOND)
#define RETRY_MAX_NS (60 * NS_PER_SECOND)

static const char let_go[] = "the spool had to let go of what it lacks";

/* --- what is under way ---------------------------------------------------------------------------
 */

static void unsend(struct link *l, struct pending *pending) {
    if (!pending->sent)
        return;
    pending->sent = false;
    l->under_way_bytes -= pending->bytes;
}

static void drop_pending(struct link *l, struct pending **at) {
    struct pending *gone = *at;
    unsend(l, gone);
    *at = gone->next;
    if (l->last == &gone->next)
        l->last = at;
    l->pending_count--;
    free(gone);
}

void link_lane_is_down(struct link *l, unsigned lane) {
    l->states[lane] = LANE_DOWN;
    for (struct pending *p = l->first; p != NULL; p = p->next) {
        if (p->lane == lane)
            unsend(l, p);
    }
}

static bool is_durable(const struct link *l, uint64_t first, uint64_t end) {
    return end <= l->frontier ||
           rangeset_contains(&l->beyond, first > l->frontier ? first : l->frontier, end);
}

void link_forget_acknowledged(struct link *l) {
    for (struct pending **at = &l->first; *at != NULL;) {
        if (is_durable(l, (*at)->first_order, (*at)->end_order))
            drop_pending(l, at);
        else
            at = &(*at)->next;
    }
}

void link_rewind(struct link *l) {
    while (l->first != NULL)
        drop_pending(l, &l->first);
    spool_give_back(&l->next.piece);
    spool_give_back(&l->live.piece);
    l->live_from = UINT64_MAX;
    l->next.reader.stream = l->live.reader.stream = l->stream;
    l->next.reader.order = l->frontier;
}

/* --- reading -------------------------------------------------------------------------------------
 */

static bool is_in_window(const struct link *l, const struct spool_piece *piece) {
    return piece->end_order - l->frontier <= WINDOW;
}

/* SPOOL_PIECE: it is in the source, and the server does not have it yet. */
static int read_source(struct link *l, struct link_source *source, struct error *err) {
    if (source->reader.order < l->frontier)
        source->reader.order = l->frontier;
    while (source->piece.data == NULL) {
        int found = spool_read(l->spool, &source->reader, &source->piece, err);
        if (found != SPOOL_PIECE)
            return found;
        if (is_durable(l, source->piece.first_order, source->piece.end_order))
            spool_give_back(&source->piece);
    }
    return SPOOL_PIECE;
}

/* What is read from files is old: what is in memory need not wait for it. */
static void begin_live(struct link *l) {
    if (l->live_from != UINT64_MAX || l->next.piece.batch != NULL)
        return;
    uint64_t order = spool_first_held(l->spool, l->stream);
    if (order == UINT64_MAX || order < l->next.piece.end_order)
        return;
    l->live_from = l->live.reader.order = order;
}

/* The older batches have come to where the live ones began: what those did not reach is next. */
static void join_live(struct link *l) {
    const struct spool_piece *live = &l->live.piece;
    l->next.reader.order = live->data != NULL ? live->first_order : l->live.reader.order;
    spool_give_back(&l->next.piece);
    spool_give_back(&l->live.piece);
    l->live_from = UINT64_MAX;
}

static bool has_reached_live(const struct link *l) {
    const struct link_source *next = &l->next;
    return (next->piece.data != NULL ? next->piece.first_order : next->reader.order) >=
           l->live_from;
}

/* True: the next batch is in l->next. */
static bool read_next(struct link *l) {
    struct error err;
    if (has_reached_live(l))
        join_live(l);
    int found = read_source(l, &l->next, &err);
    if (found == SPOOL_PIECE && has_reached_live(l)) {
        join_live(l);
        found = read_source(l, &l->next, &err);
    }
    if (found == SPOOL_PIECE)
        begin_live(l);
    else if (found != SPOOL_NOTHING)
        link_give_up_stream(l, found < 0 ? err.text : let_go);
    return found == SPOOL_PIECE;
}

/* True: a batch that was just published is in l->live, and it is its turn. */
static bool read_live(struct link *l) {
    if (l->live_from == UINT64_MAX || l->turn++ % LIVE_SHARE != 0)
        return false;
    return read_source(l, &l->live, NULL) == SPOOL_PIECE && is_in_window(l, &l->live.piece);
}

bool link_is_done(struct link *l) {
    return l->first == NULL && !read_next(l) && l->turn_to == 0;
}

/* --- sending -------------------------------------------------------------------------------------
 */

/* The next lane that can take a batch, in turn; lane_count when none can. */
static unsigned pick_lane(struct link *l) {
    for (unsigned tries = 0; tries < l->lane_count; tries++) {
        unsigned lane = l->next_lane;
        l->next_lane = (lane + 1) % l->lane_count;
        if (l->states[lane] == LANE_UP)
            return lane;
    }
    return l->lane_count;
}

static bool has_credit(const struct link *l, size_t bytes) {
    return l->under_way_bytes == 0 || l->under_way_bytes + bytes <= l->credit_bytes;
}

/* False: not now. */
static bool send_piece(struct link *l, const struct spool_piece *piece, struct pending *pending) {
    unsigned lane = pick_lane(l);
    if (lane == l->lane_count || !lanes_send(l->lanes, lane, piece->data, piece->bytes))
        return false;
    pending->bytes = piece->bytes; /* a batch that was thinned meanwhile is smaller */
    pending->sent = true;
    pending->lane = lane;
    pending->sent_at = clock_mono();
    l->under_way_bytes += piece->bytes;
    return true;
}

/* What a broken connection took with it. False: not now. */
static bool send_again(struct link *l, struct pending *pending) {
    struct spool_piece piece;
    struct error err;
    if (!has_credit(l, pending->bytes))
        return false;
    l->again.stream = l->stream;
    l->again.order = pending->first_order;
    int found = spool_read(l->spool, &l->again, &piece, &err);
    if (found != SPOOL_PIECE) {
        link_give_up_stream(l, found < 0 ? err.text : let_go);
        return false;
    }
    bool sent = send_piece(l, &piece, pending);
    spool_give_back(&piece);
    return sent;
}

/* False: not now. */
static bool send_source(struct link *l, struct link_source *source) {
    struct spool_piece *piece = &source->piece;
    if (!has_credit(l, piece->bytes))
        return false;
    struct pending *pending = calloc(1, sizeof *pending);
    if (pending == NULL || !send_piece(l, piece, pending)) {
        free(pending);
        return false;
    }
    pending->first_order = piece->first_order;
    pending->end_order = piece->end_order;
    pending->retry_ns = RETRY_NS;
    *l->last = pending;
    l->last = &pending->next;
    l->pending_count++;
    spool_give_back(piece);
    return true;
}

static bool send_next(struct link *l) {
    if (l->turn_to != 0 || l->idle || l->pending_count == MAX_PENDING)
        return false;
    if (read_live(l))
        return send_source(l, &l->live);
    return read_next(l) && (l->first == NULL || is_in_window(l, &l->next.piece)) &&
           send_source(l, &l->next);
}

static bool has_lane(const struct link *l) {
    for (unsigned i = 0; i < l->lane_count; i++) {
        if (l->states[i] == LANE_UP)
            return true;
    }
    return false;
}

static void retry_overdue(struct link *l) {
    for (struct pending *p = l->first; p != NULL; p = p->next) {
        if (!p->sent || clock_since_ns(p->sent_at) < p->retry_ns)
            continue;
        unsend(l, p);
        if (p->retry_ns < RETRY_MAX_NS)
            p->retry_ns *= 2;
    }
}

void link_send_waiting(struct link *l) {
    retry_overdue(l);
    if (!has_lane(l))
        return;
    for (struct pending *p = l->first; p != NULL; p = p->next) {
        if (!p->sent && !send_again(l, p))
            return;
    }
    while (send_next(l)) {
    }
}
