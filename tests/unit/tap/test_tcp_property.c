/*
 * A talk between two hosts, as a bad mirror port shows it: late by up to nearly the reorder window,
 * in any order, twice, with retransmissions cut elsewhere, perhaps with packets missing that the
 * hosts had received. The consumer must hear what was said, causes before effects, and of what is
 * missing how much.
 */
#include "common/clock.h"
#include "common/rangeset.h"
#include "tap/tcp/tcp.h"
#include "tests/unit/common/seed.h"

#include <criterion/criterion.h>
#include <string.h>

enum { ROUNDS = 400, STREAM = 60000, PACKETS = 4000, SEGMENT = 1460 };
#define LATE_NS (400 * NS_PER_MS)
/* Without timestamps in the segments, what comes long after its acknowledgement is not believed. */
#define UNSTAMPED_LATE_NS (12 * NS_PER_MS)

struct packet_seen {
    struct tcp_segment segment;
    uint64_t arrival_ns;
    uint64_t offset; /* of its data in the stream */
    int from;
    bool missing;
};

struct talk {
    unsigned seed;
    bool stamped;
    uint8_t said[2][STREAM];
    uint64_t depends[2][STREAM]; /* bytes of the other side that came before this one, surely */
    uint64_t sent[2];
    uint32_t echo[2]; /* what each side saw last of the other's clock */
    uint64_t acked[2];
    uint32_t initial[2];
    struct packet_seen packets[PACKETS];
    size_t count;
    uint64_t now_ns;
    struct rangeset shown[2]; /* of the streams: in a packet that the mirror showed */
    /* what the consumer heard */
    uint64_t heard[2];
    uint64_t holes;
    bool closed;
};

static const uint8_t addresses[2][4] = {{10, 0, 0, 1}, {10, 0, 0, 2}};

static unsigned pick(struct talk *k, unsigned below) {
    return (unsigned)rand_r(&k->seed) % below;
}

static void send_packet(struct talk *k, int from, uint8_t flags, uint64_t offset, uint32_t bytes) {
    cr_assert_lt(k->count, PACKETS);
    k->now_ns += pick(k, 200000);
    bool syn = (flags & TCP_SYN) != 0;
    unsigned late = (unsigned)(k->stamped ? LATE_NS : UNSTAMPED_LATE_NS);
    struct packet_seen *p = &k->packets[k->count++];
    p->from = from;
    p->offset = offset;
    p->missing = false;
    p->arrival_ns = k->now_ns + (pick(k, 3) == 0 ? pick(k, late) : 0);
    p->segment = (struct tcp_segment){
        .family = 4,
        .source = addresses[from],
        .destination = addresses[1 - from],
        .source_port = from == 0 ? 40000 : 3260,
        .destination_port = from == 0 ? 3260 : 40000,
        .sequence = k->initial[from] + (syn ? 0 : 1 + (uint32_t)offset),
        .acknowledgement = k->initial[1 - from] + 1 + (uint32_t)k->sent[1 - from],
        .flags = (uint8_t)(flags | TCP_ACK),
        .stamped = k->stamped,
        .stamp = (uint32_t)(k->now_ns / NS_PER_MS),
        .echo = k->echo[from],
        .data = k->said[from] + offset,
        .data_bytes = bytes,
        .wire_bytes = bytes,
    };
    k->echo[1 - from] = p->segment.stamp;
    if (!syn)
        k->acked[1 - from] = k->sent[1 - from];
    if (syn && from == 0)
        p->segment.flags = TCP_SYN;
}

static void say(struct talk *k, int from, unsigned bytes) {
    for (unsigned i = 0; i < bytes && k->sent[from] < STREAM; i++) {
        k->said[from][k->sent[from]] = (uint8_t)pick(k, 256);
        k->depends[from][k->sent[from]++] = k->sent[1 - from];
    }
}

/* Some of what isn't acknowledged goes out, in segments of its own cut. */
static void transmit(struct talk *k, int from, uint64_t start, uint64_t end) {
    while (start < end) {
        uint32_t bytes = 1 + pick(k, SEGMENT);
        if (bytes > end - start)
            bytes = (uint32_t)(end - start);
        send_packet(k, from, 0, start, bytes);
        start += bytes;
    }
}

static void hold_talk(struct talk *k) {
    send_packet(k, 0, TCP_SYN, 0, 0);
    send_packet(k, 1, TCP_SYN, 0, 0);
    send_packet(k, 0, 0, 0, 0);
    unsigned turns = 2 + pick(k, 40);
    for (unsigned turn = 0; turn < turns; turn++) {
        int from = (int)pick(k, 2);
        uint64_t start = k->sent[from];
        say(k, from, 1 + pick(k, pick(k, 4) == 0 ? 6000 : 300));
        transmit(k, from, start, k->sent[from]);
        while (pick(k, 4) == 0 && k->acked[from] < k->sent[from]) {
            uint64_t again = k->acked[from] + pick(k, (unsigned)(k->sent[from] - k->acked[from]));
            transmit(k, from, again, again + 1 + pick(k, (unsigned)(k->sent[from] - again)));
        }
        if (pick(k, 3) == 0)
            send_packet(k, 1 - from, 0, k->sent[1 - from], 0);
    }
}

static void close_talk(struct talk *k) {
    send_packet(k, 0, TCP_FIN, k->sent[0], 0);
    send_packet(k, 1, TCP_FIN, k->sent[1], 0);
    k->packets[k->count - 1].segment.acknowledgement += 1;
}

