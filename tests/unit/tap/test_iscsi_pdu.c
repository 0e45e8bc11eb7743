#include "tap/iscsi/pdu.h"

#include "scsi_recorder.h"

#include <criterion/criterion.h>
#include <string.h>

/* Every field in a place of its own, so that a wrong offset shows. */
static const uint8_t counting[PDU_HEAD_BYTES] = {
    0x41, 0xe2, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f, 0x10,
    0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x1b, 0x1c, 0x1d, 0x1e, 0x1f, 0x20,
    0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2a, 0x2b, 0x2c, 0x2d, 0x2e, 0x2f, 0x30};

Test(iscsi_pdu, common_fields) {
    struct pdu pdu = pdu_parse(counting);
    cr_assert_eq(pdu.opcode, 0x01);
    cr_assert(pdu.immediate);
    cr_assert_eq(pdu.ahs_bytes, 20);
    cr_assert_eq(pdu.data_bytes, 0x060708);
    cr_assert_eq(pdu.lun, 0x090a0b0c0d0e0f10);
    cr_assert_eq(pdu.task_tag, 0x11121314);
}

Test(iscsi_pdu, command) {
    struct pdu_command command = pdu_command(counting);
    cr_assert(command.reads && command.writes);
    cr_assert_eq(command.attribute, 2);
    cr_assert_eq(command.expected_bytes, 0x15161718);
    cr_assert_eq(command.command_number, 0x191a1b1c);
    cr_assert_arr_eq(command.cdb, counting + 32, 16);
}

Test(iscsi_pdu, data_and_response) {
    uint8_t head[PDU_HEAD_BYTES];
    memcpy(head, counting, sizeof head);
    struct pdu_data data = pdu_data(head);
    cr_assert_eq(data.offset, 0x292a2b2c);
    cr_assert_not(data.has_status);
    cr_assert_eq(data.residual_underflow, 0, "means nothing without a status");
    head[1] = 0x83;
    data = pdu_data(head);
    cr_assert(data.has_status);
    cr_assert_eq(data.status, 4);
    cr_assert_eq(data.residual_underflow, 0x2d2e2f30);
    head[1] = 0x85; /* overflow */
    cr_assert_eq(pdu_data(head).residual_underflow, 0);
    struct pdu_response response = pdu_response(counting);
    cr_assert_eq(response.response, 3);
    cr_assert_eq(response.status, 4);
    cr_assert_eq(response.residual_underflow, 0x2d2e2f30);
}

Test(iscsi_pdu, login_and_logout) {
    struct pdu_login login = pdu_login(counting);
    cr_assert(login.transit && login.more);
    cr_assert_eq(login.next_stage, 2);
    cr_assert_eq(login.version_min, 4);
    cr_assert_eq(login.isid, 0x090a0b0c0d0e);
    cr_assert_eq(login.tsih, 0x0f10);
    cr_assert_eq(login.connection, 0x1516);
    cr_assert_eq(login.status_class, 0x25);
    cr_assert_eq(pdu_logout(counting).reason, 0x62);
    cr_assert_eq(pdu_logout(counting).connection, 0x1516);
    cr_assert_eq(pdu_logout_response(counting), 3);
}

Test(iscsi_pdu, task_management_and_reject) {
    cr_assert_eq(pdu_task_request(counting).function, 0x62);
    cr_assert_eq(pdu_task_request(counting).referenced_tag, 0x15161718);
    cr_assert_eq(pdu_task_response(counting), 3);
    cr_assert_eq(pdu_reject_reason(counting), 3);
}

Test(iscsi_pdu, opcodes_by_side) {
    cr_expect(pdu_is_of_initiator(0x05) && !pdu_is_of_target(0x05));
    cr_expect(pdu_is_of_target(0x25) && !pdu_is_of_initiator(0x25));
    cr_expect(pdu_is_of_initiator(0x1c) && pdu_is_of_target(0x3c));
    cr_expect(!pdu_is_of_initiator(0x07) && !pdu_is_of_target(0x27));
    cr_expect(!pdu_is_of_initiator(0x1f) && pdu_is_of_target(0x3f));
}

/* RFC 7143 11.2.2.2: the length counts the reserved byte and the rest of the CDB. */
Test(iscsi_pdu, extended_cdb) {
    uint8_t ahs[20] = {0, 17, 1, 0};
    struct pdu_extension extension;
    memset(ahs + 4, 0xab, 16);
    cr_assert(pdu_extension(ahs, sizeof ahs, &extension));
    cr_assert_eq(extension.cdb_bytes, 16);
    cr_assert_eq(extension.cdb, ahs + 4);
    for (size_t bytes = 1; bytes < sizeof ahs; bytes++)
        cr_expect_not(pdu_extension(ahs, bytes, &extension), "%zu bytes", bytes);
    ahs[1] = 18;
    cr_assert_not(pdu_extension(ahs, sizeof ahs, &extension));
}

Test(iscsi_pdu, several_extensions_with_padding) {
    uint8_t ahs[16] = {0, 2, 1, 0, 0xab, 0, 0, 0, 0, 5, 2, 0, 0, 0, 0x12, 0x34};
    struct pdu_extension extension;
    cr_assert(pdu_extension(ahs, sizeof ahs, &extension));
    cr_assert_eq(extension.cdb_bytes, 1);
    cr_assert_eq(extension.cdb[0], 0xab);
    cr_assert_eq(extension.read_bytes, 0x1234);
    put_be(ahs, 0xffff, 2);
    cr_assert_not(pdu_extension(ahs, sizeof ahs, &extension));
}
