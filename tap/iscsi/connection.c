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
    search_free(c->search);
    sent_release(&c->flows[TCP_TO_SERVER]);
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

/* Nothing that was collected of a PDU is of use any more. */
static void reset_flow(struct flow *flow, const struct seek_digests *digests) {
    framer_release(&flow->framer);
    framer_init(&flow->framer);
    framer_set_digests(&flow->framer, digests->header, digests->data);
    flow->use = USE_NONE;
    flow->task = NULL;
}

static void lose_flow(struct connection *c, enum tcp_direction direction, uint64_t since_ns) {
    struct flow *flow = &c->flows[direction];
    if (!flow->torn || since_ns < flow->torn_ns)
        flow->torn_ns = since_ns;
    flow->torn = true;
    flow->task = NULL;
    search_lose(c->search, direction, since_ns);
}

void connection_lose_place(struct connection *c, bool to_server, bool to_client,
                           uint64_t since_ns) {
    if (c->search == NULL)
        c->search = search_begin(c, since_ns);
    if (c->search == NULL) {
        connection_lose(c, GAP_OVERFLOW, "no memory left to follow a connection", since_ns);
        return;
    }
    c->owner->counters.lost_synchronisation++;
    if (to_server)
        lose_flow(c, TCP_TO_SERVER, since_ns);
    if (to_client)
        lose_flow(c, TCP_TO_CLIENT, since_ns);
    if (to_server && c->session != NULL)
        session_data_lost(c->session, c);
}

void connection_join_late(struct connection *c, uint64_t time_ns) {
    struct iscsi *i = c->owner;
    if (c->from_start) {
        c->state = CONNECTION_DONE;
        return;
    }
    end_login(c);
    c->state = CONNECTION_LATE;
    connection_lose_place(c, true, true, time_ns);
    if (!c->known_port)
        return;
    i->counters.late_joins++;
    resume_break_all(i);
    /* What it did before is as unseen as its login was. */
    if (time_ns > i->started_ns + EARLY_NS)
        tracker_gap(i->tracker, GAP_STREAM_HOLE,
                    "the beginning of an iSCSI session did not pass the monitor", time_ns);
}

/* Nobody can tell what passed since its search began: every volume that it may reach is in doubt,
 * as long as it goes on like this. */
static void despair(struct connection *c, uint64_t time_ns) {
    search_give_up(c->search);
    if (c->state == CONNECTION_LATE && !c->known_port) {
        c->state = CONNECTION_DONE; /* another protocol */
        search_free(c->search);
        c->search = NULL;
        return;
    }
    c->blind_reason = GAP_STREAM_HOLE;
    c->blind_text = c->state == CONNECTION_LATE
                        ? "an iSCSI session that was joined in the middle cannot be read"
                        : "bytes that the receiver acknowledged never passed the monitor, and with "
                          "them the place where PDUs begin";
    blind_gap(c, search_since_ns(c->search));
    if (c->session != NULL) {
        continuity_statuses_lost(c, search_since_ns(c->search));
        command_numbers_forget(&c->session->commands);
        c->statuses.known = false;
    }
    search_clear(c->search, time_ns);
}

/* The places are found: all that was held back is read. False: nothing of it matters any more. */
static bool resume(struct connection *c, uint64_t time_ns) {
    struct search *s = c->search;
    struct seek_digests digests = search_digests(s);
    bool hopeless = search_is_hopeless(s);
    bool late = c->state == CONNECTION_LATE;
    if (late && !late_enter(c, search_since_ns(s))) {
        search_free(s);
        c->search = NULL;
        connection_lose(c, GAP_OVERFLOW, "no memory left to follow a session", time_ns);
        return true;
    }
    for (int d = 0; d < 2; d++) {
        struct flow *flow = &c->flows[d];
        if (search_was_lost(s, (enum tcp_direction)d)) {
            reset_flow(flow, &digests);
            flow->position = search_position(s, (enum tcp_direction)d);
            flow->phase = (unsigned)(flow->position % 4);
        } else {
            framer_set_digests(&flow->framer, digests.header, digests.data);
        }
    }
    if (search_has_skipped(s)) {
        c->blind_reason = GAP_STREAM_HOLE;
        c->blind_text = "some of an iSCSI session passed before it was recognised as one";
        blind_gap(c, search_since_ns(s));
    }
    c->state = CONNECTION_FULL;
    c->data_digest_known = digests.data_known;
    bool going = search_replay(c);
    if (going && hopeless)
        blind_gap(c, time_ns);
    return going;
}