/* The mirror: copies, and losses of packets that the other host has. */
static void mirror(struct talk *k, unsigned loss_percent) {
    size_t sent = k->count;
    for (size_t i = 0; i < sent && k->count < PACKETS; i++) {
        struct packet_seen *p = &k->packets[i];
        p->missing = p->segment.data_bytes > 0 && pick(k, 100) < loss_percent;
        if (pick(k, 10) == 0) {
            struct packet_seen *copy = &k->packets[k->count++];
            *copy = *p;
            copy->arrival_ns += pick(k, k->stamped ? 50000000 : 10000000);
            copy->missing = p->missing && pick(k, 2) == 0;
        }
    }
    for (size_t i = 0; i < k->count; i++) {
        const struct packet_seen *p = &k->packets[i];
        if (!p->missing)
            rangeset_add(&k->shown[p->from], p->offset, p->offset + p->segment.data_bytes);
    }
}

static int by_arrival(const void *a, const void *b) {
    const struct packet_seen *x = a;
    const struct packet_seen *y = b;
    return x->arrival_ns < y->arrival_ns ? -1 : x->arrival_ns > y->arrival_ns;
}

static void *on_open(void *context, const struct tcp_endpoints *endpoints, bool from_start,
                     uint64_t time_ns) {
    struct talk *k = context;
    (void)time_ns;
    cr_assert(from_start);
    cr_assert_eq(endpoints->client_port, 40000);
    cr_assert_eq(k->heard[0] + k->heard[1], 0, "opened once");
    return k;
}

static bool on_data(void *connection, enum tcp_direction direction, const uint8_t *data,
                    size_t bytes, uint64_t time_ns) {
    struct talk *k = connection;
    uint64_t at = k->heard[direction];
    (void)time_ns;
    cr_assert_leq(at + bytes, k->sent[direction]);
    cr_assert_eq(memcmp(data, k->said[direction] + at, bytes), 0, "other bytes at %lu",
                 (unsigned long)at);
    for (size_t i = 0; i < bytes; i++)
        cr_assert_geq(k->heard[1 - direction], k->depends[direction][at + i],
                      "heard before its cause at %lu", (unsigned long)at);
    k->heard[direction] = at + bytes;
    return true;
}

static bool on_hole(void *connection, enum tcp_direction direction, uint64_t bytes,
                    uint64_t time_ns) {
    struct talk *k = connection;
    struct range part;
    uint64_t at = k->heard[direction];
    (void)time_ns;
    cr_assert_not(rangeset_overlap(&k->shown[direction], at, at + bytes, &part),
                  "bytes at %lu were shown, and said to be lost", (unsigned long)part.start);
    k->heard[direction] += bytes;
    k->holes++;
    return true;
}

static void on_close(void *connection, enum tcp_end why, uint64_t time_ns) {
    struct talk *k = connection;
    (void)time_ns;
    cr_assert_eq(why, TCP_END_FIN);
    cr_assert_not(k->closed, "closed once");
    k->closed = true;
}

static void play(struct talk *k) {
    struct tcp_consumer consumer = {
        .context = k, .open = on_open, .data = on_data, .hole = on_hole, .close = on_close};
    struct tcp_limits limits = tcp_default_limits();
    struct tcp *tcp = tcp_create(&consumer, &limits);
    qsort(k->packets, k->count, sizeof *k->packets, by_arrival);
    for (size_t i = 0; i < k->count; i++) {
        struct packet_seen *p = &k->packets[i];
        uint64_t back = pick(k, 25000000); /* stamps step back, as real ones do */
        p->segment.time_ns = p->arrival_ns > back ? p->arrival_ns - back : 0;
        if (!p->missing)
            tcp_segment(tcp, &p->segment);
    }
    for (unsigned i = 1; i <= 20; i++)
        tcp_tick(tcp, k->now_ns + i * LATE_NS);
    for (unsigned side = 0; side < 2; side++)
        cr_assert_eq(k->heard[side], k->sent[side], "side %u: %lu of %lu", side,
                     (unsigned long)k->heard[side], (unsigned long)k->sent[side]);
    cr_assert(k->closed || k->sent[0] + k->sent[1] == 0);
    tcp_destroy(tcp);
}

static void run(unsigned seed, unsigned loss_percent) {
    struct talk *k = calloc(1, sizeof *k);
    cr_assert_not_null(k);
    k->seed = seed;
    k->now_ns = UINT64_C(1700000000) * NS_PER_SECOND;
    for (unsigned side = 0; side < 2; side++) {
        rangeset_init(&k->shown[side], PACKETS);
        k->initial[side] = pick(k, 2) == 0 ? UINT32_MAX - pick(k, 20000)
                                           : (uint32_t)pick(k, 1u << 31) * 2 + pick(k, 2);
    }
    k->stamped = pick(k, 2) == 0;
    hold_talk(k);
    close_talk(k);
    mirror(k, loss_percent);
    play(k);
    if (loss_percent == 0)
        cr_assert_eq(k->holes, 0);
    for (unsigned side = 0; side < 2; side++)
        rangeset_release(&k->shown[side]);
    free(k);
}

Test(tcp_property, nothing_missing_nothing_changed) {
    unsigned seed = test_seed();
    for (unsigned i = 0; i < ROUNDS; i++)
        run(seed + i, 0);
}

Test(tcp_property, what_is_missing_is_said_and_nothing_else) {
    unsigned seed = test_seed();
    for (unsigned i = 0; i < ROUNDS; i++)
        run(seed + i, 1 + i % 30);
}
