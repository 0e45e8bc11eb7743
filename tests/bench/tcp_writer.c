#include "tests/bench/tcp_writer.h"

#include "common/buffer.h"
#include "common/cleanup.h"
#include "common/clock.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

enum {
    ETHERNET_BYTES = 14,
    IP_BYTES = 20,
    TCP_BYTES = 20,
    HEADERS_BYTES = ETHERNET_BYTES + IP_BYTES + TCP_BYTES,
    MAX_MTU = 65535,
    FILE_BUFFER_BYTES = 1 << 20,
    CLIENT_PORT = 40000,
};

/* TCP flags, RFC 9293, 3.1 */
enum { FIN = 0x01, SYN = 0x02, PSH = 0x08, ACK = 0x10 };

struct tcp_writer {
    FILE *file;
    char *file_buffer;
    struct buffer packet;
    unsigned mtu;
    uint16_t ports[2];
    uint32_t next[2]; /* sequence number of the side's next byte */
    unsigned owed[2]; /* segments of the side that nobody has acknowledged */
    uint64_t now_ns;
    uint64_t written_bytes;
    bool failed;
};

/* --- packets -------------------------------------------------------------------------------------
 */

/* RFC 1071, over big-endian 16-bit words; chained by the sum so far. */
static uint64_t checksum_add(uint64_t sum, const uint8_t *bytes, size_t length) {
    size_t i = 0;
    for (; i + 1 < length; i += 2)
        sum += (uint64_t)bytes[i] << 8 | bytes[i + 1];
    return i < length ? sum + ((uint64_t)bytes[i] << 8) : sum;
}

