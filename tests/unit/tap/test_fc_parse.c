#include "common/crc32.h"
#include "tap/fc/els.h"
#include "tap/fc/fcp.h"
#include "tap/fc/fip.h"
#include "tap/fc/frame.h"
#include "tests/unit/tap/scsi_recorder.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

/* Frames */

static const uint8_t data_header[24] = {1, 0, 0, 2, 0, 0, 0, 3, 8,    0, 0, 0x09,
                                        5, 0, 0, 6, 0, 7, 0, 8, 0x10, 0, 0, 0};

static enum frame_verdict parse(const uint8_t *bytes, size_t length, size_t wire,
                                struct frame *frame) {
    uint8_t *exact = malloc(length > 0 ? length : 1);
    memcpy(exact, bytes, length);
    struct fc_frame from = {
        .data = exact, .bytes = (uint32_t)length, .wire_bytes = (uint32_t)wire, .vsan = 3};
    enum frame_verdict verdict = frame_parse(&from, frame);
    free(exact);
    return verdict;
}

Test(fc_parse, header_and_fill_bytes) {
    uint8_t bytes[24 + 8];
    struct frame f;
    memcpy(bytes, data_header, 24);
    memset(bytes + 24, 1, 8);
    cr_assert_eq(parse(bytes, 32, 32, &f), FRAME_GOOD);
    cr_assert_eq(f.r_ctl, R_CTL_DATA);
    cr_assert_eq(f.d_id, 2);
    cr_assert_eq(f.s_id, 3);
    cr_assert_eq(f.seq_id, 5);
    cr_assert_eq(f.seq_cnt, 6);
    cr_assert_eq(f.ox_id, 7);
    cr_assert_eq(f.rx_id, 8);
    cr_assert_eq(f.parameter, 0x10000000);
    cr_assert_eq(f.vsan, 3);
    cr_assert_eq(f.bytes, 7, "one fill byte");
    cr_assert_eq(f.wire_bytes, 7);
}

Test(fc_parse, more_fill_than_payload) {
    uint8_t bytes[24];
    struct frame f;
    memcpy(bytes, data_header, 24);
    cr_assert_eq(parse(bytes, 24, 24, &f), FRAME_MALFORMED);
}

Test(fc_parse, virtual_fabric) {
    uint8_t bytes[8 + 8 + 24 + 4] = {0x50, 0, 0x00, 0x54, 0, 0, 0, 0, 0x51};
    struct frame f;
    memcpy(bytes + 16, data_header, 24);
    cr_assert_eq(parse(bytes, sizeof bytes, sizeof bytes, &f), FRAME_GOOD);
    cr_assert_eq(f.vsan, 42);
    cr_assert_eq(f.bytes, 3);
}

Test(fc_parse, extended_headers_without_end) {
    uint8_t bytes[80];
    struct frame f;
    for (size_t i = 0; i < sizeof bytes; i += 8)
        memcpy(bytes + i, "\x50\0\0\0\0\0\0\0", 8);
    cr_assert_eq(parse(bytes, sizeof bytes, sizeof bytes, &f), FRAME_MALFORMED);
    cr_assert_eq(parse(bytes, 8, 8, &f), FRAME_MALFORMED);
}

Test(fc_parse, optional_headers) {
    uint8_t bytes[24 + 16 + 32 + 5] = {0};
    struct frame f;
    memcpy(bytes, data_header, 24);
    bytes[13] = 0x22; /* network header, 32 bytes of device header */
    cr_assert_eq(parse(bytes, sizeof bytes, sizeof bytes, &f), FRAME_GOOD);
    cr_assert_eq(f.bytes, 4);
    cr_assert_eq(parse(bytes, 24 + 47, 24 + 47, &f), FRAME_MALFORMED);
    bytes[13] = 0x40;
    cr_assert_eq(parse(bytes, sizeof bytes, sizeof bytes, &f), FRAME_ENCRYPTED);
}

Test(fc_parse, cut_by_the_capture) {
    uint8_t bytes[24 + 8] = {0};
    struct frame f;
    memcpy(bytes, data_header, 24);
    cr_assert_eq(parse(bytes, 28, 32, &f), FRAME_GOOD);
    cr_assert_eq(f.bytes, 4);
    cr_assert_eq(f.wire_bytes, 7);
    cr_assert_eq(parse(bytes, 23, 32, &f), FRAME_UNREADABLE);
    cr_assert_eq(parse(bytes, 23, 23, &f), FRAME_MALFORMED);
    cr_assert_eq(parse(bytes, 0, 32, &f), FRAME_UNREADABLE);
}

