#include "tap/iscsi/shape.h"

enum {
    MAX_COMMAND_AHS = 64, /* a CDB of 260 bytes takes 62 words, and a read length 2 */
    MAX_BURST_BYTES = 1 << 24,
    MAX_WINDOW = 1 << 20, /* of commands: targets have up to some thousands */
    FINAL = 0x80,
};

/* Is the task tag FFFFFFFFh? */
enum tag { TAGGED, UNTAGGED, EITHER };

/* What the reserved fields of an operation code are, and what may follow its header. */
struct outline {
    uint8_t opcode;
    bool immediate;     /* bit 40h of byte 0 may be set */
    uint8_t set;        /* bits of byte 1 that are set */
    uint8_t clear;      /* and those that are not */
    uint8_t zero_bytes; /* of bytes 2 and 3: bit 0, bit 1 */
    bool has_data;      /* a data segment may follow */
    enum tag tag;
};

enum { BYTE_2 = 1, BYTE_3 = 2, BOTH = 3 };

static const struct outline of_initiator[] = {
    {PDU_NOP_OUT, true, FINAL, 0x7f, BOTH, true, EITHER},
    {PDU_COMMAND, true, 0, 0x18, BOTH, true, TAGGED},
    {PDU_TASK_REQUEST, true, FINAL, 0, BOTH, false, TAGGED},
    {PDU_LOGIN_REQUEST, true, 0, 0x30, BOTH, true, TAGGED},
    {PDU_TEXT_REQUEST, true, 0, 0x3f, BOTH, true, TAGGED},
    {PDU_DATA_OUT, false, 0, 0x7f, BOTH, true, TAGGED},
    {PDU_LOGOUT_REQUEST, true, FINAL, 0x7c, BOTH, false, TAGGED},
    {PDU_SNACK, false, FINAL, 0x70, BOTH, false, EITHER},
};

static const struct outline of_target[] = {
    {PDU_NOP_IN, false, FINAL, 0x7f, BOTH, true, EITHER},
    {PDU_RESPONSE, false, FINAL, 0x61, 0, true, TAGGED},
    {PDU_TASK_RESPONSE, false, FINAL, 0x7f, BYTE_3, false, TAGGED},
    {PDU_LOGIN_RESPONSE, false, 0, 0x30, BOTH, true, TAGGED},
    {PDU_TEXT_RESPONSE, false, 0, 0x3f, BOTH, true, TAGGED},
    {PDU_DATA_IN, false, 0, 0x38, BYTE_2, true, TAGGED},
    {PDU_LOGOUT_RESPONSE, false, FINAL, 0x7f, BYTE_3, false, TAGGED},
    {PDU_R2T, false, FINAL, 0x7f, BOTH, false, TAGGED},
    {PDU_ASYNC, false, FINAL, 0x7f, BOTH, true, UNTAGGED},
    {PDU_REJECT, false, FINAL, 0x7f, BYTE_3, true, UNTAGGED},
};

static const struct outline *outline_of(uint8_t opcode, bool initiator) {
    const struct outline *rows = initiator ? of_initiator : of_target;
    size_t count = initiator ? sizeof of_initiator / sizeof *rows : sizeof of_target / sizeof *rows;
    for (size_t i = 0; i < count; i++) {
        if (rows[i].opcode == opcode)
            return &rows[i];
    }
    return NULL;
}

static bool is_zero(const uint8_t head[PDU_HEAD_BYTES], size_t from, size_t to) {
    bool zero = true;
    for (size_t i = from; i < to; i++)
        zero = zero && pdu_byte(head, i) == 0;
    return zero;
}

static bool fits_outline(const uint8_t head[PDU_HEAD_BYTES], const struct pdu *pdu,
                         const struct outline *o) {
    uint8_t flags = pdu_byte(head, 1);
    return (pdu_byte(head, 0) & 0x80) == 0 && (o->immediate || !pdu->immediate) &&
           (flags & o->set) == o->set && (flags & o->clear) == 0 &&
           ((o->zero_bytes & BYTE_2) == 0 || pdu_byte(head, 2) == 0) &&
           ((o->zero_bytes & BYTE_3) == 0 || pdu_byte(head, 3) == 0) &&
           (o->has_data || pdu->data_bytes == 0) &&
           (o->tag == EITHER || (o->tag == UNTAGGED) == (pdu->task_tag == UINT32_MAX)) &&
           (pdu->opcode == PDU_COMMAND ? pdu->ahs_bytes <= MAX_COMMAND_AHS * 4
                                       : pdu->ahs_bytes == 0);
}

/* 11.2.2: there is one for what does not fit into a header, only. */
static bool may_have_ahs(const struct pdu_command *c) {
    enum { XDWRITEREAD_10 = 0x53, EXTENDED_CDB = 0x7e, VARIABLE_CDB = 0x7f, VENDOR = 0xc0 };
    uint8_t operation = c->cdb[0];
    return operation == EXTENDED_CDB || operation == VARIABLE_CDB || operation >= VENDOR ||
           (c->reads && c->writes && operation == XDWRITEREAD_10);
}

