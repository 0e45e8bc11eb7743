#include "tests/property/mangle.h"

#include "common/clock.h"
#include "tests/property/fc.h"

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

static uint32_t be32(const uint8_t *at) {
    return (uint32_t)be16(at) << 16 | be16(at + 2);
}

static void put_be16(uint8_t *at, size_t value) {
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static void add_be32(uint8_t *at, uint32_t more) {
    uint32_t value = be32(at);
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

/* Does it go to the server? False when it is neither TCP nor FC. */
static bool find_direction(const struct mangle *m, const struct packet *packet, bool *to_server) {
    struct place place;
    const uint8_t *fc = fc_find(packet);
    bool tcp = fc == NULL && find_tcp(packet, &place);
    if (fc != NULL)
        *to_server = fc_source(fc) != m->server_port;
    else if (tcp)
        *to_server = be16(packet->data + place.tcp + 2) == m->server_port;
    return fc != NULL || tcp;
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
    uint32_t sequence = be32(tcp + 4);
    uint32_t acknowledged = be32(tcp + 8);
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

/* --- bytes in other segments -------------------------------------------------------------------*/

static uint32_t sequence_of(const struct packet *packet, const struct place *place) {
    return be32(packet->data + place->tcp + 4);
}

static bool same_direction(const struct packet *a, const struct place *at, const struct packet *b,
                           const struct place *bt) {
    return memcmp(a->data + at->ip + 12, b->data + bt->ip + 12, 8) == 0 &&
           memcmp(a->data + at->tcp, b->data + bt->tcp, 4) == 0;
}

/* Only data that goes on, with nothing but ACK and PSH: what offload would put together. */
static bool is_plain(const struct packet *packet, const struct place *place) {
    return place->end > place->data && (packet->data[place->tcp + 13] & 0x17) == 0x10;
}

/*
 * How many packets from `first` on are consecutive bytes of one direction, up to `limit` of them
 * altogether. Others' packets end the run: what they acknowledge must not change its place.
 */
static size_t run_length(const struct packets *from, size_t first, size_t limit) {
    struct place start, place;
    if (!find_tcp(&from->list[first], &start) || !is_plain(&from->list[first], &start))
        return 0;
    uint32_t next = sequence_of(&from->list[first], &start);
    size_t bytes = 0;
    size_t i = first;
    for (; i < from->count; i++) {
        const struct packet *packet = &from->list[i];
        if (!find_tcp(packet, &place) || !is_plain(packet, &place) ||
            !same_direction(packet, &place, &from->list[first], &start) ||
            sequence_of(packet, &place) != next || bytes + place.end - place.data > limit)
            break;
        bytes += place.end - place.data;
        next += (uint32_t)(place.end - place.data);
    }
    return i - first;
}

/* One segment with the bytes of `count` packets; headers and time are those of the last. Its
 * checksum is as wrong as offload leaves it. */
static struct packet joined(const struct packets *from, size_t first, size_t count,
                            struct packets *to) {
    struct place start, place;
    find_tcp(&from->list[first], &start);
    struct packet whole = from->list[first + count - 1];
    find_tcp(&whole, &place);
    uint8_t *bytes = packets_block(to, 65536 + ETHERNET_BYTES);
    memcpy(bytes, whole.data, place.data);
    memcpy(bytes + place.tcp + 4, from->list[first].data + start.tcp + 4, 4);
    size_t at = place.data;
    struct place part;
    for (size_t i = first; i < first + count; i++) {
        if (!find_tcp(&from->list[i], &part))
            abort();
        memcpy(bytes + at, from->list[i].data + part.data, part.end - part.data);
        at += part.end - part.data;
    }
    put_be16(bytes + place.ip + 2, at - place.ip);
    put_be16(bytes + place.tcp + 16, 0xbad);
    whole.data = bytes;
    whole.caplen = whole.wire_length = (uint32_t)at;
    return whole;
}

static void merge(const struct mangle *m, const struct packets *from, struct packets *to) {
    for (size_t i = 0; i < from->count;) {
        size_t count = run_length(from, i, m->count);
        if (count < 2) {
            packets_add(to, &from->list[i++]);
            continue;
        }
        struct packet whole = joined(from, i, count, to);
        packets_add(to, &whole);
        i += count;
    }
}

/* Its bytes from somewhere in the middle of it on. */
static void cut_front(struct packet *packet, uint64_t random) {
    struct place place;
    if (!find_tcp(packet, &place))
        abort();
    uint8_t *bytes = (uint8_t *)(uintptr_t)packet->data;
    size_t gone = random % (place.end - place.data);
    memmove(bytes + place.data, bytes + place.data + gone, place.end - place.data - gone);
    put_be16(bytes + place.ip + 2, place.end - gone - place.ip);
    add_be32(bytes + place.tcp + 4, (uint32_t)gone);
    packet->caplen = packet->wire_length = (uint32_t)(place.end - gone);
}

/* The packets as they are, and some of them or parts of several again, later. */
static void repeat(const struct mangle *m, const struct packets *from, struct packets *to) {
    bool other_boundaries = m->kind == MANGLE_AGAIN;
    uint64_t state = m->seed;
    struct late *late = calloc(2 * from->count + 1, sizeof *late);
    size_t count = 0;
    if (late == NULL)
        abort();
    for (size_t i = 0; i < from->count; i++) {
        const struct packet *packet = &from->list[i];
        late[count] = (struct late){packet->time_ns, count, *packet};
        count++;
        if (mangle_random(&state) % (other_boundaries ? 16 : 32) != 0)
            continue;
        uint64_t wait_ns = NS_PER_SECOND + mangle_random(&state) % NS_PER_SECOND;
        struct packet again = *packet;
        if (other_boundaries) {
            size_t run = run_length(from, i, 16384);
            if (run < 2)
                continue;
            again = joined(from, i, run, to);
            cut_front(&again, mangle_random(&state));
            wait_ns = 1 + mangle_random(&state) % (m->count * NS_PER_MS + 1);
        }
        late[count] = (struct late){again.time_ns + wait_ns, count, again};
        count++;
    }
    deliver_late(late, count, true, to);
}

static void skew(const struct mangle *m, const struct packets *from, struct packets *to) {
    struct late *late = calloc(from->count + 1, sizeof *late);
    bool to_server;
    if (late == NULL)
        abort();
    for (size_t i = 0; i < from->count; i++) {
        const struct packet *packet = &from->list[i];
        bool delayed = find_direction(m, packet, &to_server) && to_server == (m->count % 2 != 0);
        late[i] = (struct late){packet->time_ns + (delayed ? m->count * NS_PER_MS : 0), i, *packet};
    }
    deliver_late(late, from->count, false, to);
}

/* Nothing guards a login: digests are agreed on in it. */
static bool is_login(const struct packet *packet, const struct place *place) {
    return memmem(packet->data + place->data, place->end - place->data, "iqn.", 4) != NULL ||
           memmem(packet->data + place->data, place->end - place->data, "Digest=", 7) != NULL ||
           memmem(packet->data + place->data, place->end - place->data, "TargetP", 7) != NULL;
}

/* Where a flipped bit shows: the payload of TCP, all of an FC frame. */
static bool find_guarded(const struct packet *packet, size_t *start, size_t *end) {
    struct place place;
    const uint8_t *fc = fc_find(packet);
    if (fc != NULL) {
        *start = (size_t)(fc - packet->data);
        *end = packet->caplen - 4; /* EOF */
        return true;
    }
    if (!find_tcp(packet, &place) || place.end == place.data || is_login(packet, &place))
        return false;
    *start = place.data;
    *end = place.end;
    return true;
}

static void flip(const struct mangle *m, const struct packets *from, struct packets *to) {
    uint64_t state = m->seed;
    size_t start, end;
    bool done = false;
    for (size_t i = 0; i < from->count; i++) {
        const struct packet *packet = &from->list[i];
        if (done || i < m->at || !find_guarded(packet, &start, &end)) {
            packets_add(to, packet);
            continue;
        }
        uint8_t *bytes;
        struct packet copy = copy_of(packet, to, &bytes);
        size_t at = start + mangle_random(&state) % (end - start);
        bytes[at] ^= (uint8_t)(1u << mangle_random(&state) % 8);
        packets_add(to, &copy);
        done = true;
    }
}

/* --- what nobody could know --------------------------------------------------------------------*/

/* The longest that a receiver may delay an acknowledgement is 500 ms. */
#define BLACKOUT_NS (450 * NS_PER_MS)

struct flow {
    uint64_t seen_ns;
    uint64_t lost_ns; /* the first bytes that were lost since; 0 none */
};

static struct flow *flow_of(struct flow flows[static 65536], const struct mangle *m,
                            const struct packet *packet) {
    struct place place;
    if (fc_find(packet) != NULL)
        return &flows[0]; /* all of it is one */
    if (!find_tcp(packet, &place))
        return NULL;
    unsigned source = be16(packet->data + place.tcp);
    return &flows[source == m->server_port ? be16(packet->data + place.tcp + 2) : source];
}

static bool carries(const struct packet *packet) {
    struct place place;
    if (!find_tcp(packet, &place))
        return true; /* FC: nothing is sent for nothing */
    return place.end > place.data || (packet->data[place.tcp + 13] & 0x07) != 0;
}

/* Does `packet` acknowledge all bytes before `end` that came from the other side than its own? */
static bool acknowledges(const struct packet *packet, const struct place *place, uint32_t end) {
    return (packet->data[place->tcp + 13] & 0x10) != 0 &&
           (int32_t)(be32(packet->data + place->tcp + 8) - end) >= 0;
}

/*
 * Packet `lost` is not there. When does the first other copy of its bytes come, with nothing before
 * that tells that they had come already? 0: something does, or none comes.
 */
static uint64_t comes_again(const struct packets *from, size_t lost, const bool *survived) {
    const struct packet *gone = &from->list[lost];
    struct place was, place;
    if (!find_tcp(gone, &was) || was.end == was.data)
        return 0;
    uint32_t start = sequence_of(gone, &was);
    uint32_t bytes = (uint32_t)(was.end - was.data);
    for (size_t i = lost + 1; i < from->count; i++) {
        const struct packet *packet = &from->list[i];
        if (packet->time_ns > gone->time_ns + 2 * NS_PER_SECOND)
            return 0;
        if (!survived[i] || !find_tcp(packet, &place))
            continue;
        if (same_direction(packet, &place, gone, &was)) {
            if (sequence_of(packet, &place) - start < bytes && place.end > place.data)
                return packet->time_ns;
        } else if (be16(packet->data + place.tcp) == be16(gone->data + was.tcp + 2) &&
                   be16(packet->data + place.tcp + 2) == be16(gone->data + was.tcp) &&
                   acknowledges(packet, &place, start + bytes)) {
            return 0;
        }
    }
    return 0;
}

static bool *who_survives(const struct mangle *m, const struct packets *from) {
    uint64_t state = m->seed;
    bool *survived = calloc(from->count + 1, sizeof *survived);
    if (survived == NULL)
        abort();
    for (size_t i = 0; i < from->count; i++)
        survived[i] = survives(m, &from->list[i], i, &state);
    return survived;
}

/* Nothing was seen for so long. */
static size_t silences(const struct mangle *m, const struct packets *from, const bool *survived,
                       struct blackout *to, size_t most) {
    size_t count = 0;
    struct flow *flows = calloc(65536, sizeof *flows);
    if (flows == NULL)
        abort();
    for (size_t i = 0; i < from->count && count < most; i++) {
        const struct packet *packet = &from->list[i];
        struct flow *flow = flow_of(flows, m, packet);
        if (flow == NULL)
            continue;
        if (!survived[i]) {
            if (flow->lost_ns == 0 && carries(packet))
                flow->lost_ns = packet->time_ns;
            continue;
        }
        if (flow->lost_ns != 0 && packet->time_ns > flow->seen_ns + BLACKOUT_NS)
            to[count++] = (struct blackout){flow->lost_ns - 1, packet->time_ns};
        *flow = (struct flow){.seen_ns = packet->time_ns};
    }
    for (size_t port = 0; port < 65536 && count < most; port++)
        if (flows[port].lost_ns != 0)
            to[count++] = (struct blackout){flows[port].lost_ns - 1, UINT64_MAX};
    free(flows);
    return count;
}

size_t mangle_blackouts(const struct mangle *m, const struct packets *from, struct blackout *to,
                        size_t most) {
    if (m->kind != MANGLE_REMOVE && m->kind != MANGLE_THIN)
        return 0;
    bool *survived = who_survives(m, from);
    size_t count = silences(m, from, survived, to, most);
    for (size_t i = 0; i < from->count && count < most; i++) {
        uint64_t again_ns = survived[i] ? 0 : comes_again(from, i, survived);
        if (again_ns != 0)
            to[count++] = (struct blackout){from->list[i].time_ns - 1, again_ns};
    }
    free(survived);
    return count;
}

size_t mangle_vanished(const struct mangle *m, const struct packets *from, uint64_t *to,
                       size_t most) {
    if (m->kind != MANGLE_REMOVE && m->kind != MANGLE_THIN)
        return 0;
    bool *survived = who_survives(m, from);
    size_t count = fc_vanished(from, survived, to, most);
    free(survived);
    return count;
}

void mangle_apply(const struct mangle *m, const struct packets *from, struct packets *to) {
    packets_clear(to);
    if (m->kind == MANGLE_DUPLICATE || m->kind == MANGLE_REORDER)
        delay(m, from, to);
    else if (m->kind == MANGLE_SHIFT)
        shift(m, from, to);
    else if (m->kind == MANGLE_MERGE)
        merge(m, from, to);
    else if (m->kind == MANGLE_AGAIN || m->kind == MANGLE_LATE)
        repeat(m, from, to);
    else if (m->kind == MANGLE_SKEW)
        skew(m, from, to);
    else if (m->kind == MANGLE_FLIP)
        flip(m, from, to);
    else
        pick(m, from, to);
}

/* RFC 7323 TSval, where it is as everybody aligns it (appendix A). */
static bool find_stamp(const struct packet *packet, const struct place *place, uint32_t *stamp) {
    static const uint8_t aligned[] = {1, 1, 8, 10};
    const uint8_t *options = packet->data + place->tcp + TCP_LEAST_BYTES;
    if (place->data < place->tcp + TCP_LEAST_BYTES + 12 ||
        memcmp(options, aligned, sizeof aligned) != 0)
        return false;
    *stamp = be32(options + sizeof aligned);
    return true;
}

/* The farthest bytes of one direction. */
struct farthest {
    uint32_t ports;
    uint32_t end;
    uint32_t stamp;
};

bool mangle_finds_copies(const struct packets *from) {
    enum { FLOWS = 64 };
    struct farthest flows[FLOWS];
    size_t count = 0;
    for (size_t i = 0; i < from->count; i++) {
        const uint8_t *data = from->list[i].data;
        struct place place;
        struct farthest this;
        if (!find_tcp(&from->list[i], &place) || place.end == place.data ||
            !find_stamp(&from->list[i], &place, &this.stamp))
            continue;
        this.ports = be32(data + place.tcp);
        this.end = be32(data + place.tcp + 4) + (uint32_t)(place.end - place.data);
        size_t f = 0;
        while (f < count && flows[f].ports != this.ports)
            f++;
        if (f == FLOWS)
            return true;
        bool behind = f < count && (int32_t)(this.end - flows[f].end) <= 0;
        if (behind && (int32_t)(this.stamp - flows[f].stamp) > 0)
            return true;
        count += f == count;
        if (!behind)
            flows[f] = this;
    }
    return false;
}

bool mangle_keeps_times(const struct mangle *m) {
    return m->kind != MANGLE_REORDER && m->kind != MANGLE_DUPLICATE && m->kind != MANGLE_MERGE &&
           m->kind != MANGLE_SKEW;
}

void mangle_describe(const struct mangle *m, char *text, size_t size) {
    static const char *const names[MANGLE_KINDS] = {
        "remove", "thin",    "duplicate", "reorder", "snap", "behead", "one-way", "shift",
        "split",  "restart", "merge",     "again",   "late", "skew",   "flip"};
    snprintf(text, size, "%s(at=%zu, count=%zu, seed=%" PRIu64 ")", names[m->kind], m->at, m->count,
             m->seed);
}