Test(fc_parse, crc) {
    uint8_t bytes[24 + 4 + 4] = {0};
    struct frame f;
    memcpy(bytes, data_header, 24);
    uint32_t crc = crc32_frame(0, bytes, 28);
    for (int i = 0; i < 4; i++)
        bytes[28 + i] = (uint8_t)(crc >> (8 * i));
    struct fc_frame from = {.data = bytes, .bytes = 32, .wire_bytes = 32, .has_crc = true};
    cr_assert_eq(frame_parse(&from, &f), FRAME_GOOD);
    cr_assert_eq(f.bytes, 3);
    bytes[25] ^= 1;
    cr_assert_eq(frame_parse(&from, &f), FRAME_DAMAGED);
    from.bytes = from.wire_bytes = 3;
    cr_assert_eq(frame_parse(&from, &f), FRAME_MALFORMED);
}

/* FCP */

Test(fc_parse, command) {
    uint8_t iu[12 + 16 + 4 + 8] = {0, 5, 0, 0, 0, 0, 0, 0, 0, 0x02, 0, 1 << 2 | 3, 0x7f};
    struct fcp_command c;
    put_be(iu + 32, 4096, 4);
    put_be(iu + 36, 512, 4);
    cr_assert_eq(fcp_command_parse(iu, sizeof iu, &c), FCP_GOOD);
    cr_assert_eq(c.lun, UINT64_C(5) << 48);
    cr_assert_eq(c.attribute, 2, "ordered");
    cr_assert_eq(c.cdb_bytes, 20);
    cr_assert_eq(c.out_bytes, 4096);
    cr_assert_eq(c.in_bytes, 512);
    for (size_t cut = 0; cut < sizeof iu; cut++)
        cr_assert_eq(fcp_command_parse(iu, cut, &c), cut < 8 ? FCP_NO_LUN : FCP_SHORT, "%zu", cut);
}

Test(fc_parse, longest_additional_cdb) {
    uint8_t iu[12 + 16 + 63 * 4 + 4] = {[11] = 63 << 2 | 1};
    struct fcp_command c;
    put_be(iu + sizeof iu - 4, 77, 4);
    cr_assert_eq(fcp_command_parse(iu, sizeof iu, &c), FCP_GOOD);
    cr_assert_eq(c.cdb_bytes, FCP_CDB_MOST);
    cr_assert_eq(c.out_bytes, 77);
}

Test(fc_parse, ready) {
    uint8_t iu[12] = {0, 0, 2, 0, 0, 0, 4, 0};
    struct fcp_ready r;
    cr_assert(fcp_ready_parse(iu, sizeof iu, &r));
    cr_assert_eq(r.offset, 512);
    cr_assert_eq(r.burst_bytes, 1024);
    cr_assert_not(fcp_ready_parse(iu, 7, &r));
}

Test(fc_parse, response_with_everything) {
    uint8_t iu[24 + 8 + 18] = {[10] = 0x0b, [11] = 2, [15] = 9, [19] = 18, [23] = 8, [27] = 4};
    struct fcp_response r;
    iu[32] = 0x70;
    cr_assert(fcp_response_parse(iu, sizeof iu, false, &r));
    cr_assert_eq(r.status, 2);
    cr_assert_eq(r.code, 4);
    cr_assert(r.underflow);
    cr_assert_eq(r.residual, 9);
    cr_assert_eq(r.sense_bytes, 18);
    cr_assert_eq(r.sense[0], 0x70);
    cr_assert_not(fcp_response_parse(iu, sizeof iu - 1, false, &r), "sense longer than the unit");
    cr_assert(fcp_response_parse(iu, sizeof iu - 1, true, &r), "cut by the capture");
    cr_assert_eq(r.sense_bytes, 17);
    iu[20] = 1;
    cr_assert_not(fcp_response_parse(iu, sizeof iu, false, &r), "code longer than the unit");
    cr_assert_not(fcp_response_parse(iu, 11, true, &r));
}

/* ELS and FIP */

