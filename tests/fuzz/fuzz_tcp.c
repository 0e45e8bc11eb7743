/*
 * Segments through tcp/: a run of records of 10 bytes,
 *
 *   who u8 (bit 0 the sender, bits 1-2 one of four connections, bit 3 a cut payload, bit 4
 *   timestamps, bits 5-7 their value) | flags u8 |
 *   sequence i16 LE, from the sender's | acknowledgement i16 LE, from the other's | payload length
 * u16 LE | time step in ms u8 | what u8 (bit 7: the sender's numbers jump by 2^30)
 *
 * with tight limits. The consumer's rules are checked: nothing before open or after close, every
 * open ended, bytes and holes never empty, and nothing asked of bytes that were not given.
 */
#include "common/clock.h"
#include "common/cursor.h"
#include "tap/tcp/tcp.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { CONNECTIONS = 4, PAYLOAD = 1 << 16, OPEN_AT_ONCE = 64 };

struct listener {
    bool open;
    uint64_t given[2]; /* bytes and holes, by direction */
};

struct world {
    struct tcp *tcp;
    struct listener listeners[OPEN_AT_ONCE];
    uint32_t next[CONNECTIONS][2];
    uint64_t time_ns;
    unsigned events;
    unsigned sum;
};

static struct world world; /* of one run */
static uint8_t payload[PAYLOAD];

static void *on_open(void *context, const struct tcp_endpoints *endpoints, bool from_start,
                     uint64_t time_ns) {
    struct world *w = context;
    (void)from_start;
    (void)time_ns;
    if (endpoints->client_port == endpoints->server_port || ++w->events % 13 == 0)
        return NULL;
    for (unsigned i = 0; i < OPEN_AT_ONCE; i++) {
        if (w->listeners[i].open)
            continue;
        w->listeners[i] = (struct listener){.open = true};
        return &w->listeners[i];
    }
    abort(); /* more connections at once than the limit allows */
}

static bool goes_on(struct listener *listener) {
    if (!listener->open)
        abort();
    listener->open = ++world.events % 31 != 0;
    return listener->open;
}

static bool on_data(void *connection, enum tcp_direction direction, const uint8_t *data,
                    size_t bytes, uint64_t time_ns) {
    struct listener *listener = connection;
    (void)time_ns;
    listener->given[direction] += bytes;
    if (bytes == 0)
        abort();
    world.sum += data[0] + data[bytes - 1];
    return goes_on(connection);
}

static bool on_hole(void *connection, enum tcp_direction direction, uint64_t bytes,
                    uint64_t time_ns) {
    struct listener *listener = connection;
    (void)time_ns;
    listener->given[direction] += bytes;
    if (bytes == 0)
        abort();
    return goes_on(connection);
}

static void check_given(const struct listener *listener, enum tcp_direction direction,
                        uint64_t back, uint64_t bytes) {
    if (!listener->open || bytes == 0 || bytes > back || back > listener->given[direction])
        abort();
}

static enum tcp_copy on_again(void *connection, enum tcp_direction direction, uint64_t back,
                              const uint8_t *data, size_t bytes) {
    static const enum tcp_copy answers[] = {TCP_COPY_SAME, TCP_COPY_DIFFERS, TCP_COPY_FORGOTTEN};
    check_given(connection, direction, back, bytes);
    world.sum += data[0] + data[bytes - 1];
    return answers[++world.events % 3];
}

static void on_dispute(void *connection, enum tcp_direction direction, uint64_t back,
                       uint64_t bytes, uint64_t time_ns) {
    (void)time_ns;
    check_given(connection, direction, back, bytes);
}

static void on_close(void *connection, enum tcp_end why, uint64_t time_ns) {
    struct listener *listener = connection;
    (void)time_ns;
    if (!listener->open || why > TCP_END_SHUTDOWN)
        abort();
    listener->open = false;
}

static void send_one(struct world *w, struct cursor *c) {
    static const uint8_t addresses[2][4] = {{10, 0, 0, 1}, {10, 0, 0, 2}};
    uint8_t who = cursor_u8(c);
    unsigned from = who & 1;
    unsigned which = who >> 1 & 3;
    struct tcp_segment segment = {.family = 4,
                                  .source = addresses[from],
                                  .destination = addresses[1 - from],
                                  .data = payload};
    segment.source_port = (uint16_t)(from == 0 ? 40000 + which : 3260);
    segment.destination_port = (uint16_t)(from == 0 ? 3260 : 40000 + which);
    segment.flags = cursor_u8(c);
    segment.stamped = (who & 16) != 0;
    segment.stamp = segment.echo = who >> 5;
    uint32_t *mine = &w->next[which][from];
    segment.sequence = *mine + (uint32_t)(int32_t)(int16_t)cursor_le16(c);
    segment.acknowledgement = w->next[which][1 - from] + (uint32_t)(int32_t)(int16_t)cursor_le16(c);
    segment.wire_bytes = cursor_le16(c);
    segment.data_bytes = (who & 8) != 0 ? segment.wire_bytes / 2 : segment.wire_bytes;
    w->time_ns += cursor_u8(c) * NS_PER_MS;
    segment.time_ns = w->time_ns;
    if ((cursor_u8(c) & 0x80) != 0)
        *mine += 1u << 30;
    if (!cursor_ok(c))
        return;
    uint32_t end = segment.sequence + segment.wire_bytes + ((segment.flags & 3) != 0);
    if ((int32_t)(end - *mine) > 0 && (int32_t)(end - *mine) < PAYLOAD)
        *mine = end;
    tcp_segment(w->tcp, &segment);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct tcp_limits limits = {.connections = 3,
                                .connection_bytes = 20000,
                                .total_bytes = 30000,
                                .reorder_window_ns = 500 * NS_PER_MS,
                                .idle_ns = 5 * NS_PER_SECOND};
    struct tcp_consumer consumer = {.context = &world,
                                    .open = on_open,
                                    .data = on_data,
                                    .hole = on_hole,
                                    .close = on_close,
                                    .again = on_again,
                                    .dispute = on_dispute};
    world = (struct world){.time_ns = NS_PER_SECOND};
    for (unsigned i = 0; i < CONNECTIONS; i++)
        world.next[i][0] = i * 0x5fffff00u;
    world.tcp = tcp_create(&consumer, &limits);
    if (world.tcp == NULL)
        abort();
    struct cursor c = cursor_of(data, size);
    while (cursor_ok(&c) && cursor_left(&c) > 0)
        send_one(&world, &c);
    tcp_destroy(world.tcp);
    for (unsigned i = 0; i < OPEN_AT_ONCE; i++)
        if (world.listeners[i].open)
            abort();
    return 0;
}
