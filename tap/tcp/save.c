#include "tap/save.h"
#include "tap/tcp/internal.h"

#include <stdlib.h>

/*
 * What is needed to go on with the streams that are being delivered: where they are, and, after an
 * orderly end, what they hold back. All else is joined anew.
 */

static void save_piece(const struct piece *p, struct buffer *b) {
    buffer_put_le64(b, p->span.offset);
    buffer_put_le64(b, p->span.needs);
    buffer_put_le64(b, p->span.time_ns);
    buffer_put_le32(b, p->span.bytes);
    buffer_put_le32(b, p->span.kept);
    buffer_put(b, p->data, p->span.kept);
}

static void save_side(const struct side *s, bool whole, struct buffer *b) {
    size_t pieces = whole ? s->held.end - s->held.first : 0;
    buffer_put_u8(b, (uint8_t)((s->exact ? 1 : 0) | (s->seen ? 2 : 0) | (s->closed ? 4 : 0)));
    buffer_put_le32(b, s->origin);
    buffer_put_le32(b, s->initial_sequence);
    buffer_put_le64(b, s->next);
    buffer_put_le64(b, whole ? s->acked : s->next);
    buffer_put_le64(b, whole ? s->fin_at : SIDE_NEVER);
    buffer_put_le64(b, s->fin_needs);
    buffer_put_le64(b, s->delivered_ns);
    buffer_put_le32(b, (uint32_t)pieces);
    for (size_t i = 0; i < pieces; i++)
        save_piece(s->held.pieces[s->held.first + i], b);
}

static void save_connection(const struct connection *c, bool whole, struct buffer *b) {
    buffer_put_u8(b, c->key.family);
    buffer_put_u8(b, c->client);
    for (unsigned i = 0; i < 2; i++) {
        buffer_put(b, c->key.address[i], sizeof c->key.address[i]);
        buffer_put_le16(b, c->key.port[i]);
        save_side(&c->sides[i], whole, b);
    }
}

void tcp_save(const struct tcp *t, bool whole, struct buffer *b,
              bool (*save)(void *connection, bool whole, struct buffer *b)) {
    size_t count_at = b->length;
    uint32_t count = 0;
    buffer_put_le32(b, 0);
    for (const struct connection *c = t->connections; c != NULL; c = c->hh.next) {
        size_t start = b->length;
        if (c->state != CONNECTION_OPEN || !c->opened || !c->client_known)
            continue;
        save_connection(c, whole, b);
        if (save(c->user, whole, b))
            count++;
        else
            b->length = start;
    }
    buffer_patch_le(b, count_at, count, 4);
}

static bool load_piece(struct held *h, struct cursor *c) {
    struct held_overlap overlap = {0};
    struct span span = {.offset = cursor_le64(c), .needs = cursor_le64(c)};
    span.time_ns = cursor_le64(c);
    span.bytes = cursor_le32(c);
    span.kept = cursor_le32(c);
    const uint8_t *data = cursor_bytes(c, span.kept);
    return data != NULL && span.kept <= span.bytes && span.offset <= UINT64_MAX - span.bytes &&
           held_add(h, &span, data, &overlap);
}

static bool load_side(struct side *s, struct cursor *c) {
    uint8_t flags = cursor_u8(c);
    s->placed = true;
    s->exact = (flags & 1) != 0;
    s->seen = (flags & 2) != 0;
    s->closed = (flags & 4) != 0;
    s->origin = cursor_le32(c);
    s->initial_sequence = cursor_le32(c);
    s->next = cursor_le64(c);
    s->low = s->next;
    s->acked = cursor_le64(c);
    s->fin_at = cursor_le64(c);
    s->fin_needs = cursor_le64(c);
    s->delivered_ns = cursor_le64(c);
    for (uint32_t pieces = cursor_le32(c); pieces > 0; pieces--) {
        if (!load_piece(&s->held, c))
            return false;
    }
    return cursor_ok(c);
}

/* Offsets of a connection lie within a window of each other: see internal.h. */
static bool is_near(const struct side *s, uint64_t offset) {
    return offset <= s->next + SIDE_WINDOW;
}

static bool makes_sense(const struct side *s, const struct side *other) {
    if (s->next < SIDE_START / 2 || s->next > UINT64_MAX / 2 || !is_near(s, s->acked))
        return false;
    if (s->fin_at != SIDE_NEVER &&
        (s->fin_at < s->next || !is_near(s, s->fin_at) || !is_near(other, s->fin_needs)))
        return false;
    for (size_t i = s->held.first; i < s->held.end; i++) {
        const struct span *span = &s->held.pieces[i]->span;
        if (span->offset < s->next || !is_near(s, span->offset) || span->bytes == 0 ||
            !is_near(other, span->needs))
            return false;
    }
    return true;
}

static struct connection *load_connection(struct tcp *t, struct cursor *cursor) {
    struct connection_key key = {.family = cursor_u8(cursor)};
    struct side sides[2] = {{.reset_at = SIDE_NEVER}, {.reset_at = SIDE_NEVER}};
    uint8_t client = cursor_u8(cursor) & 1;
    bool good = true;
    for (unsigned i = 0; i < 2 && good; i++) {
        cursor_copy(cursor, key.address[i], sizeof key.address[i]);
        key.port[i] = cursor_le16(cursor);
        good = load_side(&sides[i], cursor);
    }
    good = good && makes_sense(&sides[0], &sides[1]) && makes_sense(&sides[1], &sides[0]) &&
           (key.family == 4 || key.family == 6) && table_find(t, &key) == NULL;
    struct connection *c = good ? table_add(t, &key) : NULL;
    if (c == NULL) {
        held_release(&sides[0].held);
        held_release(&sides[1].held);
        return NULL;
    }
    memcpy(c->sides, sides, sizeof c->sides);
    c->client = client;
    c->client_known = true;
    c->state = CONNECTION_OPEN;
    return c;
}

bool tcp_load(struct tcp *t, struct cursor *cursor, void *context,
              void *(*load)(void *context, const struct tcp_endpoints *endpoints,
                            struct cursor *cursor),
              uint64_t now_ns) {
    t->now_ns = now_ns;
    for (uint32_t count = cursor_le32(cursor); count > 0; count--) {
        struct connection *c = load_connection(t, cursor);
        if (c == NULL)
            return false;
        struct tcp_endpoints endpoints = connection_endpoints(c);
        c->user = load(context, &endpoints, cursor);
        if (c->user == NULL)
            return false;
        c->opened = true;
        table_account(t, c);
        table_sort_in(t, c);
        if (connection_waits(c))
            table_watch(t, c);
    }
    return cursor_ok(cursor);
}
