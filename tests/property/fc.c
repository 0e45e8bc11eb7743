#include "tests/property/fc.h"

#include "common/crc32.h"

#include <stdlib.h>
#include <string.h>

enum {
    DLT_ETHERNET = 1,
    ENVELOPE_BYTES = 14 + 14, /* Ethernet, FCoE up to SOF */
    HEADER_BYTES = 24,
    TRAILER_BYTES = 8, /* CRC, EOF */
    UNASSIGNED = 0xffff,
    DATA = 0x01,
    READY = 0x05,
    COMMAND = 0x06,
    RESPONSE = 0x07,
};

static unsigned be16(const uint8_t *at) {
    return (unsigned)at[0] << 8 | at[1];
}

static uint32_t be32(const uint8_t *at) {
    return (uint32_t)be16(at) << 16 | be16(at + 2);
}

const uint8_t *fc_find(const struct packet *packet) {
    if (packet->link_type != DLT_ETHERNET || packet->caplen < ENVELOPE_BYTES + HEADER_BYTES ||
        be16(packet->data + 12) != 0x8906)
        return NULL;
    return packet->data + ENVELOPE_BYTES;
}

void fc_put(uint8_t *to, uint64_t value, unsigned bytes) {
    while (bytes-- > 0)
        *to++ = (uint8_t)(value >> (8 * bytes));
}

void fc_make(struct packets *to, const struct fc_header *header, const uint8_t *payload,
             size_t bytes, uint64_t time_ns) {
    enum { SOF_I3 = 0x2e, EOF_T = 0x42, FCOE = 0x8906 };
    size_t length = ENVELOPE_BYTES + HEADER_BYTES + bytes + TRAILER_BYTES;
    uint8_t *packet = packets_block(to, length);
    uint8_t *at = packet + ENVELOPE_BYTES;
    memset(packet, 0, length);
    fc_put(packet + 12, FCOE, 2);
    packet[ENVELOPE_BYTES - 1] = SOF_I3;
    fc_put(at, header->r_ctl, 1);
    fc_put(at + 1, header->d_id, 3);
    fc_put(at + 5, header->s_id, 3);
    fc_put(at + 8, header->type, 1);
    fc_put(at + 9, header->f_ctl, 3);
    fc_put(at + 16, header->ox_id, 2);
    fc_put(at + 18, header->rx_id, 2);
    fc_put(at + 20, header->parameter, 4);
    memcpy(at + HEADER_BYTES, payload, bytes);
    uint32_t crc = crc32_frame(0, at, HEADER_BYTES + bytes);
    for (unsigned i = 0; i < 4; i++)
        at[HEADER_BYTES + bytes + i] = (uint8_t)(crc >> (8 * i));
    at[HEADER_BYTES + bytes + 4] = EOF_T;
    packets_add(to, &(struct packet){.data = packet,
                                     .caplen = (uint32_t)length,
                                     .wire_length = (uint32_t)length,
                                     .time_ns = time_ns,
                                     .link_type = DLT_ETHERNET});
}

uint16_t fc_source(const uint8_t *header) {
    return (uint16_t)be16(header + 6);
}

/* What is left of an exchange. */
struct rest {
    uint64_t issued_ns;
    bool command, ready, response;
    unsigned rx_id; /* or UNASSIGNED */
    uint32_t data_start, data_end;
};

/* The exchange that an OX_ID names now, and the last one before it of which something is left. */
struct exchange {
    struct rest now;
    struct rest before;
};

static void note(struct rest *r, const struct packet *packet, const uint8_t *header) {
    uint32_t start = be32(header + 20);
    uint32_t payload = packet->wire_length - ENVELOPE_BYTES - HEADER_BYTES - TRAILER_BYTES;
    r->command |= header[0] == COMMAND;
    r->ready |= header[0] == READY;
    r->response |= header[0] == RESPONSE;
    if (be16(header + 18) != UNASSIGNED)
        r->rx_id = be16(header + 18);
    if (header[0] != DATA)
        return;
    if (r->data_end == 0 || start < r->data_start)
        r->data_start = start;
    if (start + payload > r->data_end)
        r->data_end = start + payload;
}

static bool is_empty(const struct rest *r) {
    return !r->command && !r->ready && !r->response && r->data_end == 0;
}

/* Could both be one exchange? */
static bool joins(const struct rest *a, const struct rest *b) {
    bool one_target = a->rx_id == UNASSIGNED || b->rx_id == UNASSIGNED || a->rx_id == b->rx_id;
    return a->command && !a->response && !b->command && !is_empty(b) && one_target &&
           !(a->ready && b->ready) && (b->data_end == 0 || a->data_end <= b->data_start);
}

static int compare_times(const void *left, const void *right) {
    const uint64_t *a = left;
    const uint64_t *b = right;
    return *a < *b ? -1 : *a > *b;
}

size_t fc_vanished(const struct packets *from, const bool *survived, uint64_t *to, size_t most) {
    size_t count = 0;
    struct exchange *exchanges = calloc(65536, sizeof *exchanges);
    if (exchanges == NULL)
        abort();
    for (size_t i = 0; i < from->count; i++) {
        const struct packet *packet = &from->list[i];
        const uint8_t *header = fc_find(packet);
        if (header == NULL)
            continue;
        struct exchange *x = &exchanges[be16(header + 16)];
        if (header[0] == COMMAND) {
            if (!is_empty(&x->now))
                x->before = x->now;
            x->now = (struct rest){.issued_ns = packet->time_ns, .rx_id = UNASSIGNED};
        }
        if (survived[i])
            note(&x->now, packet, header);
        if (header[0] != RESPONSE || count + 2 > most)
            continue;
        bool joined = joins(&x->before, &x->now);
        if (is_empty(&x->now) || joined)
            to[count++] = x->now.issued_ns;
        if (joined)
            to[count++] = x->before.issued_ns;
    }
    free(exchanges);
    qsort(to, count, sizeof *to, compare_times);
    return count;
}
