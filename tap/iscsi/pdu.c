#include "tap/iscsi/pdu.h"

struct pdu pdu_parse(const uint8_t head[PDU_HEAD_BYTES]) {
    struct cursor c = cursor_of(head, PDU_HEAD_BYTES);
    uint8_t first = cursor_u8(&c);
    cursor_skip(&c, 3);
    struct pdu pdu = {.opcode = first & 0x3f, .immediate = (first & 0x40) != 0};
    pdu.ahs_bytes = 4u * cursor_u8(&c);
    pdu.data_bytes = cursor_be24(&c);
    pdu.lun = cursor_be64(&c);
    pdu.task_tag = cursor_be32(&c);
    return pdu;
}

/* The numbers of every opcode lie at the same places, where they are there at all. */
struct pdu_numbers pdu_numbers(const uint8_t head[PDU_HEAD_BYTES]) {
    struct cursor c = cursor_of(head, PDU_HEAD_BYTES);
    uint8_t first = cursor_u8(&c);
    uint8_t flags = cursor_u8(&c);
    cursor_skip(&c, 14);
    bool tagged = cursor_be32(&c) != UINT32_MAX;
    cursor_skip(&c, 4);
    struct pdu_numbers n = {.number = cursor_be32(&c)};
    n.expected = cursor_be32(&c);
    switch (first & 0x3f) {
    case PDU_NOP_OUT:
    case PDU_COMMAND:
    case PDU_TASK_REQUEST:
    case PDU_LOGIN_REQUEST:
    case PDU_TEXT_REQUEST:
    case PDU_LOGOUT_REQUEST:
        n.has_number = true;
        /* A NOP-Out without a tag only answers, and counts nothing (11.18.1). */
        n.counts = (first & 0x40) == 0 && ((first & 0x3f) != PDU_NOP_OUT || tagged);
        break;
    case PDU_DATA_IN:
        n.has_number = n.counts = (flags & 0x01) != 0;
        break;
    case PDU_NOP_IN:
        n.has_number = true;
        n.counts = tagged;
        break;
    case PDU_R2T:
        n.has_number = true;
        break;
    case PDU_RESPONSE:
    case PDU_TASK_RESPONSE:
    case PDU_LOGIN_RESPONSE:
    case PDU_TEXT_RESPONSE:
    case PDU_LOGOUT_RESPONSE:
    case PDU_ASYNC:
    case PDU_REJECT:
        n.has_number = n.counts = true;
        break;
    case PDU_DATA_OUT:
    case PDU_SNACK:
        break;
    default:
        return (struct pdu_numbers){0};
    }
    n.has_expected = true;
    return n;
}

bool pdu_is_of_initiator(uint8_t opcode) {
    return opcode <= PDU_LOGOUT_REQUEST || opcode == PDU_SNACK ||
           (opcode >= 0x1c && opcode <= 0x1e);
}

bool pdu_is_of_target(uint8_t opcode) {
    return (opcode >= PDU_NOP_IN && opcode <= PDU_LOGOUT_RESPONSE) || opcode == PDU_R2T ||
           opcode == PDU_ASYNC || (opcode >= 0x3c && opcode <= 0x3f);
}

struct pdu_command pdu_command(const uint8_t head[PDU_HEAD_BYTES]) {
    uint8_t flags = pdu_byte(head, 1);
    struct cursor c = pdu_from(head, 20);
    struct pdu_command command = {.reads = (flags & 0x40) != 0,
                                  .writes = (flags & 0x20) != 0,
                                  .attribute = flags & 0x07,
                                  .expected_bytes = cursor_be32(&c),
                                  .command_number = cursor_be32(&c)};
    cursor_skip(&c, 4);
    cursor_copy(&c, command.cdb, sizeof command.cdb);
    return command;
}

static void take_extension(struct cursor body, uint8_t type, struct pdu_extension *extension) {
    enum { EXTENDED_CDB = 1, READ_LENGTH = 2 };
    cursor_skip(&body, 1); /* reserved */
    size_t left = cursor_left(&body);
    if (type == EXTENDED_CDB) {
        extension->cdb = cursor_bytes(&body, left);
        extension->cdb_bytes = left;
    } else if (type == READ_LENGTH) {
        extension->read_bytes = cursor_be32(&body);
    }
}

bool pdu_extension(const uint8_t *ahs, size_t bytes, struct pdu_extension *extension) {
    struct cursor c = cursor_of(ahs, bytes);
    *extension = (struct pdu_extension){0};
    while (cursor_ok(&c) && cursor_left(&c) > 0) {
        size_t length = cursor_be16(&c);
        uint8_t type = cursor_u8(&c);
        struct cursor body = cursor_child(&c, length);
        size_t over = (length + 3) % 4; /* the three bytes before it count for the padding */
        if (!cursor_ok(&body))
            return false;
        take_extension(body, type, extension);
        if (over != 0 && cursor_left(&c) > 0)
            cursor_skip(&c, 4 - over);
    }
    return cursor_ok(&c);
}

static uint32_t underflow(const uint8_t head[PDU_HEAD_BYTES]) {
    return (pdu_byte(head, 1) & 0x02) != 0 ? pdu_word(head, 44) : 0;
}

struct pdu_data pdu_data(const uint8_t head[PDU_HEAD_BYTES]) {
    struct pdu_data data = {.offset = pdu_word(head, 40), .transfer_tag = pdu_word(head, 20)};
    data.has_status = (pdu_byte(head, 1) & 0x01) != 0;
    if (data.has_status) {
        data.status = pdu_byte(head, 3);
        data.residual_underflow = underflow(head);
    }
    return data;
}

struct pdu_response pdu_response(const uint8_t head[PDU_HEAD_BYTES]) {
    return (struct pdu_response){.response = pdu_byte(head, 2),
                                 .status = pdu_byte(head, 3),
                                 .residual_underflow = underflow(head)};
}

struct pdu_task_request pdu_task_request(const uint8_t head[PDU_HEAD_BYTES]) {
    return (struct pdu_task_request){.function = pdu_byte(head, 1) & 0x7f,
                                     .referenced_tag = pdu_word(head, 20)};
}

uint8_t pdu_task_response(const uint8_t head[PDU_HEAD_BYTES]) {
    return pdu_byte(head, 2);
}

struct pdu_login pdu_login(const uint8_t head[PDU_HEAD_BYTES]) {
    uint8_t flags = pdu_byte(head, 1);
    struct cursor session = pdu_from(head, 8);
    struct cursor connection = pdu_from(head, 20);
    struct pdu_login login = {.transit = (flags & 0x80) != 0,
                              .more = (flags & 0x40) != 0,
                              .next_stage = flags & 0x03,
                              .version_min = pdu_byte(head, 3),
                              .status_class = pdu_byte(head, 36)};
    login.isid = cursor_be(&session, 6);
    login.tsih = cursor_be16(&session);
    login.connection = cursor_be16(&connection);
    return login;
}

struct pdu_logout pdu_logout(const uint8_t head[PDU_HEAD_BYTES]) {
    struct cursor connection = pdu_from(head, 20);
    return (struct pdu_logout){.reason = pdu_byte(head, 1) & 0x7f,
                               .connection = cursor_be16(&connection)};
}

uint8_t pdu_logout_response(const uint8_t head[PDU_HEAD_BYTES]) {
    return pdu_byte(head, 2);
}

uint8_t pdu_reject_reason(const uint8_t head[PDU_HEAD_BYTES]) {
    return pdu_byte(head, 2);
}