/* 11.3: without W nothing goes to the device, now or later; without R and W nothing at all. */
static bool fits_command(const uint8_t head[PDU_HEAD_BYTES], const struct pdu *pdu) {
    struct pdu_command c = pdu_command(head);
    bool final = (pdu_byte(head, 1) & FINAL) != 0;
    if (c.attribute > 4 || (!c.writes && (pdu->data_bytes > 0 || !final)))
        return false;
    if (pdu->ahs_bytes > 0 && !may_have_ahs(&c))
        return false;
    if (!c.reads && !c.writes && c.expected_bytes > 0)
        return false;
    return pdu->data_bytes <= c.expected_bytes;
}

/* 11.7.7: no data is to be avoided, but is allowed. In the middle of a sequence it is senseless. */
static bool fits_data_out(const uint8_t head[PDU_HEAD_BYTES], const struct pdu *pdu) {
    return (pdu->data_bytes > 0 || (pdu_byte(head, 1) & FINAL) != 0) && is_zero(head, 24, 28) &&
           is_zero(head, 32, 36) && is_zero(head, 44, 48);
}

/* 11.7: residuals and status mean something with the S bit only, and that only in the last one. */
static bool fits_data_in(const uint8_t head[PDU_HEAD_BYTES], const struct pdu *pdu) {
    uint8_t flags = pdu_byte(head, 1);
    bool has_status = (flags & 0x01) != 0;
    bool residual = (flags & 0x06) != 0;
    if (has_status)
        return (flags & FINAL) != 0;
    return pdu->data_bytes > 0 && !residual && pdu_byte(head, 3) == 0;
}

/*
 * 11.4. The LUN is reserved, but there may be targets that repeat the command's: so much of it as
 * a LUN of one level takes may be there.
 */
static bool fits_response(const uint8_t head[PDU_HEAD_BYTES]) {
    bool residual = (pdu_byte(head, 1) & 0x1e) != 0;
    return is_zero(head, 10, 16) && (residual || is_zero(head, 40, 48));
}

/* 11.11.4: the last one has no Target Transfer Tag, others have. */
static bool fits_text_response(const uint8_t head[PDU_HEAD_BYTES]) {
    bool final = (pdu_byte(head, 1) & FINAL) != 0;
    return final == (pdu_word(head, 20) == UINT32_MAX) && is_zero(head, 36, 48);
}

/* 4.2.2.1: MaxCmdSN is not more than one before ExpCmdSN. */
static bool fits_window(const uint8_t head[PDU_HEAD_BYTES]) {
    int32_t window = pdu_serial_distance(pdu_word(head, 28), pdu_word(head, 32));
    return window >= -1 && window < MAX_WINDOW;
}

/* 11.16: those of status and DataACK are for no task of their own. */
static bool fits_snack(const uint8_t head[PDU_HEAD_BYTES], const struct pdu *pdu) {
    enum { DATA_OR_R2T, STATUS, DATA_ACK, R_DATA };
    uint8_t type = pdu_byte(head, 1) & 0x0f;
    bool untagged = type == STATUS || type == DATA_ACK;
    return type <= R_DATA && untagged == (pdu->task_tag == UINT32_MAX) && is_zero(head, 24, 28) &&
           is_zero(head, 32, 40);
}

/* Bytes that an operation code keeps at zero, and small numbers. */
static bool fits_details(const uint8_t head[PDU_HEAD_BYTES], const struct pdu *pdu) {
    switch (pdu->opcode) {
    case PDU_COMMAND:
        return fits_command(head, pdu);
    case PDU_DATA_OUT:
        return fits_data_out(head, pdu);
    case PDU_DATA_IN:
        return fits_data_in(head, pdu);
    case PDU_NOP_OUT:
        return is_zero(head, 32, 48);
    case PDU_NOP_IN:
        return is_zero(head, 36, 48);
    case PDU_TASK_REQUEST: {
        uint8_t function = pdu_byte(head, 1) & 0x7f;
        return function > 0 && function <= 14 && is_zero(head, 40, 48);
    }
    case PDU_LOGOUT_REQUEST:
        return is_zero(head, 8, 16) && is_zero(head, 22, 24) && is_zero(head, 32, 48);
    case PDU_TEXT_REQUEST:
        return is_zero(head, 32, 48);
    case PDU_TEXT_RESPONSE:
        return fits_text_response(head);
    case PDU_RESPONSE:
        return fits_response(head);
    case PDU_SNACK:
        return fits_snack(head, pdu);
    case PDU_TASK_RESPONSE:
        return is_zero(head, 8, 16) && is_zero(head, 20, 24) && is_zero(head, 36, 48);
    case PDU_LOGOUT_RESPONSE:
        return pdu_byte(head, 2) <= 3 && is_zero(head, 8, 16) && is_zero(head, 20, 24);
    case PDU_R2T: {
        uint32_t wanted = pdu_word(head, 44);
        return wanted > 0 && wanted <= MAX_BURST_BYTES;
    }
    case PDU_REJECT:
        return pdu_byte(head, 2) > 0 && is_zero(head, 8, 16) && pdu->data_bytes >= PDU_HEAD_BYTES;
    default:
        return true;
    }
}

bool shape_fits(const uint8_t head[PDU_HEAD_BYTES], bool initiator) {
    const struct outline *o = outline_of(pdu_byte(head, 0) & 0x3f, initiator);
    if (o == NULL)
        return false; /* as for nearly all bytes that are looked at */
    struct pdu pdu = pdu_parse(head);
    return fits_outline(head, &pdu, o) && fits_details(head, &pdu) &&
           (initiator || fits_window(head));
}
