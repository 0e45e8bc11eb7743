/*
 * make_flood KIND COUNT: traffic that wants more of a monitor than it can have, as a capture on
 * standard output.
 *
 * Everything has a limit, and every limit here is passed by far; the same COUNT gives the same
 * bytes. Packets are a microsecond apart, so that nothing gets old enough to be let go of.
 */
#include "common/buffer.h"
#include "common/cleanup.h"
#include "common/clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    PORT = 3260,
    MSS = 1448,
    LIMIT_BYTES = 1 << 20,
    LOGIN_REQUEST = 0x43,
    LOGIN_RESPONSE = 0x23,
    SCSI_COMMAND = 0x01,
    SCSI_RESPONSE = 0x21,
    DATA_IN = 0x25,
};
#define START_NS  (UINT64_C(1767225600) * NS_PER_SECOND)
#define NO_TAG    UINT32_C(0xffffffff)
#define FIN_ACK   0x11
#define SYN       0x02
#define SYN_ACK   0x12
#define ACK       0x10
#define HEAD_SIZE (14 + 20 + 20)

struct wire {
    uint64_t now_ns;
    struct buffer frame;
};

/* A connection of client number `client`: the same numbers for both of its sides. */
struct line {
    uint32_t client;
    uint32_t sent[2]; /* sequence numbers of the client, of the server */
    uint32_t tag;
    uint32_t command;
    uint32_t status;
};

struct flood {
    struct wire wire;
    struct buffer pdu;
    uint64_t count;
    uint8_t data[65536];
};

/* --- packets -----------------------------------------------------------------------------------*/

static void put_native(struct buffer *b, uint64_t value, size_t bytes) {
    buffer_put(b, &value, bytes); /* as the magic number says */
}

static void write_out(const struct buffer *b) {
    if (b->failed || fwrite(b->data, b->length, 1, stdout) != 1)
        exit(1);
}

static void begin_capture(struct wire *w) {
    w->now_ns = START_NS;
    buffer_clear(&w->frame);
    put_native(&w->frame, 0xa1b23c4d, 4);
    put_native(&w->frame, 2, 2);
    put_native(&w->frame, 4, 2);
    put_native(&w->frame, 0, 8);
    put_native(&w->frame, 262144, 4);
    put_native(&w->frame, 1, 4);
    write_out(&w->frame);
}

static void begin_frame(struct wire *w, size_t bytes) {
    w->now_ns += 1000;
    buffer_clear(&w->frame);
    put_native(&w->frame, w->now_ns / NS_PER_SECOND, 4);
    put_native(&w->frame, w->now_ns % NS_PER_SECOND, 4);
    put_native(&w->frame, bytes, 4);
    put_native(&w->frame, bytes, 4);
    buffer_put_zeros(&w->frame, 12);
    buffer_put_be(&w->frame, 0x0800, 2);
}

static void put_ip(struct wire *w, size_t bytes, uint32_t id, uint16_t fragment, uint32_t from,
                   uint32_t to) {
    buffer_put_be(&w->frame, 0x4500, 2);
    buffer_put_be(&w->frame, bytes, 2);
    buffer_put_be(&w->frame, id & 0xffff, 2);
    buffer_put_be(&w->frame, fragment, 2);
    buffer_put_be(&w->frame, 0x4006, 2);
    buffer_put_be(&w->frame, 0, 2);
    buffer_put_be(&w->frame, from, 4);
    buffer_put_be(&w->frame, to, 4);
}

static uint32_t client_address(const struct line *l) {
    return 0x0b000000 + l->client / 32768;
}

static void send_segment(struct wire *w, const struct line *l, bool from_server, uint8_t flags,
                         const void *data, size_t bytes) {
    uint16_t port = (uint16_t)(32768 + l->client % 32768);
    begin_frame(w, HEAD_SIZE + bytes);
    put_ip(w, 40 + bytes, 0, 0x4000, from_server ? 0x0a000002 : client_address(l),
           from_server ? client_address(l) : 0x0a000002);
    buffer_put_be(&w->frame, from_server ? PORT : port, 2);
    buffer_put_be(&w->frame, from_server ? port : PORT, 2);
    buffer_put_be(&w->frame, l->sent[from_server], 4);
    buffer_put_be(&w->frame, (flags & ACK) != 0 ? l->sent[!from_server] : 0, 4);
    buffer_put_be(&w->frame, (uint64_t)0x5000 | flags, 2);
    buffer_put_be(&w->frame, 0xffff, 2);
    buffer_put_be(&w->frame, 0, 4);
    buffer_put(&w->frame, data, bytes);
    write_out(&w->frame);
}

