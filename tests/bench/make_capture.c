/*
 * make_capture: a capture of iSCSI writes of any length, for measurements and tests.
 *
 * One session: login, INQUIRY, device identification, READ CAPACITY(10), then writes until the file
 * has its length: WRITE(10) and WRITE(16) in turn, half of them with immediate data, half asked for
 * by R2T. The bytes written come from a generator, so that no two blocks are alike. --image writes
 * what the volume holds at the end. With --reads, what was written last is read again, so many
 * times.
 */
#include "common/buffer.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/options.h"
#include "tests/bench/tcp_writer.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum {
    PDU_HEAD_BYTES = 48,
    BLOCK_BYTES = 512,
    ISCSI_PORT = 3260,
    MAX_WRITE_BYTES = 256 << 10, /* one burst: MaxBurstLength below */
    MAX_PDU_BYTES = PDU_HEAD_BYTES + MAX_WRITE_BYTES,
};
#define START_NS  (UINT64_C(1767225600) * NS_PER_SECOND) /* 2026-01-01 */
#define NO_TAG    UINT32_C(0xffffffff)
#define TARGET    "iqn.2026-01.example:bench"
#define LUN_FIELD (UINT64_C(1) << 48)
#define GOLDEN    UINT64_C(0x9e3779b97f4a7c15)

/* RFC 7143, 11.2.1.2 */
enum opcode {
    SCSI_COMMAND = 0x01,
    LOGIN_REQUEST = 0x43, /* immediate */
    DATA_OUT = 0x05,
    SCSI_RESPONSE = 0x21,
    LOGIN_RESPONSE = 0x23,
    DATA_IN = 0x25,
    R2T = 0x31,
};
enum { FINAL = 0x80, READ = 0x40, WRITE = 0x20, SIMPLE = 0x01, STATUS = 0x01 };

struct plan {
    const char *path;
    const char *image;
    uint64_t file_bytes;
    uint64_t write_bytes;
    uint64_t volume_bytes;
    uint64_t mtu;
    uint64_t reads;
    bool scattered;
};

struct session {
    const struct plan *plan;
    struct tcp_writer *tcp;
    struct buffer pdu;
    uint8_t *data;
    int image_fd;
    uint32_t tag;
    uint32_t command_number;
    uint32_t status_number;
    uint64_t writes;
    uint64_t random;
};

/* --- PDUs: 48 bytes and data (RFC 7143, 11)
 * -------------------------------------------------------
 */

/* Bytes 0 to 19, which all have in common. */
static void begin_pdu(struct session *s, enum opcode opcode, uint8_t flags, uint8_t status,
                      uint64_t lun, uint32_t data_bytes) {
    buffer_clear(&s->pdu);
    buffer_put_u8(&s->pdu, (uint8_t)opcode);
    buffer_put_u8(&s->pdu, flags);
    buffer_put_be(&s->pdu, status, 2);
    buffer_put_be(&s->pdu, data_bytes, 4); /* TotalAHSLength is 0 */
    buffer_put_be(&s->pdu, lun, 8);
    buffer_put_be(&s->pdu, s->tag, 4);
}

static void put_words(struct session *s, const uint32_t *words, size_t count) {
    for (size_t i = 0; i < count; i++)
        buffer_put_be(&s->pdu, words[i], 4);
}

static void send_pdu(struct session *s, enum tcp_side from, const void *data, size_t bytes) {
    buffer_put(&s->pdu, data, bytes);
    buffer_put_zeros(&s->pdu, (4 - bytes % 4) % 4);
    tcp_writer_send(s->tcp, from, s->pdu.data, s->pdu.length);
}

static void send_command(struct session *s, uint8_t flags, const uint8_t cdb[16], uint32_t length,
                         const void *data, uint32_t data_bytes) {
    s->tag++;
    begin_pdu(s, SCSI_COMMAND, FINAL | SIMPLE | flags, 0, LUN_FIELD, data_bytes);
    put_words(s, (uint32_t[]){length, s->command_number++, s->status_number}, 3);
    buffer_put(&s->pdu, cdb, 16);
    send_pdu(s, TCP_CLIENT, data, data_bytes);
}

