#include "tap/tcp/tcp.h"

#include "common/clock.h"
#include "tap/tcp/internal.h"

#include <stdlib.h>
#include <sys/random.h>
#include <utlist.h>

/* Farther behind than any retransmission: no sender has so much unacknowledged. */
#define SIDE_PAST (UINT64_C(64) << 20)

/* Of what may be held back, so much more for what passed. */
#define PASSED_SHARE 8

struct tcp_limits tcp_default_limits(void) {
    return (struct tcp_limits){
        .connections = 65536,
        .connection_bytes = 16 << 20,
        .total_bytes = 64 << 20,
        .reorder_window_ns = 500 * NS_PER_MS,
        .idle_ns = 3600 * NS_PER_SECOND,
    };
}

struct tcp *tcp_create(const struct tcp_consumer *consumer, const struct tcp_limits *limits) {
    struct tcp *t = calloc(1, sizeof *t);
    if (t == NULL)
        return NULL;
    t->consumer = *consumer;
    t->limits = *limits;
    t->passed.most = limits->total_bytes / PASSED_SHARE / sizeof(struct passed_run);
    if (getrandom(&t->hash_seed, sizeof t->hash_seed, GRND_NONBLOCK) < 0)
        t->hash_seed = clock_mono().ns;
    return t;
}

static bool reset_pending(const struct connection *c) {
    return c->sides[0].reset_at != SIDE_NEVER || c->sides[1].reset_at != SIDE_NEVER;
}

void tcp_destroy(struct tcp *t) {
    if (t == NULL)
        return;
    struct connection *c = NULL;
    struct connection *following = NULL;
    HASH_ITER(hh, t->connections, c, following) {
        connection_finish(t, c, reset_pending(c) ? TCP_END_RESET : TCP_END_SHUTDOWN);
    }
    tcp_drop(t);
}

void tcp_drop(struct tcp *t) {
    struct connection *c = NULL;
    struct connection *following = NULL;
    if (t == NULL)
        return;
    HASH_ITER(hh, t->connections, c, following) {
        table_remove(t, c);
    }
    free(t);
}

/* A RST that came a window ago stands, unless its side went on sending behind it. */
static void review_reset(struct tcp *t, struct connection *c) {
    for (unsigned i = 0; i < 2; i++)
        if (c->sides[i].next > c->sides[i].reset_at)
            c->sides[i].reset_at = SIDE_NEVER;
    if (reset_pending(c) && t->now_ns - c->ended_ns >= t->limits.reorder_window_ns)
        connection_finish(t, c, TCP_END_RESET);
}

/* A connection has waited for a whole reorder window. */
static void review(struct tcp *t, struct connection *c) {
    if (c->state == CONNECTION_JOINING && connection_held(c) > 0)
        handshake_settle(t, c);
    while (c->state == CONNECTION_OPEN && connection_lose_settled(t, c)) {
        /* behind one hole there may be another */
    }
    if (c->state == CONNECTION_OPEN && reset_pending(c))
        review_reset(t, c);
    if (connection_waits(c) && t->now_ns - c->last_ns > t->limits.idle_ns) {
        t->counters.evicted++;
        connection_finish(t, c, TCP_END_EVICTED);
    }
    if (connection_waits(c)) {
        /* What was acknowledged behind the last look may still be missing. */
        uint64_t pending_ns = c->due_ns - t->limits.reorder_window_ns;
        table_watch(t, c);
        c->pending_ns = pending_ns;
    }
}

void tcp_tick(struct tcp *t, uint64_t now_ns) {
    if (now_ns > t->now_ns)
        t->now_ns = now_ns;
    struct connection *c = t->waiting;
    while (c != NULL && c->due_ns <= t->now_ns) {
        DL_DELETE2(t->waiting, c, wait_prev, wait_next);
        c->waiting = false;
        review(t, c);
        c = t->waiting;
    }
}

