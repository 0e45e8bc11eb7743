/*
 * make_fcoe: a capture of Fibre Channel writes in FCoE, of any length, for measurements.
 *
 * One login (PLOGI), INQUIRY and READ CAPACITY(10), then WRITE(10)s one after the other: command,
 * request for all data, frames of 2048 bytes, response. The bytes come from a generator, so that no
 * two blocks are alike.
 */
#include "common/buffer.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/crc32.h"
#include "common/options.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum {
    BLOCK_BYTES = 512,
    PAYLOAD_BYTES = 2048,
    HEADER_BYTES = 24,
    MAX_FRAME_BYTES = 14 + 14 + HEADER_BYTES + PAYLOAD_BYTES + 8,
    MAX_WRITE_BYTES = 256 << 10,
    VOLUME_BLOCKS = 1 << 23, /* 4 GiB */
    EXCHANGES = 1024,
    INITIATOR = 0x010a01,
    TARGET = 0x010b01,
    FILE_BUFFER_BYTES = 1 << 20,
    NS_PER_BYTE = 1, /* 8 Gb/s */
};
#define START_NS (UINT64_C(1767225600) * NS_PER_SECOND) /* 2026-01-01 */
#define GOLDEN   UINT64_C(0x9e3779b97f4a7c15)

/* FC-FS-5, 12; FCP-4, 5. */
enum { DATA = 0x01, READY = 0x05, COMMAND = 0x06, RESPONSE = 0x07, REQUEST = 0x22, REPLY = 0x23 };
enum { TYPE_ELS = 0x01, TYPE_FCP = 0x08 };
enum { FROM_TARGET = 0x800000, LAST = 0x080000, OFFSET = 0x000008 };
enum { SOF_I3 = 0x2e, SOF_N3 = 0x36, EOF_N = 0x41, EOF_T = 0x42 };

struct maker {
    FILE *file;
    struct buffer frame;
    uint64_t now_ns;
    uint64_t written_bytes;
    uint64_t write_bytes;
    uint64_t file_bytes;
    uint64_t writes;
    uint16_t ox_id;
    uint8_t data[MAX_WRITE_BYTES];
};

struct head {
    uint8_t r_ctl;
    uint8_t type;
    uint32_t f_ctl;
    uint16_t seq_cnt;
    uint32_t parameter;
};

static void put_file(struct maker *m, uint64_t value, size_t bytes) {
    uint8_t little[8];
    for (size_t i = 0; i < bytes; i++)
        little[i] = (uint8_t)(value >> 8 * i);
    fwrite(little, 1, bytes, m->file);
}

static void put_packet(struct maker *m) {
    put_file(m, m->now_ns / NS_PER_SECOND, 4);
    put_file(m, m->now_ns % NS_PER_SECOND, 4);
    put_file(m, m->frame.length, 4);
    put_file(m, m->frame.length, 4);
    fwrite(m->frame.data, 1, m->frame.length, m->file);
    m->written_bytes += 16 + m->frame.length;
    m->now_ns += m->frame.length * NS_PER_BYTE;
}

static void put_header(struct maker *m, const struct head *h) {
    bool from_target = (h->f_ctl & FROM_TARGET) != 0;
    struct buffer *b = &m->frame;
    buffer_put_u8(b, h->r_ctl);
    buffer_put_be(b, from_target ? INITIATOR : TARGET, 3);
    buffer_put_u8(b, 0);
    buffer_put_be(b, from_target ? TARGET : INITIATOR, 3);
    buffer_put_u8(b, h->type);
    buffer_put_be(b, h->f_ctl, 3);
    buffer_put_u8(b, 0); /* SEQ_ID */
    buffer_put_u8(b, 0); /* DF_CTL */
    buffer_put_be(b, h->seq_cnt, 2);
    buffer_put_be(b, m->ox_id, 2);
    buffer_put_be(b, h->r_ctl == COMMAND || h->type == TYPE_ELS ? 0xffffu : m->ox_id + 0x1000u, 2);
    buffer_put_be(b, h->parameter, 4);
}