static void send_status(struct session *s) {
    begin_pdu(s, SCSI_RESPONSE, FINAL, 0, 0, 0);
    put_words(s, (uint32_t[]){0, s->status_number++, s->command_number, s->command_number + 64}, 4);
    put_words(s, (uint32_t[]){0, 0, 0}, 3);
    send_pdu(s, TCP_SERVER, NULL, 0);
}

/* With the status in it. */
static void send_data_in(struct session *s, const uint8_t *data, uint32_t bytes) {
    begin_pdu(s, DATA_IN, FINAL | STATUS, 0, 0, bytes);
    put_words(s, (uint32_t[]){NO_TAG, s->status_number++, s->command_number}, 3);
    put_words(s, (uint32_t[]){s->command_number + 64, 0, 0, 0}, 4);
    send_pdu(s, TCP_SERVER, data, bytes);
}

static void send_r2t(struct session *s, uint32_t bytes) {
    begin_pdu(s, R2T, FINAL, 0, LUN_FIELD, 0);
    put_words(s, (uint32_t[]){s->tag, s->status_number, s->command_number}, 3);
    put_words(s, (uint32_t[]){s->command_number + 64, 0, 0, bytes}, 4);
    send_pdu(s, TCP_SERVER, NULL, 0);
}

static void send_data_out(struct session *s, const uint8_t *data, uint32_t bytes) {
    begin_pdu(s, DATA_OUT, FINAL, 0, LUN_FIELD, bytes);
    put_words(s, (uint32_t[]){s->tag, 0, s->status_number, 0, 0, 0, 0}, 7);
    send_pdu(s, TCP_CLIENT, data, bytes);
}

/* --- the session ---------------------------------------------------------------------------------
 */

static void send_login(struct session *s) {
    static const char offer[] =
        "InitiatorName=iqn.2026-01.example:writer\0TargetName=" TARGET "\0SessionType=Normal\0"
        "HeaderDigest=None\0DataDigest=None\0InitialR2T=Yes\0ImmediateData=Yes\0"
        "MaxRecvDataSegmentLength=262144\0MaxBurstLength=262144\0FirstBurstLength=262144";
    static const char answer[] =
        "TargetPortalGroupTag=1\0HeaderDigest=None\0DataDigest=None\0InitialR2T=Yes\0"
        "ImmediateData=Yes\0MaxRecvDataSegmentLength=262144\0MaxBurstLength=262144\0"
        "FirstBurstLength=262144";
    const uint64_t isid = UINT64_C(0x800000000001) << 16;
    /* Straight from operational negotiation to the full feature phase. */
    const uint8_t transit = 0x80 | 1 << 2 | 3;
    begin_pdu(s, LOGIN_REQUEST, transit, 0, isid, sizeof offer);
    put_words(s, (uint32_t[]){0, s->command_number, 0, 0, 0, 0, 0}, 7);
    send_pdu(s, TCP_CLIENT, offer, sizeof offer);
    begin_pdu(s, LOGIN_RESPONSE, transit, 0, isid | 1, sizeof answer);
    put_words(s, (uint32_t[]){0, s->status_number++, s->command_number}, 3);
    put_words(s, (uint32_t[]){s->command_number + 64, 0, 0, 0}, 4);
    send_pdu(s, TCP_SERVER, answer, sizeof answer);
}

static void ask(struct session *s, const uint8_t cdb[16], const uint8_t *answer, uint32_t bytes) {
    send_command(s, READ, cdb, 255, NULL, 0);
    send_data_in(s, answer, bytes);
}