static void send_bytes(struct wire *w, struct line *l, bool from_server, const uint8_t *data,
                       size_t bytes) {
    while (bytes > 0) {
        size_t part = bytes < MSS ? bytes : MSS;
        send_segment(w, l, from_server, ACK, data, part);
        l->sent[from_server] += (uint32_t)part;
        data += part;
        bytes -= part;
    }
}

static void shake_hands(struct wire *w, struct line *l) {
    send_segment(w, l, false, SYN, NULL, 0);
    l->sent[0]++;
    send_segment(w, l, true, SYN_ACK, NULL, 0);
    l->sent[1]++;
    send_segment(w, l, false, ACK, NULL, 0);
}

/* --- PDUs --------------------------------------------------------------------------------------*/

static void begin_pdu(struct flood *f, uint8_t opcode, uint8_t flags, uint64_t lun, uint32_t tag,
                      size_t data_bytes) {
    buffer_clear(&f->pdu);
    buffer_put_u8(&f->pdu, opcode);
    buffer_put_u8(&f->pdu, flags);
    buffer_put_be(&f->pdu, 0, 2);
    buffer_put_be(&f->pdu, data_bytes, 4);
    buffer_put_be(&f->pdu, lun, 8);
    buffer_put_be(&f->pdu, tag, 4);
}

static void put_words(struct flood *f, const uint32_t *words, size_t count) {
    for (size_t i = 0; i < count; i++)
        buffer_put_be(&f->pdu, words[i], 4);
}

static void send_pdu(struct flood *f, struct line *l, bool from_server, const void *data,
                     size_t bytes) {
    buffer_put(&f->pdu, data, bytes);
    buffer_put_zeros(&f->pdu, (4 - bytes % 4) % 4);
    send_bytes(&f->wire, l, from_server, f->pdu.data, f->pdu.length);
}

static void send_login(struct flood *f, struct line *l, bool goes_on) {
    char offer[8192];
    int length = snprintf(offer, sizeof offer,
                          "InitiatorName=iqn.2026-01.example:flood.%u%cTargetName="
                          "iqn.2026-01.example:flood.%u%cSessionType=Normal%cInitialR2T=Yes",
                          l->client, 0, l->client, 0, 0);
    memset(offer + length, 0, sizeof offer - (size_t)length);
    /* C: more text follows; or T, straight to the full feature phase. */
    uint8_t flags = goes_on ? 0x40 | 1 << 2 : 0x80 | 1 << 2 | 3;
    size_t bytes = goes_on ? sizeof offer : (size_t)length + 1;
    uint64_t isid = UINT64_C(0x800000) << 40 | (uint64_t)l->client << 16;
    begin_pdu(f, LOGIN_REQUEST, flags, isid, 0, bytes);
    put_words(f, (uint32_t[]){0, l->command, 0, 0, 0, 0, 0}, 7);
    send_pdu(f, l, false, offer, bytes);
}

static void answer_login(struct flood *f, struct line *l) {
    static const char answer[] = "TargetPortalGroupTag=1";
    uint64_t isid = UINT64_C(0x800000) << 40 | (uint64_t)l->client << 16;
    begin_pdu(f, LOGIN_RESPONSE, 0x80 | 1 << 2 | 3, isid | 1, 0, sizeof answer);
    put_words(f, (uint32_t[]){0, l->status++, l->command, l->command + 64, 0, 0, 0}, 7);
    send_pdu(f, l, true, answer, sizeof answer);
}

static void log_in(struct flood *f, struct line *l) {
    shake_hands(&f->wire, l);
    send_login(f, l, false);
    answer_login(f, l);
}

