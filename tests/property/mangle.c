#include "tests/property/mangle.h"

#include "common/clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ETHERNET_BYTES = 14, TCP_LEAST_BYTES = 20, DLT_ETHERNET = 1, PROTOCOL_TCP = 6 };

uint64_t mangle_random(uint64_t *state) {
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* Where TCP lies in a plain Ethernet and IPv4 frame; the corpus has no others. */
struct place {
    size_t ip;
    size_t tcp;
    size_t data;
    size_t end;
};

static unsigned be16(const uint8_t *at) {
    return (unsigned)at[0] << 8 | at[1];
}

static void put_be16(uint8_t *at, size_t value) {
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static void add_be32(uint8_t *at, uint32_t more) {
    uint32_t value = (uint32_t)be16(at) << 16 | be16(at + 2);
    value += more;
    put_be16(at, value >> 16);
    put_be16(at + 2, value & 0xffff);
}

static bool find_tcp(const struct packet *packet, struct place *place) {
    const uint8_t *d = packet->data;
    if (packet->link_type != DLT_ETHERNET || packet->caplen < ETHERNET_BYTES + 20 ||
        be16(d + 12) != 0x0800 || d[ETHERNET_BYTES + 9] != PROTOCOL_TCP)
        return false;
    place->ip = ETHERNET_BYTES;
    place->tcp = place->ip + (size_t)(d[place->ip] & 15) * 4;
    place->end = place->ip + be16(d + place->ip + 2);
    if (place->end > packet->caplen || place->tcp + TCP_LEAST_BYTES > place->end)
        return false;
    place->data = place->tcp + (size_t)(d[place->tcp + 12] >> 4) * 4;
    return place->data <= place->end;
}

/* An FC frame in plain FCoE; the corpus has no other. NULL: it is none. */
static const uint8_t *find_fc(const struct packet *packet) {
    const uint8_t *d = packet->data;
    enum { FCOE_BYTES = 14, HEADER_BYTES = 24 };
    if (packet->link_type != DLT_ETHERNET ||
        packet->caplen < ETHERNET_BYTES + FCOE_BYTES + HEADER_BYTES || be16(d + 12) != 0x8906)
        return NULL;
    return d + ETHERNET_BYTES + FCOE_BYTES;
}

/* Does it go to the server? False for neither direction, too. */
static bool find_direction(const struct mangle *m, const struct packet *packet, bool *to_server) {
    struct place place;
    const uint8_t *fc = find_fc(packet);
    if (fc != NULL) {
        *to_server = be16(fc + 10) != m->server_port; /* S_ID */
        return true;
    }
    if (!find_tcp(packet, &place))
        return false;
    *to_server = be16(packet->data + place.tcp + 2) == m->server_port;
    return true;
}

static struct packet copy_of(const struct packet *packet, struct packets *to, uint8_t **bytes) {
    struct packet copy = *packet;
    *bytes = packets_block(to, packet->caplen);
    memcpy(*bytes, packet->data, packet->caplen);
    copy.data = *bytes;
    return copy;
}

struct late {
    uint64_t due_ns;
    size_t order;
    struct packet packet;
};

static int compare_late(const void *left, const void *right) {
    const struct late *a = left;
    const struct late *b = right;
    if (a->due_ns != b->due_ns)
        return a->due_ns < b->due_ns ? -1 : 1;
    return a->order < b->order ? -1 : a->order > b->order;
}

/* Packets in the order in which they get to the monitor, with the stamps of when they got there
 * (or, for stamps made before a queue, with their own). */
static void deliver_late(struct late *late, size_t count, bool stamped, struct packets *to) {
    qsort(late, count, sizeof *late, compare_late);
    for (size_t i = 0; i < count; i++) {
        struct packet packet = late[i].packet;
        if (stamped)
            packet.time_ns = late[i].due_ns;
        packets_add(to, &packet);
    }
    free(late);
}

static void delay(const struct mangle *m, const struct packets *from, struct packets *to) {
    bool duplicate = m->kind == MANGLE_DUPLICATE;
    uint64_t state = m->seed;
    struct late *late = calloc(2 * from->count + 1, sizeof *late);
    size_t count = 0;
    if (late == NULL)
        abort();
    for (size_t i = 0; i < from->count; i++) {
        const struct packet *packet = &from->list[i];
        uint64_t wait_ns = mangle_random(&state) % (20 * NS_PER_MS);
        uint64_t due_ns = packet->time_ns + (duplicate ? 0 : wait_ns);
        late[count] = (struct late){due_ns, count, *packet};
        count++;
        if (!duplicate || mangle_random(&state) % 4 != 0)
            continue;
        late[count] = (struct late){packet->time_ns + wait_ns * 3 / 2, count, *packet};
        count++;
    }
    deliver_late(late, count, duplicate, to);
}

static void shift(const struct mangle *m, const struct packets *from, struct packets *to) {
    struct place place;
    if (!find_tcp(&from->list[m->at], &place)) {
        for (size_t i = 0; i < from->count; i++)
            packets_add(to, &from->list[i]);
        return;
    }
    const uint8_t *tcp = from->list[m->at].data + place.tcp;
    bool to_server = be16(tcp + 2) == m->server_port;
    uint32_t sequence = (uint32_t)be16(tcp + 4) << 16 | be16(tcp + 6);
    uint32_t acknowledged = (uint32_t)be16(tcp + 8) << 16 | be16(tcp + 10);
    uint32_t more[2]; /* [1]: numbers of what goes to the server */
    more[to_server] = 0U - sequence - 1;
    more[!to_server] = 0U - acknowledged - 1;
    for (size_t i = 0; i < from->count; i++) {
        uint8_t *bytes;
        struct packet copy = copy_of(&from->list[i], to, &bytes);
        if (find_tcp(&copy, &place)) {
            bool up = be16(bytes + place.tcp + 2) == m->server_port;
            add_be32(bytes + place.tcp + 4, more[up]);
            if ((bytes[place.tcp + 13] & 0x10) != 0)
                add_be32(bytes + place.tcp + 8, more[!up]);
        }
        packets_add(to, &copy);
    }
}

/* Two packets out of one: the first without what only the last byte may carry (FIN, PSH). */
static bool split(const struct packet *packet, struct packets *to, size_t first_bytes) {
    struct place place;
    if (!find_tcp(packet, &place) || place.end - place.data < 2 ||
        (packet->data[place.tcp + 13] & 0x07) != 0)
        return false;
    size_t cut = place.data + 1 + first_bytes % (place.end - place.data - 1);
    uint8_t *bytes;
    struct packet first = copy_of(packet, to, &bytes);
    put_be16(bytes + place.ip + 2, cut - place.ip);
    first.caplen = first.wire_length = (uint32_t)cut;
    packets_add(to, &first);
    struct packet second = copy_of(packet, to, &bytes);
    size_t rest = place.end - cut;
    memmove(bytes + place.data, bytes + cut, rest);
    put_be16(bytes + place.ip + 2, place.data + rest - place.ip);
    add_be32(bytes + place.tcp + 4, (uint32_t)(cut - place.data));
    second.caplen = second.wire_length = (uint32_t)(place.data + rest);
    packets_add(to, &second);
    return true;
}

static bool survives(const struct mangle *m, const struct packet *packet, size_t i,
                     uint64_t *state) {
    bool to_server;
    switch (m->kind) {
    case MANGLE_REMOVE:
        return i < m->at || i >= m->at + m->count;
    case MANGLE_THIN:
        return mangle_random(state) % m->count != 0;
    case MANGLE_BEHEAD:
        return i >= m->at;
    case MANGLE_ONE_WAY:
        return !find_direction(m, packet, &to_server) || to_server == (m->count != 0);
    default:
        return true;
    }
}

static void pick(const struct mangle *m, const struct packets *from, struct packets *to) {
    uint64_t state = m->seed;
    for (size_t i = 0; i < from->count; i++) {
        struct packet packet = from->list[i];
        if (!survives(m, &packet, i, &state))
            continue;
        if (m->kind == MANGLE_SPLIT && mangle_random(&state) % 2 == 0 &&
            split(&packet, to, (size_t)(mangle_random(&state) % 65536)))
            continue;
        if (m->kind == MANGLE_SNAP && packet.caplen > m->count)
            packet.caplen = (uint32_t)m->count;
        packets_add(to, &packet);
    }
}

/* The longest that a receiver may delay an acknowledgement is 500 ms. */
#define BLACKOUT_NS (450 * NS_PER_MS)

struct flow {
    uint64_t seen_ns;
    bool lost;
};

static struct flow *flow_of(struct flow flows[static 65536], const struct mangle *m,
                            const struct packet *packet) {
    struct place place;
    if (!find_tcp(packet, &place))
        return NULL;
    unsigned source = be16(packet->data + place.tcp);
    return &flows[source == m->server_port ? be16(packet->data + place.tcp + 2) : source];
}

size_t mangle_blackouts(const struct mangle *m, const struct packets *from, struct blackout *to,
                        size_t most) {
    uint64_t state = m->seed;
    size_t count = 0;
    struct flow *flows = calloc(65536, sizeof *flows);
    if (flows == NULL)
        abort();
    if (m->kind != MANGLE_REMOVE && m->kind != MANGLE_THIN)
        most = 0;
    for (size_t i = 0; i < from->count && count < most; i++) {
        const struct packet *packet = &from->list[i];
        bool seen = survives(m, packet, i, &state);
        struct flow *flow = flow_of(flows, m, packet);
        if (flow == NULL)
            continue;
        if (seen && flow->lost && packet->time_ns > flow->seen_ns + BLACKOUT_NS)
            to[count++] = (struct blackout){flow->seen_ns, packet->time_ns};
        flow->lost = !seen;
        if (seen)
            flow->seen_ns = packet->time_ns;
    }
    for (size_t port = 0; port < 65536 && count < most; port++)
        if (flows[port].lost)
            to[count++] = (struct blackout){flows[port].seen_ns, UINT64_MAX};
    free(flows);
    return count;
}

/* What is left of the exchange that an OX_ID names now. */
struct fc_exchange {
    uint64_t issued_ns;
    bool open;
    bool seen;
};

static int compare_times(const void *left, const void *right) {
    const uint64_t *a = left;
    const uint64_t *b = right;
    return *a < *b ? -1 : *a > *b;
}

size_t mangle_vanished(const struct mangle *m, const struct packets *from, uint64_t *to,
                       size_t most) {
    enum { COMMAND = 0x06, RESPONSE = 0x07 };
    uint64_t state = m->seed;
    size_t count = 0;
    struct fc_exchange *exchanges = calloc(65536, sizeof *exchanges);
    if (exchanges == NULL)
        abort();
    if (m->kind != MANGLE_REMOVE && m->kind != MANGLE_THIN)
        most = 0;
    for (size_t i = 0; i < from->count && count < most; i++) {
        const struct packet *packet = &from->list[i];
        bool seen = survives(m, packet, i, &state);
        const uint8_t *fc = find_fc(packet);
        if (fc == NULL)
            continue;
        struct fc_exchange *x = &exchanges[be16(fc + 16)];
        if (fc[0] == COMMAND)
            *x = (struct fc_exchange){.issued_ns = packet->time_ns, .open = true};
        x->seen |= seen;
        if (fc[0] == RESPONSE && x->open && !x->seen)
            to[count++] = x->issued_ns;
        x->open = x->open && fc[0] != RESPONSE;
    }
    free(exchanges);
    qsort(to, count, sizeof *to, compare_times);
    return count;
}

void mangle_apply(const struct mangle *m, const struct packets *from, struct packets *to) {
    packets_clear(to);
    if (m->kind == MANGLE_DUPLICATE || m->kind == MANGLE_REORDER)
        delay(m, from, to);
    else if (m->kind == MANGLE_SHIFT)
        shift(m, from, to);
    else
        pick(m, from, to);
}

bool mangle_keeps_times(const struct mangle *m) {
    return m->kind != MANGLE_REORDER && m->kind != MANGLE_DUPLICATE;
}

void mangle_describe(const struct mangle *m, char *text, size_t size) {
    static const char *const names[MANGLE_KINDS] = {
        "remove", "thin", "duplicate", "reorder", "snap", "behead", "one-way", "shift", "split"};
    snprintf(text, size, "%s(at=%zu, count=%zu, seed=%" PRIu64 ")", names[m->kind], m->at, m->count,
             m->seed);
}
