#include "tap/iscsi/internal.h"
#include "tap/iscsi/shape.h"

enum { STAGE_FULL_FEATURE = 3 };

bool entry_may_begin(const uint8_t *data, size_t bytes) {
    struct cursor c = cursor_of(data, bytes);
    bool fits = (cursor_u8(&c) & 0xbf) == PDU_LOGIN_REQUEST;
    cursor_skip(&c, 1); /* flags */
    /* Versions 0 at most and at least, no AHS; bytes that have not come yet read as 0. */
    fits &= cursor_u8(&c) == 0;
    fits &= cursor_u8(&c) == 0;
    fits &= cursor_u8(&c) == 0;
    return fits;
}

bool entry_surely_begins(const uint8_t *data, size_t bytes) {
    struct cursor c = cursor_of(data, bytes);
    const uint8_t *head = cursor_bytes(&c, PDU_HEAD_BYTES);
    uint8_t letter = cursor_u8(&c);
    return cursor_ok(&c) && entry_may_begin(data, bytes) && shape_fits(head, true) &&
           letter >= 'A' && letter <= 'Z';
}

static void not_iscsi(struct connection *c) {
    c->owner->counters.malformed++;
    c->state = CONNECTION_DONE;
}

/* What is expected in login phase, and nothing else (RFC 7143 6.3). */
static bool is_expected(const struct framer *f, enum tcp_direction direction) {
    uint8_t opcode = direction == TCP_TO_SERVER ? PDU_LOGIN_REQUEST : PDU_LOGIN_RESPONSE;
    return f->pdu.opcode == opcode && f->pdu.ahs_bytes == 0;
}

static void remember_port(struct iscsi *i, uint16_t port) {
    for (size_t k = 0; k < i->port_count; k++) {
        if (i->ports[k] == port)
            return;
    }
    if (i->port_count < MAX_PORTS)
        i->ports[i->port_count++] = port;
}

/* The place where PDUs go on is known, but not what they will mean. */
static void lose_login(struct connection *c, uint16_t reason, const char *text, uint64_t time_ns) {
    /* Where no target has answered a login yet, it need not be iSCSI at all. */
    if (!c->known_port) {
        not_iscsi(c);
        return;
    }
    c->owner->counters.malformed += reason != GAP_OVERFLOW;
    connection_lose(c, reason, text, time_ns);
}

/* The statuses of the login took numbers; its requests are immediate, and took none. */
static void start_numbers(struct connection *c) {
    uint32_t lost;
    struct pdu_numbers last = pdu_numbers(c->flows[TCP_TO_CLIENT].framer.head);
    status_numbers_see(&c->statuses, last.number, true, &lost);
    if (!c->session->commands.known)
        command_numbers_reach(&c->session->commands, c->first_command);
}

static bool begin_login(struct connection *c) {
    struct iscsi *i = c->owner;
    if (c->login != NULL)
        return true;
    c->login = i->login_count < MAX_LOGINS ? login_create() : NULL;
    if (c->login != NULL)
        i->login_count++;
    return c->login != NULL;
}

static void take_request(struct connection *c, const struct pdu_login *request, uint64_t time_ns) {
    c->isid = request->isid;
    c->tsih = request->tsih;
    c->id = request->connection;
    c->first_command = pdu_numbers(c->flows[TCP_TO_SERVER].framer.head).number;
    if (!begin_login(c))
        lose_login(c, GAP_OVERFLOW, "more logins at once than the monitor can follow", time_ns);
}

void entry_header(struct connection *c, enum tcp_direction direction, uint64_t time_ns) {
    struct flow *flow = &c->flows[direction];
    struct pdu_login login = pdu_login(flow->framer.head);
    bool first = c->login == NULL && direction == TCP_TO_SERVER;
    bool expected = is_expected(&flow->framer, direction);
    if (first && (!expected || login.version_min > 0)) {
        c->owner->counters.malformed++;
        connection_join_late(c, time_ns);
        return;
    }
    if (!expected || (c->login == NULL && !first)) {
        lose_login(c, GAP_MALFORMED, "a login that could not be followed to its end", time_ns);
        return;
    }
    flow->use = USE_LOGIN;
    if (direction == TCP_TO_SERVER)
        take_request(c, &login, time_ns);
}

static enum login_side side_of(enum tcp_direction direction) {
    return direction == TCP_TO_SERVER ? LOGIN_INITIATOR : LOGIN_TARGET;
}

static void malformed(struct connection *c, uint64_t time_ns) {
    lose_login(c, GAP_MALFORMED, "a login whose text keys cannot be read", time_ns);
}

void entry_text(struct connection *c, enum tcp_direction direction, uint64_t time_ns) {
    const struct framer *f = &c->flows[direction].framer;
    if (!login_text(c->login, side_of(direction), f->piece, f->piece_bytes))
        malformed(c, time_ns);
}

static void enter_full_feature(struct connection *c, uint64_t time_ns) {
    struct login_result result = login_result(c->login);
    c->owner->counters.logins++;
    remember_port(c->owner, c->server_port);
    if (result.discovery) {
        c->state = CONNECTION_DONE;
        return;
    }
    if (result.target[0] == '\0' || result.initiator[0] == '\0') {
        malformed(c, time_ns);
        return;
    }
    c->session = session_enter(c, &result, time_ns);
    if (c->session == NULL || result.unreadable) {
        connection_lose(c, c->session == NULL ? GAP_OVERFLOW : GAP_MALFORMED,
                        "a session that uses an option which the monitor cannot follow", time_ns);
        return;
    }
    login_destroy(c->login);
    c->login = NULL;
    c->owner->login_count--;
    framer_set_digests(&c->flows[TCP_TO_SERVER].framer, result.header_digest, result.data_digest);
    framer_set_digests(&c->flows[TCP_TO_CLIENT].framer, result.header_digest, result.data_digest);
    c->data_digest_known = true;
    c->state = CONNECTION_FULL;
    start_numbers(c);
}

void entry_end(struct connection *c, enum tcp_direction direction, uint64_t time_ns) {
    struct pdu_login login = pdu_login(c->flows[direction].framer.head);
    if (!login_pdu_end(c->login, side_of(direction), login.more)) {
        malformed(c, time_ns);
        return;
    }
    if (direction == TCP_TO_SERVER)
        return;
    c->known_port = true;
    if (!framer_is_between(&c->flows[TCP_TO_SERVER].framer))
        malformed(c, time_ns); /* an answer to a request that is still under way */
    else if (login.status_class != 0)
        c->state = CONNECTION_DONE; /* refused or sent elsewhere: the connection ends */
    else if (login.transit && login.next_stage == STAGE_FULL_FEATURE)
        enter_full_feature(c, time_ns);
}