static void send_command(struct flood *f, struct line *l, uint8_t flags, uint64_t lun,
                         const uint8_t cdb[16], uint32_t length, size_t data_bytes) {
    l->tag++;
    begin_pdu(f, SCSI_COMMAND, (uint8_t)(0x81 | flags), lun << 48, l->tag, data_bytes);
    put_words(f, (uint32_t[]){length, l->command++, l->status}, 3);
    buffer_put(&f->pdu, cdb, 16);
    send_pdu(f, l, false, f->data, data_bytes);
}

static void send_write(struct flood *f, struct line *l, uint64_t lun, uint32_t lba,
                       uint16_t blocks) {
    uint8_t cdb[16] = {
        0x2a,         0, (uint8_t)(lba >> 24),   (uint8_t)(lba >> 16), (uint8_t)(lba >> 8),
        (uint8_t)lba, 0, (uint8_t)(blocks >> 8), (uint8_t)blocks};
    send_command(f, l, 0x20, lun, cdb, blocks * 512u, blocks * 512u);
}

static void send_good(struct flood *f, struct line *l) {
    begin_pdu(f, SCSI_RESPONSE, 0x80, 0, l->tag, 0);
    put_words(f, (uint32_t[]){0, l->status++, l->command, l->command + 64, 0, 0, 0}, 7);
    send_pdu(f, l, true, NULL, 0);
}

static void send_data_in(struct flood *f, struct line *l, size_t bytes, bool status) {
    begin_pdu(f, DATA_IN, status ? 0x81 : 0x80, 0, l->tag, bytes);
    put_words(f, (uint32_t[]){NO_TAG, status ? l->status++ : 0, l->command}, 3);
    put_words(f, (uint32_t[]){l->command + 64, 0, 0, 0}, 4);
    send_pdu(f, l, true, f->data, bytes);
}

/* --- floods ------------------------------------------------------------------------------------*/

static void flood_syn(struct flood *f) {
    for (uint64_t i = 0; i < f->count; i++)
        send_segment(&f->wire, &(struct line){.client = (uint32_t)i, .sent = {(uint32_t)i, 0}},
                     false, SYN, NULL, 0);
}

/* Sessions that began long ago, each seen by one segment. */
static void flood_midway(struct flood *f) {
    for (uint64_t i = 0; i < f->count; i++) {
        struct line l = {.client = (uint32_t)i, .sent = {(uint32_t)i * 7919, 5}};
        send_segment(&f->wire, &l, false, ACK, f->data, MSS);
    }
}

/* COUNT MiB behind a segment that never comes and is never acknowledged. */
static void flood_hole(struct flood *f) {
    struct line l = {.client = 1};
    log_in(f, &l);
    for (int i = 0; i < 8; i++) {
        send_write(f, &l, 1, (uint32_t)i * 8, 8);
        send_good(f, &l);
    }
    uint32_t acknowledged = l.sent[0];
    l.sent[0] += MSS;
    for (uint64_t i = 0; i < f->count << 10; i++) {
        send_segment(&f->wire, &l, false, ACK, f->data, 1024);
        l.sent[0] += 1024;
        if (i % 64 != 0)
            continue;
        struct line answer = {.client = 1, .sent = {acknowledged, l.sent[1]}};
        send_segment(&f->wire, &answer, true, ACK, NULL, 0);
    }
}

static void flood_logins(struct flood *f) {
    for (uint64_t i = 0; i < f->count; i++) {
        struct line l = {.client = (uint32_t)i};
        shake_hands(&f->wire, &l);
        send_login(f, &l, true);
    }
}

/* Each with a target of its own, and a write that is never answered. */
static void flood_sessions(struct flood *f) {
    for (uint64_t i = 0; i < f->count; i++) {
        struct line l = {.client = (uint32_t)i};
        log_in(f, &l);
        send_write(f, &l, 1, 0, 8);
    }
}

/* The same, but each ends well: nothing of it may be left. */
static void flood_targets(struct flood *f) {
    for (uint64_t i = 0; i < f->count; i++) {
        struct line l = {.client = (uint32_t)i};
        log_in(f, &l);
        send_segment(&f->wire, &l, false, FIN_ACK, NULL, 0);
        l.sent[0]++;
        send_segment(&f->wire, &l, true, FIN_ACK, NULL, 0);
        l.sent[1]++;
        send_segment(&f->wire, &l, false, ACK, NULL, 0);
    }
}