/* The key of the segment's connection; returns which side of it sent the segment. */
static unsigned key_of(const struct tcp_segment *segment, struct connection_key *key) {
    size_t bytes = segment->family == 4 ? 4 : 16;
    int order = memcmp(segment->source, segment->destination, bytes);
    if (order == 0)
        order = (int)segment->source_port - (int)segment->destination_port;
    unsigned from = order > 0 ? 1 : 0;
    *key = (struct connection_key){.family = segment->family};
    memcpy(key->address[from], segment->source, bytes);
    memcpy(key->address[1 - from], segment->destination, bytes);
    key->port[from] = segment->source_port;
    key->port[1 - from] = segment->destination_port;
    return from;
}

/* Note what the segment acknowledges; the offset is what its bytes depend on. */
static uint64_t take_acknowledgement(struct tcp *t, struct connection *c, unsigned from,
                                     const struct tcp_segment *segment) {
    struct side *other = &c->sides[1 - from];
    if ((segment->flags & TCP_ACK) == 0)
        return 0;
    side_place(other, segment->acknowledgement);
    uint64_t offset = side_offset(other, segment->acknowledgement);
    if (offset > other->acked && offset > other->next && c->state == CONNECTION_OPEN)
        acks_note(&other->acks, offset, segment);
    if (offset > other->acked)
        other->acked = offset;
    if (passed_awaits(&other->passed, offset, segment))
        connection_answered(t, c, 1 - from, offset, segment);
    if (!other->seen && offset < other->low)
        other->low = offset;
    return offset;
}

static bool acknowledges_the_future(const struct connection *c, unsigned from,
                                    const struct tcp_segment *segment) {
    const struct side *other = &c->sides[1 - from];
    return (segment->flags & TCP_ACK) != 0 && other->placed &&
           side_offset(other, segment->acknowledgement) > other->next + SIDE_WINDOW;
}

/* Sequence numbers of this connection, or of another one on the same ports? */
static bool fits(const struct connection *c, unsigned from, const struct tcp_segment *segment) {
    const struct side *side = &c->sides[from];
    if (!side->placed)
        return true;
    uint64_t offset = side_offset(side, segment->sequence);
    if (offset > side->next + SIDE_WINDOW || offset + SIDE_PAST < side->next)
        return false;
    return !acknowledges_the_future(c, from, segment);
}

/* Nothing new for a connection that is not delivered any more; still, it must be seen to end. */
static void follow_ignored(struct tcp *t, struct connection *c, unsigned from,
                           const struct tcp_segment *segment, uint64_t offset) {
    struct side *side = &c->sides[from];
    uint64_t end = offset + segment->wire_bytes;
    if (end > side->next)
        side->next = end;
    if ((segment->flags & TCP_FIN) != 0)
        side->closed = true;
    if ((segment->flags & TCP_RST) != 0 || (side->closed && c->sides[1 - from].closed))
        connection_finish(t, c, TCP_END_FIN);
}

/*
 * The first FIN counts, unless there are bytes behind it. While joining, what lies before the start
 * isn't known yet.
 */
static void take_fin(const struct connection *c, struct side *side, uint64_t at, uint64_t needs) {
    bool passed = c->state == CONNECTION_OPEN && at < side->next;
    if (passed || held_end(&side->held) > at || side->closed || side->fin_at != SIDE_NEVER)
        return;
    side->fin_at = at;
    side->fin_needs = needs;
}

static void take_open(struct tcp *t, struct connection *c, unsigned from,
                      const struct tcp_segment *segment, uint64_t offset) {
    struct side *side = &c->sides[from];
    if (!side->seen || offset < side->low)
        side->low = offset;
    side->seen = true;
    uint64_t needs = take_acknowledgement(t, c, from, segment);
    if (segment->data_bytes < segment->wire_bytes)
        t->counters.cut_segments++;
    if (segment->wire_bytes > 0)
        connection_take(t, c, from, segment, offset, needs);
    if (offset + segment->wire_bytes > side->high) {
        side->high = offset + segment->wire_bytes;
        side->high_stamp = segment->stamp;
    }
    if (c->state == CONNECTION_IGNORED) {
        follow_ignored(t, c, from, segment, offset);
        return;
    }
    if ((segment->flags & TCP_FIN) != 0)
        take_fin(c, side, offset + segment->wire_bytes, needs);
    if (!connection_waits(c))
        return;
    connection_pump(t, c);
    if (connection_waits(c))
        table_watch(t, c);
}

