#include "iscsi_world.h"

#include "common/crc32c.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static const uint64_t lun_one = UINT64_C(1) << 48;

void iscsi_world_make(struct iscsi_world *w) {
    struct tracker_limits limits = tracker_default_limits();
    *w = (struct iscsi_world){.recorder = recorder_create(), .now_ns = 1000};
    w->tracker = tracker_create(&w->recorder->sink, &limits);
    w->iscsi = iscsi_create(w->tracker);
    w->consumer = iscsi_consumer(w->iscsi);
}

void iscsi_world_end(struct iscsi_world *w) {
    iscsi_destroy(w->iscsi);
    tracker_destroy(w->tracker);
    recorder_destroy(w->recorder);
}

struct iscsi_link link_open(struct iscsi_world *w, uint16_t server_port, bool from_start) {
    struct tcp_endpoints endpoints = {
        .family = 4, .client_port = 40000, .server_port = server_port};
    struct iscsi_link l = {.world = w, .isid = 0x4001, .id = 1, .status_number = 1000};
    l.command_number = &w->command_numbers[l.isid & 15];
    l.connection = w->consumer.open(w->consumer.context, &endpoints, from_start, w->now_ns);
    return l;
}

void link_close(struct iscsi_link *l, enum tcp_end why) {
    if (l->connection != NULL)
        l->world->consumer.close(l->connection, why, ++l->world->now_ns);
    l->connection = NULL;
}

void link_bytes(struct iscsi_link *l, int direction, const void *bytes, size_t count) {
    struct iscsi_world *w = l->world;
    const uint8_t *from = bytes;
    size_t step = w->cut > 0 ? w->cut : count;
    w->now_ns++;
    for (size_t done = 0; done < count && l->connection != NULL; done += step) {
        size_t part = count - done < step ? count - done : step;
        /* A copy of its own, so that a read past its end is found. */
        uint8_t *piece = malloc(part);
        memcpy(piece, from + done, part);
        if (!w->consumer.data(l->connection, (enum tcp_direction)direction, piece, part, w->now_ns))
            l->connection = NULL;
        free(piece);
    }
}

void link_hole(struct iscsi_link *l, int direction, uint64_t bytes) {
    struct iscsi_world *w = l->world;
    if (l->connection != NULL &&
        !w->consumer.hole(l->connection, (enum tcp_direction)direction, bytes, ++w->now_ns))
        l->connection = NULL;
}

static size_t put_digest(uint8_t *to, const uint8_t *from, size_t bytes, bool broken) {
    uint32_t crc = crc32c(0, from, bytes) ^ (broken ? 1 : 0);
    for (int i = 0; i < 4; i++)
        to[i] = (uint8_t)(crc >> (8 * i));
    return 4;
}

size_t made_pdu_bytes(const struct iscsi_link *l, const struct made_pdu *pdu, uint8_t *to) {
    size_t used = PDU_HEAD_BYTES;
    memcpy(to, pdu->head, PDU_HEAD_BYTES);
    to[4] = (uint8_t)(pdu->ahs_bytes / 4);
    put_be(to + 5, pdu->data_bytes, 3);
    memcpy(to + used, pdu->ahs, pdu->ahs_bytes);
    used += pdu->ahs_bytes;
    if (l->header_digest)
        used += put_digest(to + used, to, used, pdu->break_header_digest);
    size_t padded = (pdu->data_bytes + 3) / 4 * 4;
    memset(to + used, 0, padded);
    memcpy(to + used, pdu->data, pdu->data_bytes);
    used += padded;
    if (l->data_digest && padded > 0)
        used += put_digest(to + used, to + used - padded, padded, pdu->break_data_digest);
    return used;
}

static void put_numbers(struct iscsi_link *l, int direction, uint8_t *head) {
    struct pdu_numbers n = pdu_numbers(head);
    if (direction == TO_TARGET) {
        if (n.has_number)
            put_be(head + 24, *l->command_number, 4);
        if (n.has_expected)
            put_be(head + 28, l->status_number, 4);
        *l->command_number += n.counts;
    } else if (n.has_expected) {
        if (n.has_number)
            put_be(head + 24, l->status_number, 4);
        put_be(head + 28, *l->command_number, 4);
        put_be(head + 32, *l->command_number + 31, 4);
        l->status_number += n.counts;
    }
}

static void send(struct iscsi_link *l, int direction, const struct made_pdu *pdu, bool seen) {
    uint8_t *bytes = malloc(sizeof *pdu);
    struct made_pdu *numbered = malloc(sizeof *pdu);
    *numbered = *pdu;
    l->command_number = &l->world->command_numbers[l->isid & 15];
    put_numbers(l, direction, numbered->head);
    size_t count = made_pdu_bytes(l, numbered, bytes);
    if (seen)
        link_bytes(l, direction, bytes, count);
    else
        link_hole(l, direction, count);
    free(numbered);
    free(bytes);
}

void link_send(struct iscsi_link *l, int direction, const struct made_pdu *pdu) {
    send(l, direction, pdu, true);
}

void link_send_unseen(struct iscsi_link *l, int direction, const struct made_pdu *pdu) {
    send(l, direction, pdu, false);
}

