#include "tap/iscsi/internal.h"

#include <utlist.h>

struct connection *connection_create(struct iscsi *i, bool from_start, uint16_t server_port) {
    struct connection *c = calloc(1, sizeof *c);
    if (c == NULL)
        return NULL;
    c->owner = i;
    c->from_start = from_start;
    c->server_port = server_port;
    framer_init(&c->flows[TCP_TO_SERVER].framer);
    framer_init(&c->flows[TCP_TO_CLIENT].framer);
    DL_APPEND(i->connections, c);
    i->connection_count++;
    return c;
}

static void end_login(struct connection *c) {
    if (c->login == NULL)
        return;
    login_destroy(c->login);
    c->login = NULL;
    c->owner->login_count--;
}

void connection_destroy(struct connection *c) {
    end_login(c);
    framer_release(&c->flows[TCP_TO_SERVER].framer);
    framer_release(&c->flows[TCP_TO_CLIENT].framer);
    DL_DELETE(c->owner->connections, c);
    c->owner->connection_count--;
    free(c);
}

/* What it may have done to volumes since the last gap. */
static void blind_gap(struct connection *c, uint64_t time_ns) {
    if (c->session != NULL)
        tracker_nexus_gap(c->session->nexus, c->blind_reason, c->blind_text, time_ns);
    else
        tracker_gap(c->owner->tracker, c->blind_reason, c->blind_text, time_ns);
}

void connection_lose(struct connection *c, uint16_t reason, const char *text, uint64_t time_ns) {
    if (c->session != NULL)
        session_abandon(c->session, c, NULL, reason, text, time_ns);
    end_login(c);
    c->state = CONNECTION_BLIND;
    c->blind_reason = reason;
    c->blind_text = text;
    blind_gap(c, time_ns);
}

void connection_join_late(struct connection *c, uint64_t time_ns) {
    if (c->from_start || !c->known_port) {
        c->state = CONNECTION_DONE;
        return;
    }
    c->owner->counters.late_joins++;
    connection_lose(c, GAP_STREAM_HOLE,
                    "an iSCSI session that began before the monitor watched it cannot be read",
                    time_ns);
}

static void take_header(struct connection *c, enum tcp_direction direction, uint64_t time_ns) {
    struct flow *flow = &c->flows[direction];
    flow->use = USE_NONE;
    flow->task = NULL;
    c->owner->counters.pdus++;
    if (c->state == CONNECTION_FULL)
        duty_header(c, direction, time_ns);
    else
        entry_header(c, direction, time_ns);
}

static void take_note(struct connection *c, const struct framer *f) {
    size_t room = NOTE_BYTES - c->note_bytes;
    size_t part = f->piece_bytes < room ? f->piece_bytes : room;
    if (f->piece_offset != c->note_bytes)
        return; /* something before it is missing */
    memcpy(c->note + c->note_bytes, f->piece, part);
    c->note_bytes += part;
}

static void take_piece(struct connection *c, enum tcp_direction direction, uint64_t time_ns) {
    struct flow *flow = &c->flows[direction];
    switch (flow->use) {
    case USE_NONE:
        break;
    case USE_DATA_OUT:
    case USE_DATA_IN:
        duty_data(c, direction);
        break;
    case USE_LOGIN:
        entry_text(c, direction, time_ns);
        break;
    case USE_NOTE:
        take_note(c, &flow->framer);
        break;
    }
}

static void take_end(struct connection *c, enum tcp_direction direction, uint64_t time_ns) {
    if (!c->flows[direction].framer.data_intact)
        c->owner->counters.data_digest_errors++;
    if (c->state == CONNECTION_FULL)
        duty_end(c, direction, time_ns);
    else
        entry_end(c, direction, time_ns);
}

static bool is_readable(const struct connection *c) {
    return c->state == CONNECTION_LOGIN || c->state == CONNECTION_FULL;
}

static void run(struct connection *c, enum tcp_direction direction, struct cursor *in,
                uint64_t time_ns) {
    struct framer *framer = &c->flows[direction].framer;
    while (is_readable(c)) {
        switch (framer_next(framer, in)) {
        case FRAMER_NEED:
            return;
        case FRAMER_HEADER:
            take_header(c, direction, time_ns);
            break;
        case FRAMER_DATA:
            take_piece(c, direction, time_ns);
            break;
        case FRAMER_END:
            take_end(c, direction, time_ns);
            break;
        case FRAMER_BAD:
            c->owner->counters.header_digest_errors++;
            c->owner->counters.lost_synchronisation++;
            connection_lose(c, GAP_BAD_DIGEST,
                            "a broken header digest hides where the next PDU begins", time_ns);
            break;
        }
    }
}

/* The first bytes decide, so that other protocols cost nothing. */
static void begin(struct connection *c, enum tcp_direction direction, struct cursor first,
                  uint64_t time_ns) {
    if (direction != TCP_TO_SERVER || !entry_may_begin(first.next, cursor_left(&first))) {
        connection_join_late(c, time_ns);
        return;
    }
    c->state = CONNECTION_LOGIN;
}

bool connection_data(struct connection *c, enum tcp_direction direction, const uint8_t *data,
                     size_t bytes, uint64_t time_ns) {
    struct cursor in = cursor_of(data, bytes);
    if (bytes == 0)
        return c->state != CONNECTION_DONE;
    if (c->state == CONNECTION_NEW) {
        begin(c, direction, in, time_ns);
    } else if (c->state == CONNECTION_BLIND) {
        blind_gap(c, time_ns);
    }
    run(c, direction, &in, time_ns);
    return c->state != CONNECTION_DONE;
}

static void lose_place(struct connection *c, uint64_t time_ns) {
    c->owner->counters.lost_synchronisation++;
    connection_lose(c, GAP_STREAM_HOLE,
                    "bytes that the receiver acknowledged never passed the monitor, and with them "
                    "the place where PDUs begin",
                    time_ns);
}

bool connection_hole(struct connection *c, enum tcp_direction direction, uint64_t bytes,
                     uint64_t time_ns) {
    struct flow *flow = &c->flows[direction];
    uint32_t offset = 0;
    uint32_t lost = 0;
    if (c->state == CONNECTION_NEW) {
        c->from_start = false;
        connection_join_late(c, time_ns);
    } else if (c->state == CONNECTION_BLIND) {
        blind_gap(c, time_ns);
    } else if (is_readable(c)) {
        if (!framer_hole(&flow->framer, bytes, &offset, &lost) || flow->use == USE_LOGIN) {
            lose_place(c, time_ns);
        } else {
            duty_lost(c, direction, offset, lost);
            struct cursor nothing = cursor_of("", 0);
            run(c, direction, &nothing, time_ns);
        }
    }
    return c->state != CONNECTION_DONE;
}
