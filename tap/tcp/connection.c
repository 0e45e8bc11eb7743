#include "common/clock.h"
#include "common/cursor.h"
#include "tap/tcp/internal.h"

#include <stdlib.h>

static uint64_t least(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

size_t connection_held(const struct connection *c) {
    return c->sides[0].held.memory + c->sides[1].held.memory;
}

static bool side_waits(const struct side *side) {
    return !held_empty(&side->held) || side->acked > side->next || side->fin_at != SIDE_NEVER ||
           side->reset_at != SIDE_NEVER;
}

bool connection_waits(const struct connection *c) {
    if (c->state == CONNECTION_JOINING)
        return connection_held(c) > 0;
    return c->state == CONNECTION_OPEN && (side_waits(&c->sides[0]) || side_waits(&c->sides[1]));
}

/* Where the next thing that was seen of this direction lies: bytes, or a FIN, or SIDE_NEVER. */
static uint64_t front_offset(const struct side *side) {
    const struct piece *front = held_front(&side->held);
    return front != NULL ? front->span.offset : side->fin_at;
}

static uint64_t front_needs(const struct side *side) {
    const struct piece *front = held_front(&side->held);
    return front != NULL ? front->span.needs : side->fin_needs;
}

static void drop_held(struct tcp *t, struct connection *c) {
    for (unsigned i = 0; i < 2; i++) {
        held_release(&c->sides[i].held);
        acks_release(&c->sides[i].acks);
        passed_release(&c->sides[i].passed, &t->passed);
    }
    table_account(t, c);
}

static void ignore(struct tcp *t, struct connection *c) {
    c->state = CONNECTION_IGNORED;
    c->opened = false;
    c->user = NULL;
    drop_held(t, c);
    table_sort_in(t, c);
}

struct tcp_endpoints connection_endpoints(const struct connection *c) {
    const struct connection_key *key = &c->key;
    unsigned client = c->client;
    struct tcp_endpoints endpoints = {
        .family = key->family,
        .client_port = key->port[client],
        .server_port = key->port[1 - client],
    };
    memcpy(endpoints.client, key->address[client], sizeof endpoints.client);
    memcpy(endpoints.server, key->address[1 - client], sizeof endpoints.server);
    return endpoints;
}

static bool open_consumer(struct tcp *t, struct connection *c, uint64_t time_ns) {
    struct tcp_endpoints endpoints = connection_endpoints(c);
    t->counters.connections++;
    c->user = t->consumer.open(t->consumer.context, &endpoints, c->sides[c->client].exact, time_ns);
    c->opened = c->user != NULL;
    return c->opened;
}

static enum tcp_direction direction_of(const struct connection *c, unsigned from) {
    return from == c->client ? TCP_TO_SERVER : TCP_TO_CLIENT;
}

/* Behind the last byte that was given: a FIN takes a sequence number, too. */
static uint64_t given_end(const struct side *side) {
    return side->next - (side->closed ? 1 : 0);
}

/* One direction of a connection, for what is found out about bytes that were given. */
struct giver {
    struct tcp *t;
    struct connection *c;
    unsigned from;
    uint64_t time_ns;
};

static void doubt_given(void *context, uint64_t start, uint64_t end) {
    const struct giver *g = context;
    struct connection *c = g->c;
    g->t->counters.conflicting_bytes += end - start;
    if (g->t->consumer.dispute != NULL && c->opened)
        g->t->consumer.dispute(c->user, direction_of(c, g->from),
                               given_end(&c->sides[g->from]) - start, end - start, g->time_ns);
}

static struct passed_doubt doubt_of(struct giver *g) {
    struct tcp *t = g->t;
    return (struct passed_doubt){.context = g,
                                 .found = doubt_given,
                                 .budget = &t->passed,
                                 .old_ns = clock_minus(t->now_ns, t->limits.reorder_window_ns)};
}

void connection_answered(struct tcp *t, struct connection *c, unsigned from, uint64_t end,
                         const struct tcp_segment *acknowledgement) {
    struct giver giver = {t, c, from, acknowledgement->time_ns};
    struct passed_doubt doubt = doubt_of(&giver);
    passed_answer(&c->sides[from].passed, end, acknowledgement, &doubt);
}

/* The bytes of a span were given; some may have been acknowledged before they were seen. */
static void note_given(struct tcp *t, struct connection *c, unsigned from,
                       const struct span *span) {
    struct side *side = &c->sides[from];
    struct passed_copy given = {.start = span->offset,
                                .end = span->offset + span->kept,
                                .time_ns = span->time_ns,
                                .stamp = span->stamp,
                                .stamped = span->stamped,
                                .again = span->again};
    bool extended = passed_extend(&side->passed, &given, t->now_ns);
    if (extended && side->acks.count == 0)
        return;
    struct giver giver = {t, c, from, span->time_ns};
    struct passed_doubt doubt = doubt_of(&giver);
    if (!extended)
        passed_note(&side->passed, &given, t->now_ns, &doubt);
    for (uint32_t i = side->acks.first; i < side->acks.count; i++) {
        const struct ack *ack = &side->acks.list[i];
        struct tcp_segment answer = {
            .time_ns = ack->time_ns, .echo = ack->echo, .stamped = ack->stamped};
        passed_answer(&side->passed, ack->end, &answer, &doubt);
        if (ack->end >= given.end)
            break;
    }
}

/* The bytes of a span pass on; those that were kept are at `data`, the rest is lost. */
static void deliver(struct tcp *t, struct connection *c, unsigned from, const struct span *span,
                    const uint8_t *data) {
    enum tcp_direction direction = direction_of(c, from);
    struct side *side = &c->sides[from];
    uint64_t time_ns = span->time_ns;
    if (time_ns < side->delivered_ns)
        time_ns = side->delivered_ns; /* behind what had to come first */
    side->delivered_ns = time_ns;
    side->next += span->bytes;
    bool wanted = c->opened || open_consumer(t, c, time_ns);
    if (wanted && span->kept > 0)
        wanted = t->consumer.data(c->user, direction, data, span->kept, time_ns);
    if (span->bytes > span->kept) {
        t->counters.holes++;
        t->counters.hole_bytes += span->bytes - span->kept;
        if (wanted)
            wanted = t->consumer.hole(c->user, direction, span->bytes - span->kept, time_ns);
    }
    if (!wanted)
        ignore(t, c);
    else if (span->kept > 0 && t->consumer.again != NULL)
        note_given(t, c, from, span);
    acks_forget(&side->acks, side->next);
}

/*
 * When the bytes passed is not known: not before those in front of them, but a mirror may have
 * delivered these as much as a window late.
 */
static uint64_t lost_since(const struct tcp *t, const struct side *side) {
    return clock_minus(side->delivered_ns, t->limits.reorder_window_ns);
}

static void lose_until(struct tcp *t, struct connection *c, unsigned from, uint64_t end) {
    struct side *side = &c->sides[from];
    uint64_t bytes = end - side->next;
    uint64_t since_ns = lost_since(t, side);
    side->next = end;
    acks_forget(&side->acks, end);
    t->counters.holes++;
    t->counters.hole_bytes += bytes;
    if (!c->opened && !open_consumer(t, c, since_ns)) {
        ignore(t, c);
        return;
    }
    enum tcp_direction direction = from == c->client ? TCP_TO_SERVER : TCP_TO_CLIENT;
    if (!t->consumer.hole(c->user, direction, bytes, since_ns))
        ignore(t, c);
}

static void close_connection(struct tcp *t, struct connection *c, enum tcp_end why) {
    /* A RST stood at once, though it was believed later. */
    uint64_t time_ns = why == TCP_END_RESET && c->ended_ns > 0 ? c->ended_ns : t->now_ns;
    if (c->opened)
        t->consumer.close(c->user, why, time_ns);
    c->opened = false;
    c->user = NULL;
    c->state = CONNECTION_CLOSED;
    c->ended_ns = t->now_ns;
    drop_held(t, c);
    table_sort_in(t, c);
}

/* Sent after what lies behind it: not for the first time. */
static bool was_sent_again(const struct side *side, const struct span *span) {
    return span->stamped && span->offset + span->bytes < side->high &&
           acks_stamp_is_later(span->stamp, side->high_stamp);
}

/* Deliver the front of one direction if nothing is missing before it; forced: whatever it needs. */
static bool step(struct tcp *t, struct connection *c, unsigned from, bool forced) {
    struct side *side = &c->sides[from];
    if (front_offset(side) != side->next)
        return false;
    if (!forced && front_needs(side) > c->sides[1 - from].next)
        return false;
    if (held_empty(&side->held)) {
        side->closed = true;
        side->fin_at = SIDE_NEVER;
        side->next++; /* a FIN takes one sequence number (RFC 9293, 3.4) */
        return true;
    }
    AUTO_FREE struct piece *piece = held_pop(&side->held);
    piece->span.again = piece->span.again || was_sent_again(side, &piece->span);
    deliver(t, c, from, &piece->span, piece->data);
    return true;
}

static void pump(struct tcp *t, struct connection *c) {
    bool moved = true;
    while (moved && c->state == CONNECTION_OPEN) {
        moved = false;
        for (unsigned from = 0; from < 2; from++)
            while (c->state == CONNECTION_OPEN && step(t, c, from, false))
                moved = true;
    }
    if (c->state == CONNECTION_OPEN && c->sides[0].closed && c->sides[1].closed)
        close_connection(t, c, TCP_END_FIN);
}

void connection_pump(struct tcp *t, struct connection *c) {
    pump(t, c);
    table_account(t, c);
}

static void hold(struct tcp *t, struct connection *c, unsigned from, const struct span *span,
                 const uint8_t *data) {
    struct held *held = &c->sides[from].held;
    struct held_overlap overlap = {0};
    bool kept = held_add(held, span, data, &overlap);
    t->counters.duplicate_bytes += overlap.duplicate_bytes;
    t->counters.conflicting_bytes += overlap.conflicting_bytes;
    if (overlap.duplicate_bytes < span->bytes)
        t->counters.out_of_order++;
    table_account(t, c);
    while ((!kept || connection_held(c) > t->limits.connection_bytes) && connection_force(t, c)) {
        t->counters.given_up++;
        kept = true;
    }
}

/*
 * Bytes behind a FIN that was reached: that FIN was none of the sender's (a stack never does that),
 * and the byte whose number it took is lost to us.
 */
static void reopen(struct tcp *t, struct connection *c, unsigned from) {
    struct side *side = &c->sides[from];
    side->closed = false;
    side->next--;
    lose_until(t, c, from, side->next + 1);
}

/* The part of a span that begins at `start`, which lies within it. */
static struct span rest_of(const struct span *span, uint64_t start, struct cursor *data) {
    struct span rest = *span;
    uint32_t skip = (uint32_t)(start - span->offset);
    if (!cursor_skip(data, skip))
        cursor_skip(data, cursor_left(data));
    rest.offset = start;
    rest.bytes -= skip;
    rest.kept = skip < rest.kept ? rest.kept - skip : 0;
    return rest;
}

/* Leaves out what the receiver had before it was sent. False when nothing remains. */
static bool believe(struct tcp *t, const struct side *side, const struct tcp_segment *segment,
                    struct span *span, struct cursor *data) {
    uint64_t end = span->offset + span->bytes;
    uint64_t known_end = least(acks_before(&side->acks, segment, span->again), end);
    if (known_end <= span->offset)
        return true;
    t->counters.sent_needlessly += known_end - span->offset;
    *span = rest_of(span, known_end, data);
    return span->bytes > 0;
}

/* Bytes that were given come again. */
static void compare_again(struct tcp *t, struct connection *c, unsigned from,
                          const struct span *span, struct cursor data) {
    struct side *side = &c->sides[from];
    uint64_t first = passed_start(&side->passed);
    uint64_t start = span->offset > first ? span->offset : first;
    uint64_t end = least(given_end(side), span->offset + span->kept);
    if (start >= end || t->consumer.again == NULL || !c->opened)
        return;
    cursor_skip(&data, (size_t)(start - span->offset));
    struct passed_copy copy = {start, end, span->time_ns, span->stamp, span->stamped, span->again};
    enum tcp_copy found = t->consumer.again(c->user, direction_of(c, from), given_end(side) - start,
                                            data.next, (size_t)(end - start));
    struct giver giver = {t, c, from, span->time_ns};
    struct passed_doubt doubt = doubt_of(&giver);
    if (found == TCP_COPY_DIFFERS)
        passed_differs(&side->passed, &copy, &doubt);
    else if (found == TCP_COPY_FORGOTTEN)
        passed_forgotten(&side->passed, &copy, &doubt);
    else
        passed_equals(&side->passed, &copy, &doubt);
}

/* Later bytes tell of earlier ones that were sent after them. */
static void look_behind(struct tcp *t, struct connection *c, unsigned from,
                        const struct span *span) {
    struct passed *passed = &c->sides[from].passed;
    if (!span->stamped || !passed_has_later(passed, span->stamp))
        return;
    struct giver giver = {t, c, from, span->time_ns};
    struct passed_doubt doubt = doubt_of(&giver);
    passed_behind(passed, span->offset, span->stamp, &doubt);
}

void connection_take(struct tcp *t, struct connection *c, unsigned from,
                     const struct tcp_segment *segment, uint64_t offset, uint64_t needs) {
    struct side *side = &c->sides[from];
    uint64_t end = offset + segment->wire_bytes;
    struct span span = {.offset = offset,
                        .needs = needs,
                        .time_ns = segment->time_ns,
                        .bytes = segment->wire_bytes,
                        .kept = segment->data_bytes,
                        .stamp = segment->stamp,
                        .stamped = segment->stamped};
    struct cursor data = cursor_of(segment->data, segment->data_bytes);
    span.again = was_sent_again(side, &span);
    look_behind(t, c, from, &span);
    if (offset < side->next && c->state == CONNECTION_OPEN)
        compare_again(t, c, from, &span, data);
    if (end <= side->next && c->state == CONNECTION_OPEN) {
        t->counters.duplicate_bytes += segment->wire_bytes;
        return;
    }
    if (side->fin_at < end)
        side->fin_at = SIDE_NEVER;
    if (side->closed)
        reopen(t, c, from);
    if (c->state == CONNECTION_OPEN && offset < side->next) {
        t->counters.duplicate_bytes += side->next - offset;
        span = rest_of(&span, side->next, &data);
    }
    if (side->acks.count > 0 && !believe(t, side, segment, &span, &data))
        return;
    if (c->state == CONNECTION_OPEN && span.offset == side->next &&
        needs <= c->sides[1 - from].next) {
        uint64_t stop = least(end, front_offset(side));
        struct span now = span;
        now.bytes = (uint32_t)(stop - span.offset);
        now.kept = (uint32_t)least(span.kept, now.bytes);
        deliver(t, c, from, &now, data.next);
        if (stop == end)
            return;
        span = rest_of(&span, stop, &data);
    }
    if (c->state == CONNECTION_OPEN || c->state == CONNECTION_JOINING)
        hold(t, c, from, &span, data.next);
}

bool connection_lose_settled(struct tcp *t, struct connection *c) {
    bool lost = false;
    for (unsigned from = 0; from < 2 && c->state == CONNECTION_OPEN; from++) {
        struct side *side = &c->sides[from];
        uint64_t end = least(side->settled, front_offset(side));
        if (end <= side->next)
            continue;
        lose_until(t, c, from, end);
        lost = true;
    }
    /* Each waits for the other, with nothing missing: acknowledgements that cannot be true. */
    if (!lost && c->state == CONNECTION_OPEN && front_offset(&c->sides[0]) == c->sides[0].next &&
        front_offset(&c->sides[1]) == c->sides[1].next)
        lost = step(t, c, c->client, true);
    pump(t, c);
    table_account(t, c);
    return lost;
}

/* The direction whose front has waited longer; 2 when neither has one. */
static unsigned longest_waiting(const struct connection *c) {
    const struct piece *a = held_front(&c->sides[0].held);
    const struct piece *b = held_front(&c->sides[1].held);
    if (a != NULL && b != NULL)
        return a->span.time_ns <= b->span.time_ns ? 0 : 1;
    if (a != NULL || b != NULL)
        return a != NULL ? 0 : 1;
    if (c->sides[0].fin_at != SIDE_NEVER)
        return 0;
    return c->sides[1].fin_at != SIDE_NEVER ? 1 : 2;
}

static void unblock(struct tcp *t, struct connection *c, unsigned from) {
    const struct side *side = &c->sides[from];
    const struct side *other = &c->sides[1 - from];
    if (front_offset(side) > side->next) {
        lose_until(t, c, from, front_offset(side));
        return;
    }
    uint64_t missing_end = least(front_needs(side), front_offset(other));
    if (missing_end > other->next)
        lose_until(t, c, 1 - from, missing_end);
    else
        step(t, c, from, true);
}

bool connection_force(struct tcp *t, struct connection *c) {
    if (c->state == CONNECTION_JOINING && connection_held(c) > 0) {
        handshake_settle(t, c);
        return true;
    }
    unsigned from = longest_waiting(c);
    if (c->state != CONNECTION_OPEN || from == 2)
        return false;
    unblock(t, c, from);
    pump(t, c);
    table_account(t, c);
    return true;
}

void connection_finish(struct tcp *t, struct connection *c, enum tcp_end why) {
    while (connection_force(t, c)) {
        /* each turn delivers or loses something */
    }
    for (unsigned from = 0; from < 2 && c->state == CONNECTION_OPEN; from++)
        if (c->sides[from].acked > c->sides[from].next)
            lose_until(t, c, from, c->sides[from].acked);
    if (c->state != CONNECTION_CLOSED)
        close_connection(t, c, why);
}
