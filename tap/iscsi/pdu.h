/*
 * pdu: the fields of iSCSI headers (RFC 7143, section 11). Pure parsers of 48 bytes.
 */
#ifndef SANREWIND_TAP_ISCSI_PDU_H
#define SANREWIND_TAP_ISCSI_PDU_H

#include "common/cursor.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PDU_HEAD_BYTES = 48, PDU_DIGEST_BYTES = 4, PDU_MAX_AHS_BYTES = 255 * 4 };

/* From a byte of a header on: never past its end, for `offset` is a constant. */
static inline struct cursor pdu_from(const uint8_t head[PDU_HEAD_BYTES], size_t offset) {
    struct cursor c = cursor_of(head, PDU_HEAD_BYTES);
    cursor_skip(&c, offset);
    return c;
}

static inline uint8_t pdu_byte(const uint8_t head[PDU_HEAD_BYTES], size_t offset) {
    struct cursor c = pdu_from(head, offset);
    return cursor_u8(&c);
}

static inline uint32_t pdu_word(const uint8_t head[PDU_HEAD_BYTES], size_t offset) {
    struct cursor c = pdu_from(head, offset);
    return cursor_be32(&c);
}

enum pdu_opcode {
    PDU_NOP_OUT = 0x00,
    PDU_COMMAND = 0x01,
    PDU_TASK_REQUEST = 0x02,
    PDU_LOGIN_REQUEST = 0x03,
    PDU_TEXT_REQUEST = 0x04,
    PDU_DATA_OUT = 0x05,
    PDU_LOGOUT_REQUEST = 0x06,
    PDU_SNACK = 0x10,
    PDU_NOP_IN = 0x20,
    PDU_RESPONSE = 0x21,
    PDU_TASK_RESPONSE = 0x22,
    PDU_LOGIN_RESPONSE = 0x23,
    PDU_TEXT_RESPONSE = 0x24,
    PDU_DATA_IN = 0x25,
    PDU_LOGOUT_RESPONSE = 0x26,
    PDU_R2T = 0x31,
    PDU_ASYNC = 0x32,
    PDU_REJECT = 0x3f,
};

/* What all have in common. */
struct pdu {
    uint8_t opcode; /* six bits */
    bool immediate;
    uint32_t ahs_bytes;
    uint32_t data_bytes;
    uint64_t lun;
    uint32_t task_tag;
};
struct pdu pdu_parse(const uint8_t head[PDU_HEAD_BYTES]);

/*
 * The sequence numbers of a header (RFC 7143 4.2.2). Of the initiator's: `number` is CmdSN,
 * `expected` ExpStatSN. Of the target's: StatSN, ExpCmdSN.
 */
struct pdu_numbers {
    bool has_number;
    bool counts; /* it takes that number; otherwise it only names the next one */
    bool has_expected;
    uint32_t number;
    uint32_t expected;
};
struct pdu_numbers pdu_numbers(const uint8_t head[PDU_HEAD_BYTES]);
/* RFC 1982: how far `b` lies behind `a`; negative when before it. */
static inline int32_t pdu_serial_distance(uint32_t a, uint32_t b) {
    return (int32_t)(b - a);
}

/* Vendor-specific ones included. */
bool pdu_is_of_initiator(uint8_t opcode);
bool pdu_is_of_target(uint8_t opcode);

struct pdu_command { /* 11.3 */
    bool reads;
    bool writes;
    uint8_t attribute;
    uint32_t expected_bytes;
    uint32_t command_number;
    uint8_t cdb[16];
};
struct pdu_command pdu_command(const uint8_t head[PDU_HEAD_BYTES]);

struct pdu_extension {  /* 11.2.2 */
    const uint8_t *cdb; /* bytes 16 and on of the CDB; NULL without */
    size_t cdb_bytes;
    uint32_t read_bytes; /* expected data-in of a bidirectional command */
};
/* False: an AHS reaches past the end. */
bool pdu_extension(const uint8_t *ahs, size_t bytes, struct pdu_extension *extension);

struct pdu_data { /* Data-Out 11.7.1, Data-In 11.7 */
    uint32_t offset;
    uint32_t transfer_tag; /* of a Data-Out; UINT32_MAX: unsolicited */
    bool has_status;       /* Data-In with the S bit; the rest means something then only */
    uint8_t status;
    uint32_t residual_underflow;
};
struct pdu_data pdu_data(const uint8_t head[PDU_HEAD_BYTES]);

struct pdu_response { /* 11.4 */
    uint8_t response;
    uint8_t status;
    uint32_t residual_underflow;
};
struct pdu_response pdu_response(const uint8_t head[PDU_HEAD_BYTES]);

enum pdu_task_function { /* 11.5.1 */
                         TASK_ABORT_TASK = 1,
                         TASK_ABORT_TASK_SET = 2,
                         TASK_CLEAR_ACA = 3,
                         TASK_CLEAR_TASK_SET = 4,
                         TASK_LOGICAL_UNIT_RESET = 5,
                         TASK_TARGET_WARM_RESET = 6,
                         TASK_TARGET_COLD_RESET = 7,
                         TASK_REASSIGN = 8,
                         TASK_I_T_NEXUS_RESET = 11, /* RFC 7144 6.2; 9, 10 and 12 only ask */
};
struct pdu_task_request {
    uint8_t function;
    uint32_t referenced_tag;
};
struct pdu_task_request pdu_task_request(const uint8_t head[PDU_HEAD_BYTES]);
uint8_t pdu_task_response(const uint8_t head[PDU_HEAD_BYTES]); /* 0 done, 1 no such task */

struct pdu_login { /* 11.12, 11.13 */
    bool transit;
    bool more; /* C bit: the text goes on in the next PDU */
    uint8_t next_stage;
    uint8_t version_min; /* of a request */
    uint64_t isid;
    uint16_t tsih;
    uint16_t connection;  /* of a request */
    uint8_t status_class; /* of a response */
};
struct pdu_login pdu_login(const uint8_t head[PDU_HEAD_BYTES]);

struct pdu_logout { /* 11.14 */
    uint8_t reason; /* 0 session, 1 connection, 2 connection for recovery */
    uint16_t connection;
};
struct pdu_logout pdu_logout(const uint8_t head[PDU_HEAD_BYTES]);
uint8_t pdu_logout_response(const uint8_t head[PDU_HEAD_BYTES]);

enum { REJECT_DATA_DIGEST = 2 }; /* 11.17.1 */
uint8_t pdu_reject_reason(const uint8_t head[PDU_HEAD_BYTES]);

#endif