static void send_questions(struct session *s) {
    static const uint8_t inquiry[16] = {0x12, 0, 0, 0, 255};
    static const uint8_t identification[16] = {0x12, 1, 0x83, 0, 255};
    static const uint8_t capacity[16] = {0x25};
    static const uint8_t inquiry_data[36] = {0, 0, 6, 2, 31, 0, 0, 2, 's', 'a', 'n', 'r', 'e', 'w'};
    /* One designator: NAA 6, of the logical unit. */
    static const uint8_t identification_data[24] = {0,    0x83, 0, 20,   1,    3,    0, 16,
                                                    0x60, 0x01, 2, 0x34, 0x05, 0xbe, 0, 1};
    uint64_t last = s->plan->volume_bytes / BLOCK_BYTES - 1;
    uint8_t capacity_data[8] = {(uint8_t)(last >> 24),
                                (uint8_t)(last >> 16),
                                (uint8_t)(last >> 8),
                                (uint8_t)last,
                                0,
                                0,
                                BLOCK_BYTES >> 8,
                                0};
    ask(s, inquiry, inquiry_data, sizeof inquiry_data);
    ask(s, identification, identification_data, sizeof identification_data);
    ask(s, capacity, capacity_data, sizeof capacity_data);
}

/* SBC-4, 5.48 WRITE(10) and 5.50 WRITE(16), in turn; or READ(10) and READ(16). */
static void make_cdb(struct session *s, bool read, uint64_t lba, uint32_t blocks, uint8_t cdb[16]) {
    bool ten = s->writes % 4 < 2;
    memset(cdb, 0, 16);
    cdb[0] = (uint8_t)((ten ? 0x2a : 0x8a) - (read ? 2 : 0));
    for (int i = 0; i < (ten ? 4 : 8); i++)
        cdb[(ten ? 5 : 9) - i] = (uint8_t)(lba >> 8 * i);
    for (int i = 0; i < (ten ? 2 : 4); i++)
        cdb[(ten ? 8 : 13) - i] = (uint8_t)(blocks >> 8 * i);
}