static bool settle(struct connection *c, bool last_chance, uint64_t time_ns) {
    bool going = true;
    while (going && !c->replaying && c->search != NULL && search_is_done(c->search, last_chance))
        going = resume(c, time_ns);
    return going;
}

/* What it holds is too much, or too old. */
static void end_patience(struct connection *c, uint64_t time_ns) {
    struct search *s = c->search;
    bool holds = search_has_bytes(s, TCP_TO_SERVER) || search_has_bytes(s, TCP_TO_CLIENT);
    if (search_is_hopeless(s)) {
        search_clear(s, time_ns);
    } else if (holds || c->state == CONNECTION_LATE) {
        despair(c, time_ns);
    } else {
        if (search_has_lost(s, TCP_TO_CLIENT))
            continuity_statuses_lost(c, search_since_ns(s));
        search_set_since(s, time_ns);
    }
}

void connection_tick(struct connection *c, uint64_t now_ns) {
    settle(c, true, now_ns);
    if (c->search != NULL && !c->replaying)
        end_patience(c, now_ns);
}

void connection_conclude(struct connection *c, uint64_t time_ns) {
    settle(c, true, time_ns);
    if (c->search != NULL)
        end_patience(c, time_ns);
}

static bool hold(struct connection *c, enum tcp_direction direction, struct cursor *in,
                 uint64_t time_ns) {
    size_t bytes = cursor_left(in);
    if (search_is_hopeless(c->search))
        blind_gap(c, time_ns);
    if (bytes > 0)
        search_data(c->search, direction, cursor_bytes(in, bytes), bytes, time_ns);
    if (search_is_full(c->search) && !search_skip(c->search, time_ns)) {
        if (!settle(c, true, time_ns))
            return false;
        if (c->search != NULL && search_is_full(c->search))
            end_patience(c, time_ns);
    }
    return settle(c, false, time_ns);
}

/*
 * The first data segment of a session that was joined mid-way: whether a digest follows it is seen
 * when more has come. Its PDU is read again then.
 */
static void ask_digest(struct connection *c, enum tcp_direction direction, uint64_t time_ns) {
    struct framer *f = &c->flows[direction].framer;
    size_t head_bytes = PDU_HEAD_BYTES + (size_t)f->pdu.ahs_bytes +
                        (f->header_digest ? (size_t)PDU_DIGEST_BYTES : 0);
    c->flows[direction].position -= head_bytes;
    c->search = search_begin(c, time_ns);
    if (c->search == NULL) {
        connection_lose(c, GAP_OVERFLOW, "no memory left to follow a connection", time_ns);
        return;
    }
    search_ask_digest(c->search, direction);
    search_data(c->search, direction, f->head, PDU_HEAD_BYTES, time_ns);
    if (f->pdu.ahs_bytes > 0)
        search_data(c->search, direction, f->ahs, f->pdu.ahs_bytes, time_ns);
    if (f->header_digest)
        search_data(c->search, direction, f->digest, PDU_DIGEST_BYTES, time_ns);
}

static void take_header(struct connection *c, enum tcp_direction direction, uint64_t time_ns) {
    struct flow *flow = &c->flows[direction];
    flow->use = USE_NONE;
    flow->task = NULL;
    if (c->state == CONNECTION_FULL && !c->data_digest_known && flow->framer.pdu.data_bytes > 0) {
        ask_digest(c, direction, time_ns);
        return;
    }
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
    return (c->state == CONNECTION_LOGIN || c->state == CONNECTION_FULL) && c->search == NULL;
}

/* A broken header digest hides where the next PDU begins; header and digest end a word. */
static void lose_header(struct connection *c, enum tcp_direction direction, uint64_t time_ns) {
    c->owner->counters.header_digest_errors++;
    connection_lose_place(c, direction == TCP_TO_SERVER, direction == TCP_TO_CLIENT, time_ns);
}

static void read_pdus(struct connection *c, enum tcp_direction direction, struct cursor *in,
                      uint64_t time_ns) {
    struct flow *flow = &c->flows[direction];
    while (is_readable(c)) {
        switch (framer_next(&flow->framer, in)) {
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
            lose_header(c, direction, time_ns);
            break;
        }
    }
}

static void run(struct connection *c, enum tcp_direction direction, struct cursor *in,
                uint64_t time_ns) {
    struct flow *flow = &c->flows[direction];
    flow->position += cursor_left(in);
    flow->in = in;
    read_pdus(c, direction, in, time_ns);
    flow->in = NULL;
}