static void flood_luns(struct flood *f) {
    static const uint8_t inquiry[16] = {0x12, 0, 0, 0, 255};
    static const uint8_t capacity[16] = {0x25};
    struct line l = {.client = 1};
    log_in(f, &l);
    memset(f->data, 0, 64);
    for (uint64_t i = 0; i < f->count; i++) {
        uint64_t lun = i % 65536;
        f->data[6] = 0;
        send_command(f, &l, 0x40, lun, inquiry, 255, 0);
        send_data_in(f, &l, 36, true);
        send_command(f, &l, 0x40, lun, capacity, 8, 0);
        f->data[6] = 2; /* blocks of 512 bytes */
        send_data_in(f, &l, 8, true);
        send_write(f, &l, lun, 0, 1);
        send_good(f, &l);
    }
}

static void flood_commands(struct flood *f) {
    struct line l = {.client = 1};
    log_in(f, &l);
    for (uint64_t i = 0; i < f->count; i++)
        send_write(f, &l, 1, (uint32_t)i * 8, 8);
}

/* All over each other. */
static void flood_rivals(struct flood *f) {
    struct line l = {.client = 1};
    log_in(f, &l);
    for (uint64_t i = 0; i < f->count; i++)
        send_write(f, &l, 1, (uint32_t)(i * 7919 % 64), 4);
}

/* Answers to learn from, whose commands never end. */
static void flood_answers(struct flood *f) {
    static const uint8_t inquiry[16] = {0x12, 0, 0, 0x20, 0};
    struct line l = {.client = 1};
    log_in(f, &l);
    for (uint64_t i = 0; i < f->count; i++) {
        send_command(f, &l, 0x40, 1, inquiry, 8192, 0);
        send_data_in(f, &l, 8192, false);
    }
}

/* Every second byte, one at a time, over many connections that were joined properly. */
static void flood_tiny(struct flood *f) {
    struct line lines[256];
    for (uint32_t i = 0; i < 256; i++) {
        lines[i] = (struct line){.client = i};
        log_in(f, &lines[i]);
    }
    for (uint64_t i = 0; i < f->count; i++) {
        struct line *l = &lines[i % 256];
        l->sent[0] += 2;
        send_segment(&f->wire, l, false, ACK, f->data, 1);
    }
}

/* First fragments of datagrams of which nothing else comes. */
static void flood_fragments(struct flood *f) {
    for (uint64_t i = 0; i < f->count; i++) {
        begin_frame(&f->wire, 14 + 20 + 1400);
        put_ip(&f->wire, 20 + 1400, (uint32_t)i, 0x2000 | 4096, 0x0b000000 + (uint32_t)(i >> 16),
               0x0a000002);
        buffer_put(&f->wire.frame, f->data, 1400);
        write_out(&f->wire.frame);
    }
}

static const struct {
    const char *name;
    void (*make)(struct flood *f);
} floods[] = {
    {"syn", flood_syn},         {"midway", flood_midway},     {"hole", flood_hole},
    {"logins", flood_logins},   {"sessions", flood_sessions}, {"targets", flood_targets},
    {"luns", flood_luns},       {"commands", flood_commands}, {"rivals", flood_rivals},
    {"answers", flood_answers}, {"tiny", flood_tiny},         {"fragments", flood_fragments},
};

int main(int argc, char **argv) {
    static struct flood f;
    if (argc == 3)
        f.count = strtoull(argv[2], NULL, 10);
    for (size_t i = 0; f.count > 0 && i < sizeof floods / sizeof floods[0]; i++) {
        if (strcmp(argv[1], floods[i].name) != 0)
            continue;
        buffer_init(&f.wire.frame, LIMIT_BYTES);
        buffer_init(&f.pdu, LIMIT_BYTES);
        begin_capture(&f.wire);
        floods[i].make(&f);
        buffer_release(&f.pdu);
        buffer_release(&f.wire.frame);
        return fflush(stdout) == 0 ? 0 : 1;
    }
    fprintf(stderr, "usage: make_flood KIND COUNT\nkinds:");
    for (size_t i = 0; i < sizeof floods / sizeof floods[0]; i++)
        fprintf(stderr, " %s", floods[i].name);
    fprintf(stderr, "\n");
    return 2;
}
