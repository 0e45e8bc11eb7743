/*
 * iscsi_world: an initiator and a target that speak PDUs made by hand, heard by tap/iscsi with a
 * tracker and a recorder behind it.
 */
#ifndef SANREWIND_TESTS_ISCSI_WORLD_H
#define SANREWIND_TESTS_ISCSI_WORLD_H

#include "scsi_recorder.h"
#include "tap/iscsi/iscsi.h"
#include "tap/iscsi/pdu.h"

enum { TO_TARGET = TCP_TO_SERVER, TO_INITIATOR = TCP_TO_CLIENT };

struct iscsi_world {
    struct recorder *recorder;
    struct tracker *tracker;
    struct iscsi *iscsi;
    struct tcp_consumer consumer;
    uint64_t now_ns;
    size_t cut;                   /* deliver in pieces of so many bytes; 0: each PDU whole */
    uint32_t command_numbers[16]; /* the next CmdSN of each session, by the low bits of its ISID */
};

/* One connection as its two ends see it. */
struct iscsi_link {
    struct iscsi_world *world;
    void *connection; /* NULL when the consumer has dropped it */
    bool header_digest;
    bool data_digest;
    uint64_t isid;
    uint16_t tsih;
    uint16_t id;
    uint32_t *command_number; /* the next CmdSN of its session */
    uint32_t status_number;   /* the next StatSN */
};

void iscsi_world_make(struct iscsi_world *w);
void iscsi_world_end(struct iscsi_world *w);

struct iscsi_link link_open(struct iscsi_world *w, uint16_t server_port, bool from_start);
void link_close(struct iscsi_link *l, enum tcp_end why);
void link_bytes(struct iscsi_link *l, int direction, const void *bytes, size_t count);
void link_hole(struct iscsi_link *l, int direction, uint64_t bytes);

/* A PDU on its way: its header is filled by hand, the rest is added when it is sent. */
struct made_pdu {
    uint8_t head[PDU_HEAD_BYTES];
    uint8_t ahs[64];
    size_t ahs_bytes;
    uint8_t data[300000];
    size_t data_bytes;
    bool break_header_digest;
    bool break_data_digest;
};
/* Header (with lengths and digests as they have to be), data and padding as bytes. */
size_t made_pdu_bytes(const struct iscsi_link *l, const struct made_pdu *pdu, uint8_t *to);
/* With the sequence numbers that are due. */
void link_send(struct iscsi_link *l, int direction, const struct made_pdu *pdu);
/* It passes where nobody hears it: the numbers go on. */
void link_send_unseen(struct iscsi_link *l, int direction, const struct made_pdu *pdu);

/* "Key=value|Key=value" becomes text with NULs. */
struct made_pdu *make_login(struct iscsi_link *l, bool request, bool last, const char *text);
/* Request and response, ending in full feature phase. */
void link_login(struct iscsi_link *l, const char *request, const char *response);
/* A normal session with "iqn.target" on LUN 1 of 4096 blocks, READ CAPACITY answered. */
struct iscsi_link link_session(struct iscsi_world *w);

/*
 * WRITE(10) of `blocks` blocks of 512 bytes at `lba`, with `immediate` bytes of its data, each
 * `fill`.
 */
struct made_pdu *make_write(struct iscsi_link *l, uint32_t tag, uint32_t lba, uint16_t blocks,
                            size_t immediate, uint8_t fill);
struct made_pdu *make_data_out(uint32_t tag, uint32_t offset, size_t bytes, uint8_t fill);
struct made_pdu *make_response(uint32_t tag, uint8_t status);
void link_capacity(struct iscsi_link *l, uint32_t tag);
/* make_...() and send; the made PDU is freed. */
void link_write(struct iscsi_link *l, uint32_t tag, uint32_t lba, uint16_t blocks, size_t immediate,
                uint8_t fill);
void link_data_out(struct iscsi_link *l, uint32_t tag, uint32_t offset, size_t bytes, uint8_t fill);
void link_response(struct iscsi_link *l, uint32_t tag, uint8_t status);
/* Task management and its answer. */
void link_task_function(struct iscsi_link *l, uint32_t tag, uint8_t function, uint32_t referenced,
                        uint8_t answer);

struct made_pdu *make_pdu(uint8_t opcode, uint32_t tag);

#endif