/* The first bytes decide, so that other protocols cost nothing. */
static void begin(struct connection *c, enum tcp_direction direction, struct cursor first,
                  uint64_t time_ns) {
    bool login = c->from_start ? entry_may_begin(first.next, cursor_left(&first))
                               : entry_surely_begins(first.next, cursor_left(&first));
    if (direction != TCP_TO_SERVER || !login) {
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
    if (c->state == CONNECTION_NEW)
        begin(c, direction, in, time_ns);
    else if (c->state == CONNECTION_BLIND)
        blind_gap(c, time_ns);
    if (c->search == NULL)
        run(c, direction, &in, time_ns);
    if (c->search != NULL && !hold(c, direction, &in, time_ns))
        return false;
    return c->state != CONNECTION_DONE;
}

static bool hole_in_search(struct connection *c, enum tcp_direction direction, uint64_t bytes,
                           uint64_t time_ns) {
    struct search *s = c->search;
    bool lost = search_has_lost(s, direction);
    search_hole(s, direction, bytes, time_ns);
    if (lost && direction == TCP_TO_SERVER && c->session != NULL)
        session_data_lost(c->session, c);
    if (lost && time_ns < c->flows[direction].torn_ns)
        c->flows[direction].torn_ns = time_ns;
    if (search_is_hopeless(s))
        blind_gap(c, time_ns);
    return settle(c, false, time_ns);
}

/* What a PDU was in the middle of, and where the next one begins, are unknown. */
static void hole_in_stream(struct connection *c, enum tcp_direction direction, uint64_t bytes,
                           uint64_t time_ns) {
    struct flow *flow = &c->flows[direction];
    uint32_t offset = 0;
    uint32_t lost = 0;
    flow->position += bytes;
    /* How long the hole is, is known modulo 2^32 only when nobody watched for a while. */
    bool inside = !flow->restored && framer_hole(&flow->framer, bytes, &offset, &lost);
    if (c->state == CONNECTION_LOGIN) {
        c->from_start = false;
        connection_join_late(c, time_ns);
    } else if (inside) {
        duty_lost(c, direction, offset, lost);
        /* A PDU that ends in the hole ends no earlier than its header came. */
        struct cursor nothing = cursor_of("", 0);
        run(c, direction, &nothing, time_ns > flow->last_ns ? time_ns : flow->last_ns);
    } else {
        connection_lose_place(c, direction == TCP_TO_SERVER, direction == TCP_TO_CLIENT, time_ns);
    }
}

bool connection_hole(struct connection *c, enum tcp_direction direction, uint64_t bytes,
                     uint64_t time_ns) {
    if (c->state == CONNECTION_NEW) {
        c->from_start = false;
        connection_join_late(c, time_ns);
    } else if (c->state == CONNECTION_BLIND) {
        blind_gap(c, time_ns);
    } else if (c->search != NULL) {
        return hole_in_search(c, direction, bytes, time_ns) && c->state != CONNECTION_DONE;
    } else if (is_readable(c)) {
        hole_in_stream(c, direction, bytes, time_ns);
    }
    return c->state != CONNECTION_DONE;
}

/* A data digest tells the target which copy is the right one. */
static bool can_be_disputed(const struct connection *c, enum tcp_direction direction) {
    return direction == TCP_TO_SERVER && c->session != NULL && c->state == CONNECTION_FULL &&
           !c->flows[direction].framer.data_digest;
}

enum tcp_copy connection_again(struct connection *c, enum tcp_direction direction, uint64_t back,
                               const uint8_t *data, size_t bytes) {
    if (!can_be_disputed(c, direction))
        return TCP_COPY_SAME;
    if (c->search != NULL)
        return search_compare(c->search, direction, back, data, bytes);
    return sent_compare(c, c->flows[direction].position - back, data, bytes);
}

void connection_dispute(struct connection *c, enum tcp_direction direction, uint64_t back,
                        uint64_t bytes, uint64_t time_ns) {
    if (!can_be_disputed(c, direction))
        return;
    if (c->search == NULL)
        sent_dispute(c, c->flows[direction].position - back, bytes);
    else
        tracker_nexus_gap(c->session->nexus, GAP_STREAM_HOLE,
                          "bytes were sent again, and were not the same, when it was not known "
                          "where PDUs begin",
                          time_ns);
}