static uint16_t checksum_fold(uint64_t sum) {
    while (sum >> 16 != 0)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

static void put_be16_at(struct buffer *b, size_t at, uint16_t value) {
    b->data[at] = (uint8_t)(value >> 8);
    b->data[at + 1] = (uint8_t)value;
}

static void put_ethernet(struct buffer *b, enum tcp_side from) {
    static const uint8_t macs[2][6] = {{0x02, 0, 0, 0, 0, 1}, {0x02, 0, 0, 0, 0, 2}};
    buffer_put(b, macs[from == TCP_CLIENT ? TCP_SERVER : TCP_CLIENT], 6);
    buffer_put(b, macs[from], 6);
    buffer_put_be(b, 0x0800, 2);
}

static void put_ip(struct buffer *b, enum tcp_side from, size_t payload) {
    uint32_t address = 0x0a090001; /* 10.9.0.1 and 10.9.0.2 */
    buffer_put_be(b, 0x4500, 2);
    buffer_put_be(b, IP_BYTES + TCP_BYTES + payload, 2);
    buffer_put_be(b, 0x00004000, 4); /* do not fragment */
    buffer_put_be(b, 0x40060000, 4); /* TTL 64, TCP */
    buffer_put_be(b, address + (uint32_t)from, 4);
    buffer_put_be(b, address + 1 - (uint32_t)from, 4);
    put_be16_at(b, ETHERNET_BYTES + 10,
                checksum_fold(checksum_add(0, b->data + ETHERNET_BYTES, IP_BYTES)));
}

static void put_tcp(struct tcp_writer *w, enum tcp_side from, uint8_t flags, const void *bytes,
                    size_t length) {
    struct buffer *b = &w->packet;
    size_t start = ETHERNET_BYTES + IP_BYTES;
    buffer_put_be(b, w->ports[from], 2);
    buffer_put_be(b, w->ports[1 - from], 2);
    buffer_put_be(b, w->next[from], 4);
    buffer_put_be(b, flags & ACK ? w->next[1 - from] : 0, 4);
    buffer_put_be(b, 0x5000 | flags, 2);
    buffer_put_be(b, 0xffff, 2); /* window */
    buffer_put_be(b, 0, 4);
    buffer_put(b, bytes, length);
    /* The pseudo header: addresses, protocol, length. */
    uint64_t sum = checksum_add(6 + TCP_BYTES + length, b->data + ETHERNET_BYTES + 12, 8);
    put_be16_at(b, start + 16,
                checksum_fold(checksum_add(sum, b->data + start, b->length - start)));
}

static void write_all(struct tcp_writer *w, const void *bytes, size_t length) {
    if (fwrite(bytes, 1, length, w->file) != length)
        w->failed = true;
    w->written_bytes += length;
}

static void put_packet(struct tcp_writer *w, enum tcp_side from, uint8_t flags, const void *bytes,
                       size_t length) {
    uint8_t head[16];
    struct buffer *b = &w->packet;
    buffer_clear(b);
    put_ethernet(b, from);
    put_ip(b, from, length);
    put_tcp(w, from, flags, bytes, length);
    w->now_ns += 500 + b->length; /* about 10 Gbit/s */
    const uint32_t fields[4] = {(uint32_t)(w->now_ns / NS_PER_SECOND),
                                (uint32_t)(w->now_ns % NS_PER_SECOND), (uint32_t)b->length,
                                (uint32_t)b->length};
    memcpy(head, fields, sizeof head);
    write_all(w, head, sizeof head);
    write_all(w, b->data, b->length);
    w->next[from] += (uint32_t)length + ((flags & (SYN | FIN)) != 0);
}

/* --- connection ----------------------------------------------------------------------------------
 */

static void acknowledge(struct tcp_writer *w, enum tcp_side from) {
    put_packet(w, from, ACK, NULL, 0);
    w->owed[1 - from] = 0;
}

void tcp_writer_send(struct tcp_writer *w, enum tcp_side from, const void *bytes, size_t length) {
    const uint8_t *next = bytes;
    enum tcp_side to = from == TCP_CLIENT ? TCP_SERVER : TCP_CLIENT;
    size_t most = w->mtu - IP_BYTES - TCP_BYTES;
    while (length > 0) {
        size_t part = length < most ? length : most;
        put_packet(w, from, part == length ? ACK | PSH : ACK, next, part);
        w->owed[to] = 0; /* it carries an acknowledgement, too */
        if (++w->owed[from] == 2)
            acknowledge(w, to);
        next += part;
        length -= part;
    }
}

static void handshake(struct tcp_writer *w) {
    put_packet(w, TCP_CLIENT, SYN, NULL, 0);
    put_packet(w, TCP_SERVER, SYN | ACK, NULL, 0);
    put_packet(w, TCP_CLIENT, ACK, NULL, 0);
}

static void put_file_head(struct tcp_writer *w) {
    /* Nanosecond pcap, version 2.4, Ethernet, in the byte order of this machine. */
    const uint32_t head[6] = {0xa1b23c4d, 2 | 4 << 16, 0, 0, 262144, 1};
    write_all(w, head, sizeof head);
}

int tcp_writer_open(const char *path, unsigned mtu, uint16_t port, uint64_t start_ns,
                    struct tcp_writer **out, struct error *err) {
    if (mtu <= IP_BYTES + TCP_BYTES || mtu > MAX_MTU)
        return error_set(err, ERR_USAGE, "an MTU is from 41 to %d", MAX_MTU);
    AUTO_FREE struct tcp_writer *w = calloc(1, sizeof *w);
    AUTO_FREE char *file_buffer = malloc(FILE_BUFFER_BYTES);
    if (w == NULL || file_buffer == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    w->file = fopen(path, "wb");
    if (w->file == NULL)
        return error_errno(err, errno, "cannot write %s", path);
    setvbuf(w->file, file_buffer, _IOFBF, FILE_BUFFER_BYTES);
    w->file_buffer = take_pointer(&file_buffer);
    w->mtu = mtu;
    w->ports[TCP_CLIENT] = CLIENT_PORT;
    w->ports[TCP_SERVER] = port;
    w->next[TCP_CLIENT] = 0xfff00000; /* wraps after a MiB */
    w->next[TCP_SERVER] = 1000;
    w->now_ns = start_ns;
    buffer_init(&w->packet, MAX_MTU + HEADERS_BYTES);
    put_file_head(w);
    handshake(w);
    *out = take_pointer(&w);
    return 0;
}

int tcp_writer_close(struct tcp_writer *w, struct error *err) {
    put_packet(w, TCP_CLIENT, FIN | ACK, NULL, 0);
    put_packet(w, TCP_SERVER, FIN | ACK, NULL, 0);
    put_packet(w, TCP_CLIENT, ACK, NULL, 0);
    bool failed = w->failed || w->packet.failed;
    failed |= fclose(w->file) != 0;
    buffer_release(&w->packet);
    free(w->file_buffer);
    free(w);
    return failed ? error_set(err, ERR_IO, "the capture could not be written whole") : 0;
}

uint64_t tcp_writer_bytes(const struct tcp_writer *w) {
    return w->written_bytes;
}