static void show(struct maker *m, const struct head *h, const uint8_t *payload, size_t bytes) {
    static const uint8_t macs[2][6] = {{0x0e, 0xfc, 0, 1, 0x0a, 1}, {0x0e, 0xfc, 0, 1, 0x0b, 1}};
    bool from_target = (h->f_ctl & FROM_TARGET) != 0;
    struct buffer *b = &m->frame;
    buffer_clear(b);
    buffer_put(b, macs[!from_target], 6);
    buffer_put(b, macs[from_target], 6);
    buffer_put_be(b, 0x8906, 2);
    buffer_put_zeros(b, 13);
    buffer_put_u8(b, h->seq_cnt == 0 ? SOF_I3 : SOF_N3);
    size_t start = b->length;
    put_header(m, h);
    buffer_put(b, payload, bytes);
    uint32_t crc = crc32_frame(0, b->data + start, b->length - start);
    buffer_put_le32(b, crc);
    buffer_put_u8(b, (h->f_ctl & LAST) != 0 ? EOF_T : EOF_N);
    buffer_put_zeros(b, 3);
    put_packet(m);
}

static void put_be_at(uint8_t *at, uint64_t value, size_t bytes) {
    for (size_t i = 0; i < bytes; i++)
        at[i] = (uint8_t)(value >> 8 * (bytes - 1 - i));
}

static void show_command(struct maker *m, const uint8_t *cdb, size_t cdb_bytes, bool write,
                         uint32_t bytes) {
    uint8_t unit[32] = {0, 1}; /* LUN 1 */
    unit[11] = write ? 1 : 2;
    memcpy(unit + 12, cdb, cdb_bytes);
    put_be_at(unit + 28, bytes, 4);
    m->ox_id = (uint16_t)((m->ox_id + 1) % EXCHANGES);
    show(m, &(struct head){COMMAND, TYPE_FCP, 0x290000, 0, 0}, unit, sizeof unit);
}

static void show_response(struct maker *m) {
    static const uint8_t good[24];
    show(m, &(struct head){RESPONSE, TYPE_FCP, FROM_TARGET | 0x190000, 0, 0}, good, sizeof good);
}

static void ask(struct maker *m, const uint8_t *cdb, size_t cdb_bytes, const uint8_t *answer,
                size_t bytes) {
    show_command(m, cdb, cdb_bytes, false, (uint32_t)bytes);
    show(m, &(struct head){DATA, TYPE_FCP, FROM_TARGET | LAST | OFFSET, 0, 0}, answer, bytes);
    show_response(m);
}

static void show_login(struct maker *m) {
    uint8_t unit[116] = {0x03};
    put_be_at(unit + 20, UINT64_C(0x200000000000000a), 8);
    show(m, &(struct head){REQUEST, TYPE_ELS, 0x290000, 0, 0}, unit, sizeof unit);
    unit[0] = 0x02;
    put_be_at(unit + 20, UINT64_C(0x200000000000000b), 8);
    show(m, &(struct head){REPLY, TYPE_ELS, FROM_TARGET | 0x190000, 0, 0}, unit, sizeof unit);
}

static void show_questions(struct maker *m) {
    static const uint8_t inquiry[6] = {0x12, 0, 0, 0, 36};
    static const uint8_t capacity[10] = {0x25};
    static const uint8_t inquiry_data[36] = {0, 0, 6, 2, 31, 0, 0, 2, 's', 'a', 'n', 'r', 'e', 'w'};
    uint8_t capacity_data[8];
    put_be_at(capacity_data, VOLUME_BLOCKS - 1, 4);
    put_be_at(capacity_data + 4, BLOCK_BYTES, 4);
    ask(m, inquiry, sizeof inquiry, inquiry_data, sizeof inquiry_data);
    ask(m, capacity, sizeof capacity, capacity_data, sizeof capacity_data);
}

static void fill_data(struct maker *m) {
    uint64_t seed = (m->writes + 1) * GOLDEN;
    for (size_t i = 0; i < m->write_bytes; i += sizeof seed) {
        seed = seed * UINT64_C(6364136223846793005) + GOLDEN;
        memcpy(m->data + i, &seed, sizeof seed);
    }
}