static void send_and_free(struct iscsi_link *l, int direction, struct made_pdu *pdu) {
    link_send(l, direction, pdu);
    free(pdu);
}

struct made_pdu *make_pdu(uint8_t opcode, uint32_t tag) {
    struct made_pdu *pdu = calloc(1, sizeof *pdu);
    if (pdu == NULL)
        abort();
    pdu->head[0] = opcode;
    pdu->head[1] = 0x80;
    put_be(pdu->head + 16, tag, 4);
    return pdu;
}

struct made_pdu *make_login(struct iscsi_link *l, bool request, bool last, const char *text) {
    struct made_pdu *pdu = make_pdu(request ? 0x43 : 0x23, 0);
    pdu->head[1] = last ? 0x87 : 0x04;
    put_be(pdu->head + 8, l->isid, 6);
    put_be(pdu->head + 14, l->tsih, 2);
    if (request)
        put_be(pdu->head + 20, l->id, 2);
    pdu->data_bytes = strlen(text) > 0 ? strlen(text) + 1 : 0;
    memcpy(pdu->data, text, pdu->data_bytes);
    for (size_t i = 0; i < pdu->data_bytes; i++) {
        if (pdu->data[i] == '|')
            pdu->data[i] = 0;
    }
    return pdu;
}

void link_login(struct iscsi_link *l, const char *request, const char *response) {
    send_and_free(l, TO_TARGET, make_login(l, true, true, request));
    send_and_free(l, TO_INITIATOR, make_login(l, false, true, response));
}

struct made_pdu *make_response(uint32_t tag, uint8_t status) {
    struct made_pdu *pdu = make_pdu(0x21, tag);
    pdu->head[3] = status;
    return pdu;
}

/* READ CAPACITY(16) with the answer and the status in one Data-In. */
void link_capacity(struct iscsi_link *l, uint32_t tag) {
    struct made_pdu *pdu = make_pdu(0x01, tag);
    pdu->head[1] = 0xc1;
    put_be(pdu->head + 8, lun_one, 8);
    put_be(pdu->head + 20, 32, 4);
    pdu->head[32] = 0x9e;
    pdu->head[33] = 0x10;
    send_and_free(l, TO_TARGET, pdu);
    pdu = make_pdu(0x25, tag);
    pdu->head[1] = 0x81;
    pdu->data_bytes = 32;
    put_be(pdu->data, 4095, 8);
    put_be(pdu->data + 8, 512, 4);
    send_and_free(l, TO_INITIATOR, pdu);
}

struct iscsi_link link_session(struct iscsi_world *w) {
    struct iscsi_link l = link_open(w, 3260, true);
    link_login(&l, "InitiatorName=iqn.a|TargetName=iqn.target|SessionType=Normal",
               "TargetPortalGroupTag=1");
    link_capacity(&l, 1);
    return l;
}

struct made_pdu *make_write(struct iscsi_link *l, uint32_t tag, uint32_t lba, uint16_t blocks,
                            size_t immediate, uint8_t fill) {
    struct made_pdu *pdu = make_pdu(0x01, tag);
    (void)l;
    pdu->head[1] = 0xa1;
    put_be(pdu->head + 8, lun_one, 8);
    put_be(pdu->head + 20, blocks * 512u, 4);
    pdu->head[32] = 0x2a;
    put_be(pdu->head + 34, lba, 4);
    put_be(pdu->head + 39, blocks, 2);
    pdu->data_bytes = immediate;
    memset(pdu->data, fill, immediate);
    return pdu;
}

struct made_pdu *make_data_out(uint32_t tag, uint32_t offset, size_t bytes, uint8_t fill) {
    struct made_pdu *pdu = make_pdu(0x05, tag);
    put_be(pdu->head + 20, UINT32_MAX, 4);
    put_be(pdu->head + 40, offset, 4);
    pdu->data_bytes = bytes;
    memset(pdu->data, fill, bytes);
    return pdu;
}

void link_write(struct iscsi_link *l, uint32_t tag, uint32_t lba, uint16_t blocks, size_t immediate,
                uint8_t fill) {
    send_and_free(l, TO_TARGET, make_write(l, tag, lba, blocks, immediate, fill));
}

void link_data_out(struct iscsi_link *l, uint32_t tag, uint32_t offset, size_t bytes,
                   uint8_t fill) {
    send_and_free(l, TO_TARGET, make_data_out(tag, offset, bytes, fill));
}

void link_response(struct iscsi_link *l, uint32_t tag, uint8_t status) {
    send_and_free(l, TO_INITIATOR, make_response(tag, status));
}

void link_task_function(struct iscsi_link *l, uint32_t tag, uint8_t function, uint32_t referenced,
                        uint8_t answer) {
    struct made_pdu *pdu = make_pdu(0x42, tag);
    pdu->head[1] = 0x80 | function;
    put_be(pdu->head + 8, lun_one, 8);
    put_be(pdu->head + 20, referenced, 4);
    send_and_free(l, TO_TARGET, pdu);
    pdu = make_pdu(0x22, tag);
    pdu->head[2] = answer;
    send_and_free(l, TO_INITIATOR, pdu);
}