Test(fc_parse, logins) {
    uint8_t plogi[116] = {ELS_PLOGI};
    struct els els;
    put_be(plogi + 20, 0x2000000000000001, 8);
    cr_assert(els_parse(plogi, sizeof plogi, 0, &els));
    cr_assert_eq(els.wwpn, 0x2000000000000001);
    cr_assert_not(els_parse(plogi, 27, 0, &els));
    plogi[0] = ELS_LS_ACC;
    cr_assert(els_parse(plogi, sizeof plogi, ELS_PLOGI, &els));
    cr_assert_eq(els.wwpn, 0x2000000000000001);
    cr_assert(els_parse(plogi, 4, 0, &els));
    cr_assert_eq(els.wwpn, 0, "of what is not known");
}

Test(fc_parse, other_services) {
    uint8_t adisc[28] = {ELS_ADISC};
    uint8_t rec[12] = {ELS_REC};
    struct els els;
    put_be(adisc + 8, 77, 8);
    put_be(adisc + 24, 0x010203, 4);
    cr_assert(els_parse(adisc, sizeof adisc, 0, &els));
    cr_assert_eq(els.wwpn, 77);
    cr_assert_eq(els.fc_id, 0x010203);
    cr_assert_not(els_parse(adisc, 27, 0, &els));
    put_be(rec + 8, 0x55, 2);
    cr_assert(els_parse(rec, sizeof rec, 0, &els));
    cr_assert_eq(els.ox_id, 0x55);
    cr_assert_not(els_parse(rec, 9, 0, &els));
    cr_assert_not(els_parse(rec, 3, 0, &els));
    uint8_t prli[20] = {ELS_PRLI, 16, 0, 20, TYPE_NVME};
    cr_assert(els_parse(prli, sizeof prli, 0, &els));
    cr_assert_eq(els.type, TYPE_NVME);
    cr_assert(els_parse(prli, 4, 0, &els), "cut");
    cr_assert_eq(els.type, 0);
}

/* Of a request that was not seen. */
Test(fc_parse, what_an_answer_answers) {
    uint8_t accept[256] = {ELS_LS_ACC};
    cr_assert_eq(els_answers(accept, 116, 116), 0, "of no class of service");
    accept[68] = 0x80;
    cr_assert_eq(els_answers(accept, 116, 116), ELS_PLOGI);
    cr_assert_eq(els_answers(accept, 256, 256), ELS_PLOGI);
    cr_assert_eq(els_answers(accept, 40, 116), ELS_PLOGI, "cut by the capture");
    cr_assert_eq(els_answers(accept, 112, 112), 0);
    cr_assert_eq(els_answers(accept, 0, 116), 0);
    accept[0] = ELS_LS_RJT;
    cr_assert_eq(els_answers(accept, 116, 116), 0);
    uint8_t page[36] = {ELS_LS_ACC, 16, 0, 20, TYPE_FCP};
    cr_assert_eq(els_answers(page, 20, 20), ELS_PRLI);
    cr_assert_eq(els_answers(page, 4, 20), ELS_PRLI);
    cr_assert_eq(els_answers(page, 3, 20), 0);
    cr_assert_eq(els_answers(page, 36, 36), 0, "another length than it says");
}

Test(fc_parse, fip) {
    uint8_t beacon[10 + 20 + 12] = {0x10, 0, 0, 5, 0, 5, 0, 8, 0, 0, 11, 5};
    struct fip fip;
    put_be(beacon + 18, 0x010203, 4);
    put_be(beacon + 22, 99, 8);
    memcpy(beacon + 30, "\x09\3\0\0abcdefgh", 12);
    cr_assert(fip_parse(beacon, sizeof beacon, &fip));
    cr_assert_eq(fip.operation, FIP_VN2VN);
    cr_assert_eq(fip.subcode, FIP_BEACON);
    cr_assert_eq(fip.port_count, 1);
    cr_assert_eq(fip.ports[0].fc_id, 0x010203);
    cr_assert_eq(fip.ports[0].wwpn, 99);
    cr_assert_eq(fip.frame_bytes, 8);
    cr_assert_eq(memcmp(fip.frame, "abcdefgh", 8), 0);
    for (size_t cut = 0; cut < sizeof beacon; cut++)
        cr_assert_not(fip_parse(beacon, cut, &fip), "%zu", cut);
    beacon[31] = 4; /* longer than the list */
    cr_assert_not(fip_parse(beacon, sizeof beacon, &fip));
    beacon[31] = 0;
    cr_assert_not(fip_parse(beacon, sizeof beacon, &fip));
    beacon[31] = 3;
    beacon[0] = 0x20;
    cr_assert_not(fip_parse(beacon, sizeof beacon, &fip), "another version");
}