static void show_write(struct maker *m) {
    uint32_t bytes = (uint32_t)m->write_bytes;
    uint64_t lba = m->writes * (bytes / BLOCK_BYTES) % VOLUME_BLOCKS;
    uint8_t cdb[10] = {0x2a};
    uint8_t ready[12] = {0};
    put_be_at(cdb + 2, lba, 4);
    put_be_at(cdb + 7, bytes / BLOCK_BYTES, 2);
    put_be_at(ready + 4, bytes, 4);
    fill_data(m);
    show_command(m, cdb, sizeof cdb, true, bytes);
    show(m, &(struct head){READY, TYPE_FCP, FROM_TARGET | LAST, 0, 0}, ready, sizeof ready);
    for (uint32_t at = 0; at < bytes; at += PAYLOAD_BYTES) {
        uint32_t part = bytes - at < PAYLOAD_BYTES ? bytes - at : PAYLOAD_BYTES;
        uint32_t last = at + part == bytes ? LAST : 0;
        show(m, &(struct head){DATA, TYPE_FCP, OFFSET | last, (uint16_t)(at / PAYLOAD_BYTES), at},
             m->data + at, part);
    }
    show_response(m);
    m->writes++;
}

static int make(struct maker *m, const char *path, struct error *err) {
    m->file = fopen(path, "we");
    if (m->file == NULL)
        return error_set(err, ERR_IO, "cannot write %s", path);
    setvbuf(m->file, NULL, _IOFBF, FILE_BUFFER_BYTES);
    const uint32_t head[] = {0xa1b23c4d, 4 << 16 | 2, 0, 0, 65535, 1};
    for (size_t i = 0; i < sizeof head / sizeof head[0]; i++)
        put_file(m, head[i], 4);
    show_login(m);
    show_questions(m);
    while (m->written_bytes < m->file_bytes)
        show_write(m);
    bool good = ferror(m->file) == 0;
    good = fclose(m->file) == 0 && good;
    printf("%" PRIu64 " writes %" PRIu64 " bytes\n", m->writes, m->writes * m->write_bytes);
    return good ? 0 : error_set(err, ERR_IO, "cannot write %s", path);
}

static int set_bytes(void *into, const char *value, struct error *err) {
    struct maker *m = into;
    return options_bytes("bytes", value, 1, INT64_MAX, &m->file_bytes, err);
}

static int set_write(void *into, const char *value, struct error *err) {
    struct maker *m = into;
    return options_bytes("write", value, BLOCK_BYTES, MAX_WRITE_BYTES, &m->write_bytes, err);
}

static const struct option_row rows[] = {
    {0, "bytes", "BYTES", "how long the file gets (default 16M)", set_bytes},
    {0, "write", "BYTES", "bytes of one write (default 64K)", set_write},
    {0},
};

static const struct option_set options = {.program = "make_fcoe",
                                          .usage = "make_fcoe OUT.pcap [OPTION]...",
                                          .summary = "Makes a capture of writes in FCoE.",
                                          .rows = rows};

int main(int argc, char **argv) {
    static struct maker m = {.file_bytes = 16 << 20, .write_bytes = 64 << 10, .now_ns = START_NS};
    struct error err = {0};
    int operand = argc;
    int code = options_parse(&options, &m, argc, argv, false, &operand, &err);
    if (code == OPTIONS_EXIT)
        return 0;
    if (code == 0 && (operand != argc - 1 || m.write_bytes % BLOCK_BYTES != 0))
        code = error_set(&err, ERR_USAGE, "one file of whole blocks is to be made; see --help");
    buffer_init(&m.frame, MAX_FRAME_BYTES);
    if (code == 0)
        code = make(&m, argv[operand], &err);
    buffer_release(&m.frame);
    if (code < 0)
        fprintf(stderr, "make_fcoe: %s\n", err.text);
    return code < 0 ? error_exit_status(code) : 0;
}
