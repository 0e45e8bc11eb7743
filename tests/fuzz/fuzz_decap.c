/*
 * Frames through decap/ into tcp/: a run of records, each
 *
 *   link type (index) u8 | bytes cut by the capture u8 | time step in 10 ms u8 | length u16 LE |
 * frame
 *
 * The high half of the very first byte chooses whose clock gives packets their time.
 *
 * so that fragments and segments can meet. Every byte that is given out is read.
 */
#include "common/clock.h"
#include "common/cursor.h"
#include "tap/decap/decap.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct counts {
    struct tcp *tcp;
    uint64_t segments;
    unsigned sum; /* so that reading is not optimised away */
};

static void read_all(struct counts *counts, const uint8_t *data, size_t bytes) {
    for (size_t i = 0; i < bytes; i++)
        counts->sum += data[i];
}

static void take_segment(struct counts *counts, const struct tcp_segment *segment) {
    if (segment->data_bytes > segment->wire_bytes)
        abort();
    counts->segments++;
    read_all(counts, segment->source, segment->family == 4 ? 4 : 16);
    read_all(counts, segment->destination, segment->family == 4 ? 4 : 16);
    read_all(counts, segment->data, segment->data_bytes);
    tcp_segment(counts->tcp, segment);
}

static void *on_open(void *context, const struct tcp_endpoints *endpoints, bool from_start,
                     uint64_t time_ns) {
    (void)endpoints;
    (void)from_start;
    (void)time_ns;
    return context;
}

static bool on_data(void *connection, enum tcp_direction direction, const uint8_t *data,
                    size_t bytes, uint64_t time_ns) {
    (void)direction;
    (void)time_ns;
    read_all(connection, data, bytes);
    return true;
}

static bool on_hole(void *connection, enum tcp_direction direction, uint64_t bytes,
                    uint64_t time_ns) {
    (void)connection;
    (void)direction;
    (void)time_ns;
    return bytes > 0;
}

static void on_close(void *connection, enum tcp_end why, uint64_t time_ns) {
    (void)connection;
    (void)why;
    (void)time_ns;
}

static void take(struct counts *counts, struct decap *d, const struct packet *packet) {
    struct decap_result found;
    switch (decap_packet(d, packet, &found)) {
    case DECAP_NOTHING:
        break;
    case DECAP_TCP:
        take_segment(counts, &found.tcp);
        break;
    case DECAP_FC:
        if (found.fc.bytes > found.fc.wire_bytes || (found.fc.has_crc && found.fc.bytes < 4))
            abort();
        read_all(counts, found.fc.data, found.fc.bytes);
        break;
    case DECAP_FIP:
        read_all(counts, found.fip.data, found.fip.bytes);
        break;
    }
}

static void show(struct counts *counts, struct decap *d, struct cursor *c, uint64_t *time_ns) {
    static const int links[] = {1, 113, 276, 0, 108, 12, 101, 228, 229, 147, 224, 225};
    struct packet packet = {.link_type =
                                links[(cursor_u8(c) & 15) % (sizeof links / sizeof *links)]};
    packet.wire_length = cursor_u8(c);
    *time_ns += cursor_u8(c) * 10 * NS_PER_MS;
    size_t length = cursor_le16(c);
    if (length > cursor_left(c))
        length = cursor_left(c);
    packet.data = cursor_bytes(c, length);
    packet.caplen = (uint32_t)length;
    packet.wire_length += packet.caplen;
    packet.time_ns = *time_ns;
    if (cursor_ok(c))
        take(counts, d, &packet);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct counts counts = {0};
    struct tcp_consumer consumer = {
        .context = &counts, .open = on_open, .data = on_data, .hole = on_hole, .close = on_close};
    struct tcp_limits limits = tcp_default_limits();
    limits.connections = 16;
    counts.tcp = tcp_create(&consumer, &limits);
    AUTO(decap) d = decap_create();
    if (counts.tcp == NULL || d == NULL)
        abort();
    struct cursor c = cursor_of(data, size);
    uint64_t time_ns = UINT64_C(1795404208) * NS_PER_SECOND; /* the seeds' */
    if (size > 0)
        decap_set_time(d, (enum device_clock)((data[0] >> 4) % DEVICE_CLOCKS));
    while (cursor_ok(&c) && cursor_left(&c) > 0)
        show(&counts, d, &c, &time_ns);
    tcp_destroy(counts.tcp);
    return 0;
}