static uint64_t next_random(struct session *s) {
    uint64_t z = s->random += GOLDEN; /* splitmix64 */
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static void fill_data(struct session *s) {
    uint64_t seed = next_random(s);
    for (size_t i = 0; i < s->plan->write_bytes; i += sizeof seed) {
        seed = seed * UINT64_C(6364136223846793005) + GOLDEN;
        memcpy(s->data + i, &seed, sizeof seed);
    }
}

static int keep_in_image(const struct session *s, uint64_t offset, struct error *err) {
    size_t bytes = s->plan->write_bytes;
    if (s->image_fd < 0 || pwrite(s->image_fd, s->data, bytes, (off_t)offset) == (ssize_t)bytes)
        return 0;
    return error_errno(err, errno, "cannot write %s", s->plan->image);
}

static int send_write(struct session *s, struct error *err) {
    uint32_t bytes = (uint32_t)s->plan->write_bytes;
    uint64_t places = s->plan->volume_bytes / bytes;
    uint64_t place = (s->plan->scattered ? next_random(s) : s->writes) % places;
    uint8_t cdb[16];
    fill_data(s);
    make_cdb(s, false, place * bytes / BLOCK_BYTES, bytes / BLOCK_BYTES, cdb);
    if (s->writes++ % 2 == 0) {
        send_command(s, WRITE, cdb, bytes, s->data, bytes);
    } else {
        send_command(s, WRITE, cdb, bytes, NULL, 0);
        send_r2t(s, bytes);
        send_data_out(s, s->data, bytes);
    }
    send_status(s);
    make_cdb(s, true, place * bytes / BLOCK_BYTES, bytes / BLOCK_BYTES, cdb);
    for (uint64_t i = 0; i < s->plan->reads; i++) {
        send_command(s, READ, cdb, bytes, NULL, 0);
        send_data_in(s, s->data, bytes);
    }
    return keep_in_image(s, place * bytes, err);
}

static int open_image(struct session *s, struct error *err) {
    s->image_fd = -1;
    if (s->plan->image == NULL)
        return 0;
    s->image_fd = open(s->plan->image, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (s->image_fd < 0 || ftruncate(s->image_fd, (off_t)s->plan->volume_bytes) != 0)
        return error_errno(err, errno, "cannot write %s", s->plan->image);
    return 0;
}

static void session_release(struct session *s) {
    cleanup_close(&s->image_fd);
    buffer_release(&s->pdu);
    free(s->data);
}

static int make_capture(const struct plan *plan, struct error *err) {
    __attribute__((cleanup(session_release))) struct session s = {
        .plan = plan, .command_number = 1, .image_fd = -1};
    buffer_init(&s.pdu, MAX_PDU_BYTES + 4);
    s.data = malloc(plan->write_bytes);
    if (s.data == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    int code = open_image(&s, err);
    if (code == 0)
        code = tcp_writer_open(plan->path, (unsigned)plan->mtu, ISCSI_PORT, START_NS, &s.tcp, err);
    if (code < 0)
        return code;
    send_login(&s);
    send_questions(&s);
    while (code == 0 && tcp_writer_bytes(s.tcp) < plan->file_bytes)
        code = send_write(&s, err);
    int closed = tcp_writer_close(s.tcp, code == 0 ? err : NULL);
    printf("%" PRIu64 " writes %" PRIu64 " bytes\n", s.writes, s.writes * plan->write_bytes);
    return code < 0 ? code : closed;
}

/* --- command line --------------------------------------------------------------------------------
 */

static int set_bytes(void *into, const char *value, struct error *err) {
    struct plan *p = into;
    return options_bytes("bytes", value, 1, INT64_MAX, &p->file_bytes, err);
}

static int set_write(void *into, const char *value, struct error *err) {
    struct plan *p = into;
    return options_bytes("write", value, BLOCK_BYTES, MAX_WRITE_BYTES, &p->write_bytes, err);
}

static int set_volume(void *into, const char *value, struct error *err) {
    struct plan *p = into;
    return options_bytes("volume", value, MAX_WRITE_BYTES, UINT64_C(1) << 40, &p->volume_bytes,
                         err);
}

static int set_mtu(void *into, const char *value, struct error *err) {
    struct plan *p = into;
    return options_number("mtu", value, 576, 65535, &p->mtu, err);
}

static int set_reads(void *into, const char *value, struct error *err) {
    struct plan *p = into;
    return options_number("reads", value, 0, 1000, &p->reads, err);
}

static int set_image(void *into, const char *value, struct error *err) {
    struct plan *p = into;
    (void)err;
    p->image = value;
    return 0;
}

static int set_scattered(void *into, const char *value, struct error *err) {
    struct plan *p = into;
    (void)value;
    (void)err;
    p->scattered = true;
    return 0;
}

static const struct option_row rows[] = {
    {0, "bytes", "BYTES", "how long the file gets (default 16M)", set_bytes},
    {0, "write", "BYTES", "bytes of one write (default 64K)", set_write},
    {0, "volume", "BYTES", "size of the volume (default 1G)", set_volume},
    {0, "mtu", "BYTES", "default 1500", set_mtu},
    {0, "reads", "N", "READs behind each write, of what it wrote (default 0)", set_reads},
    {0, "image", "FILE", "write what the volume holds at the end, over FILE", set_image},
    {0, "scattered", NULL, "writes go anywhere instead of one after the other", set_scattered},
    {0},
};

static const struct option_set options = {.program = "make_capture",
                                          .usage = "make_capture OUT.pcap [OPTION]...",
                                          .summary = "Makes a capture of iSCSI writes.",
                                          .rows = rows};

int main(int argc, char **argv) {
    struct error err = {0};
    struct plan plan = {.file_bytes = 16 << 20,
                        .write_bytes = 64 << 10,
                        .volume_bytes = UINT64_C(1) << 30,
                        .mtu = 1500};
    int operand = argc;
    int code = options_parse(&options, &plan, argc, argv, false, &operand, &err);
    if (code == OPTIONS_EXIT)
        return 0;
    if (code == 0 && operand != argc - 1)
        code = error_set(&err, ERR_USAGE, "one file is to be made; see --help");
    if (code == 0 && plan.write_bytes % BLOCK_BYTES != 0)
        code = error_set(&err, ERR_USAGE, "--write: blocks have %d bytes", BLOCK_BYTES);
    if (code == 0) {
        plan.path = argv[operand];
        code = make_capture(&plan, &err);
    }
    if (code < 0)
        fprintf(stderr, "make_capture: %s\n", err.text);
    return code < 0 ? error_exit_status(code) : 0;
}
