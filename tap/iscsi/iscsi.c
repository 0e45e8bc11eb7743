#include "tap/iscsi/iscsi.h"

#include "tap/iscsi/internal.h"

static const uint16_t assigned_ports[] = {3260, 860}; /* IANA; RFC 7143 13 */

struct iscsi *iscsi_create(struct tracker *tracker) {
    struct iscsi *i = calloc(1, sizeof *i);
    if (i == NULL)
        return NULL;
    i->tracker = tracker;
    i->crowd = (struct connection){
        .owner = i,
        .state = CONNECTION_BLIND,
        .blind_reason = GAP_OVERFLOW,
        .blind_text = "more connections than the monitor can follow",
    };
    return i;
}

void iscsi_destroy(struct iscsi *i) {
    if (i == NULL)
        return;
    while (i->connections != NULL) {
        struct connection *c = i->connections;
        session_leave(c, 0, NULL, 0);
        connection_destroy(c);
    }
    sessions_release(i);
    resume_release(i);
    probe_release(i);
    free(i);
}

const struct iscsi_counters *iscsi_counters(const struct iscsi *i) {
    return &i->counters;
}

static bool is_known_port(const struct iscsi *i, uint16_t port) {
    for (size_t k = 0; k < sizeof assigned_ports / sizeof assigned_ports[0]; k++) {
        if (assigned_ports[k] == port)
            return true;
    }
    for (size_t k = 0; k < i->port_count; k++) {
        if (i->ports[k] == port)
            return true;
    }
    return false;
}

static void note_time(struct iscsi *i, uint64_t time_ns) {
    if (i->started_ns == 0) {
        i->started_ns = time_ns;
        /* Of before the restart, when there was one, is what was loaded. */
        i->resume_until_ns =
            i->now_ns > 0 && time_ns < i->now_ns + RESUME_NS ? time_ns + RESUME_NS : 0;
    }
    if (time_ns > i->now_ns)
        i->now_ns = time_ns;
}

void iscsi_resume_break(struct iscsi *i) {
    resume_break_all(i);
}

void iscsi_tick(struct iscsi *i, uint64_t now_ns) {
    struct connection *c;
    note_time(i, now_ns);
    while ((c = search_overdue(i, i->now_ns)) != NULL)
        connection_tick(c, i->now_ns);
    continuity_tick(i, i->now_ns);
}

uint64_t iscsi_oldest_pending(const struct iscsi *i) {
    uint64_t held_ns = search_oldest(i);
    uint64_t counted_ns = continuity_oldest(i);
    return held_ns < counted_ns ? held_ns : counted_ns;
}

static enum tcp_direction direction_of(const struct connection *c, enum tcp_direction direction) {
    if (!c->swapped)
        return direction;
    return direction == TCP_TO_SERVER ? TCP_TO_CLIENT : TCP_TO_SERVER;
}

static void *consume_open(void *context, const struct tcp_endpoints *endpoints, bool from_start,
                          uint64_t time_ns) {
    struct iscsi *i = context;
    note_time(i, time_ns);
    /* Who is the client of a connection joined in the middle is a guess. */
    bool known = is_known_port(i, endpoints->server_port) ||
                 (!from_start && is_known_port(i, endpoints->client_port));
    if (i->connection_count >= MAX_CONNECTIONS)
        return known ? &i->crowd : NULL;
    struct connection *c = connection_create(i, from_start, endpoints->server_port);
    if (c == NULL)
        return known ? &i->crowd : NULL;
    c->known_port = known;
    c->endpoints = *endpoints;
    c->swapped = !from_start && known && !is_known_port(i, endpoints->server_port);
    if (c->swapped)
        c->server_port = endpoints->client_port;
    return c;
}

static bool keep_or_destroy(struct connection *c, bool keep, uint64_t time_ns) {
    if (keep)
        return true;
    session_leave(c, 0, NULL, time_ns);
    connection_destroy(c);
    return false;
}

static bool consume_data(void *connection, enum tcp_direction direction, const uint8_t *data,
                         size_t bytes, uint64_t time_ns) {
    struct connection *c = connection;
    enum tcp_direction to = direction_of(c, direction);
    return keep_or_destroy(c, connection_data(c, to, data, bytes, time_ns), time_ns);
}

static bool consume_hole(void *connection, enum tcp_direction direction, uint64_t bytes,
                         uint64_t time_ns) {
    struct connection *c = connection;
    enum tcp_direction to = direction_of(c, direction);
    return keep_or_destroy(c, connection_hole(c, to, bytes, time_ns), time_ns);
}

static enum tcp_copy consume_again(void *connection, enum tcp_direction direction, uint64_t back,
                                   const uint8_t *data, size_t bytes) {
    struct connection *c = connection;
    return connection_again(c, direction_of(c, direction), back, data, bytes);
}

static void consume_dispute(void *connection, enum tcp_direction direction, uint64_t back,
                            uint64_t bytes, uint64_t time_ns) {
    struct connection *c = connection;
    connection_dispute(c, direction_of(c, direction), back, bytes, time_ns);
}

static void consume_close(void *connection, enum tcp_end why, uint64_t time_ns) {
    static const char *const texts[] = {
        [TCP_END_FIN] = "its connection was closed before its status was seen",
        [TCP_END_RESET] = "its connection was reset before its status was seen",
        [TCP_END_REPLACED] = "its connection was opened again before its status was seen",
        [TCP_END_EVICTED] = "the monitor had no room left to follow its connection",
    };
    struct connection *c = connection;
    if (c == &c->owner->crowd)
        return;
    connection_conclude(c, time_ns);
    /* When the monitor ends, what is in flight is in flight: nothing is said about it. */
    if (why == TCP_END_SHUTDOWN)
        session_leave(c, 0, NULL, time_ns);
    else
        session_leave(c, why == TCP_END_EVICTED ? GAP_OVERFLOW : GAP_NEXUS_LOST, texts[why],
                      time_ns);
    connection_destroy(c);
}

struct tcp_consumer iscsi_consumer(struct iscsi *i) {
    return (struct tcp_consumer){.context = i,
                                 .open = consume_open,
                                 .data = consume_data,
                                 .hole = consume_hole,
                                 .close = consume_close,
                                 .again = consume_again,
                                 .dispute = consume_dispute};
}
