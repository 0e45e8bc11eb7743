#include "tap/tcp/internal.h"

uint64_t side_offset(const struct side *side, uint32_t sequence) {
    uint32_t next = side->origin + (uint32_t)side->next;
    return side->next + (uint64_t)(int64_t)(int32_t)(sequence - next);
}

void side_place(struct side *side, uint32_t sequence) {
    if (side->placed)
        return;
    side->placed = true;
    side->origin = sequence - (uint32_t)SIDE_START;
    side->next = SIDE_START;
    side->low = SIDE_START;
}

static void fix_start(struct side *side, uint32_t initial_sequence) {
    if (side->exact)
        return;
    side_place(side, initial_sequence + 1);
    side->exact = true;
    side->initial_sequence = initial_sequence;
    side->next = side_offset(side, initial_sequence + 1);
}

/* From now on bytes are delivered: those before the start are of no connection, or of an older one.
 */
static void start(struct tcp *t, struct connection *c) {
    for (unsigned i = 0; i < 2; i++) {
        struct side *side = &c->sides[i];
        held_clip(&side->held, side->next, side->next + SIDE_WINDOW);
        if (side->fin_at < side->next)
            side->fin_at = SIDE_NEVER;
        if (side->acked > side->next + SIDE_WINDOW)
            side->acked = 0;
    }
    c->state = CONNECTION_OPEN;
    table_account(t, c);
    table_sort_in(t, c);
    connection_pump(t, c);
}

void handshake_settle(struct tcp *t, struct connection *c) {
    for (unsigned i = 0; i < 2; i++) {
        struct side *side = &c->sides[i];
        const struct piece *front = held_front(&side->held);
        if (side->exact || !side->placed)
            continue;
        side->next = front != NULL ? front->span.offset : side->low;
    }
    if (!c->client_known) /* servers listen on the smaller numbers */
        c->client = c->key.port[0] >= c->key.port[1] ? 0 : 1;
    c->client_known = true;
    start(t, c);
}

/* Does this SYN belong to what is known of the connection, or to another one? */
static bool belongs(const struct connection *c, unsigned from, const struct tcp_segment *segment) {
    const struct side *side = &c->sides[from];
    const struct side *other = &c->sides[1 - from];
    if (side->exact)
        return side->initial_sequence == segment->sequence;
    if (c->state != CONNECTION_JOINING)
        return false;
    /* An answer acknowledges the SYN, and data that came in it (RFC 7413). */
    if ((segment->flags & TCP_ACK) != 0 && other->exact &&
        segment->acknowledgement - (other->initial_sequence + 1) > UINT16_MAX)
        return false;
    const struct piece *front = held_front(&side->held);
    if (front == NULL)
        return true;
    uint64_t first = side_offset(side, segment->sequence + 1);
    return front->span.offset >= first && front->span.offset - first <= SIDE_WINDOW;
}

struct connection *handshake_syn(struct tcp *t, struct connection *c, unsigned from,
                                 const struct tcp_segment *segment) {
    if (!belongs(c, from, segment)) {
        struct connection_key key = c->key;
        connection_finish(t, c, TCP_END_REPLACED);
        table_remove(t, c);
        c = table_add(t, &key);
        if (c == NULL)
            return NULL;
    }
    if (c->state != CONNECTION_JOINING)
        return NULL; /* another copy */
    bool answer = (segment->flags & TCP_ACK) != 0;
    fix_start(&c->sides[from], segment->sequence);
    if (answer)
        fix_start(&c->sides[1 - from], segment->acknowledgement - 1);
    if (!c->client_known)
        c->client = (uint8_t)(answer ? 1 - from : from);
    c->client_known = true;
    if (c->sides[0].exact && c->sides[1].exact)
        start(t, c);
    return c;
}

void handshake_reset(struct tcp *t, struct connection *c, unsigned from,
                     const struct tcp_segment *segment) {
    struct side *side = &c->sides[from];
    if (c->state == CONNECTION_JOINING && connection_held(c) == 0)
        return; /* refused, or a leftover of an older connection: nobody heard of this one */
    if (!side->placed || side->reset_at != SIDE_NEVER)
        return;
    uint64_t offset = side_offset(side, segment->sequence);
    /* The receiver takes a RST only where it expects the next byte (RFC 9293, 3.10.7.4). */
    if (offset < side->acked || offset > side->next + SIDE_WINDOW)
        return;
    side->reset_at = offset > side->next ? offset : side->next;
    c->ended_ns = t->now_ns;
}