/*
 * A segment that doesn't fit. Late copies of an older connection are dropped, but once nothing that
 * fits has come for a reorder window, its handshake was missed: another connection lives on these
 * ports.
 */
static struct connection *take_stranger(struct tcp *t, struct connection *c, unsigned from,
                                        const struct tcp_segment *segment) {
    t->counters.outside_window++;
    if (segment->wire_bytes == 0 ||
        t->now_ns - c->sides[from].last_ns <= t->limits.reorder_window_ns)
        return NULL;
    struct connection_key key = c->key;
    connection_finish(t, c, TCP_END_REPLACED);
    table_remove(t, c);
    return table_add(t, &key);
}

/* Data behind the end of a connection that ended a while ago is a new one, of which the SYN was
 * missed. */
static bool begins_again(const struct tcp *t, const struct connection *c, unsigned from,
                         const struct tcp_segment *segment) {
    return c->state == CONNECTION_CLOSED && segment->wire_bytes > 0 &&
           side_offset(&c->sides[from], segment->sequence) + segment->wire_bytes >
               c->sides[from].next &&
           t->now_ns - c->ended_ns > t->limits.reorder_window_ns;
}

/* The connection that the segment belongs to; NULL when there is none and this cannot begin one. */
static struct connection *connection_of(struct tcp *t, const struct connection_key *key,
                                        unsigned from, const struct tcp_segment *segment) {
    struct connection *c = table_find(t, key);
    bool syn = (segment->flags & (TCP_SYN | TCP_RST)) == TCP_SYN;
    if (c != NULL && !syn && begins_again(t, c, from, segment)) {
        table_remove(t, c);
        c = NULL;
    }
    bool begins = syn || segment->wire_bytes > 0 || (segment->flags & TCP_FIN) != 0;
    if (c == NULL && begins && (segment->flags & TCP_RST) == 0)
        c = table_add(t, key);
    if (c == NULL)
        return NULL;
    if (syn)
        return handshake_syn(t, c, from, segment);
    return fits(c, from, segment) ? c : take_stranger(t, c, from, segment);
}

void tcp_segment(struct tcp *t, const struct tcp_segment *segment) {
    t->counters.segments++;
    tcp_tick(t, segment->time_ns);
    struct connection_key key;
    unsigned from = key_of(segment, &key);
    struct connection *c = connection_of(t, &key, from, segment);
    if (c == NULL)
        return;
    table_touch(t, c);
    struct side *side = &c->sides[from];
    uint32_t sequence = segment->sequence + ((segment->flags & TCP_SYN) != 0 ? 1 : 0);
    side_place(side, sequence);
    uint64_t offset = side_offset(side, sequence);
    side->last_ns = t->now_ns;
    if (c->state == CONNECTION_IGNORED) {
        follow_ignored(t, c, from, segment, offset);
    } else if ((segment->flags & TCP_RST) != 0) {
        handshake_reset(t, c, from, segment);
        if (connection_waits(c))
            table_watch(t, c);
    } else if (c->state != CONNECTION_CLOSED) {
        take_open(t, c, from, segment, offset);
    }
    while (t->held_memory > t->limits.total_bytes && t->holding != NULL)
        t->counters.given_up += connection_force(t, t->holding);
}

uint64_t tcp_oldest_pending(const struct tcp *t) {
    uint64_t oldest_ns = UINT64_MAX;
    const struct connection *c;
    DL_FOREACH2(t->waiting, c, wait_next) {
        if (c->pending_ns < oldest_ns && connection_waits(c))
            oldest_ns = c->pending_ns;
    }
    return oldest_ns;
}

const struct tcp_counters *tcp_counters(const struct tcp *t) {
    return &t->counters;
}
