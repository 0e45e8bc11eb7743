/* Commands, data and statuses on one connection. */
#include "iscsi_world.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

enum { GOOD = 0, CHECK_CONDITION = 2 };

Test(iscsi_connection, immediate_data) {
    struct iscsi_world w;
    iscsi_world_make(&w);
    struct iscsi_link l = link_session(&w);
    link_write(&l, 5, 100, 8, 4096, 0xaa);
    link_response(&l, 5, GOOD);
    const struct recorded *e = recorded_update(w.recorder, 0);
    cr_assert(e->lba == 100 && e->blocks == 8 && e->data[4095] == 0xaa);
    cr_assert_eq(e->lun, UINT64_C(1) << 48);
    cr_assert_eq(e->time_ns, w.now_ns, "the time of the status");
    cr_assert_eq(GAPS(w), 0);
    iscsi_world_end(&w);
}

Test(iscsi_connection, size_from_a_data_in_with_status) {
    struct iscsi_world w;
    iscsi_world_make(&w);
    struct iscsi_link l = link_session(&w);
    const struct recorded *e = recorded_at(w.recorder, RECORDED_PATH, 0);
    cr_assert_eq(e->known.size_bytes, 4096 * 512);
    cr_assert_str_eq(e->known.target, "iqn.target");
    link_close(&l, TCP_END_FIN);
    iscsi_world_end(&w);
}

/* Unsolicited and solicited data, in any order: it says by itself where it belongs. */
Test(iscsi_connection, data_out_in_any_order) {
    struct iscsi_world w;
    iscsi_world_make(&w);
    struct iscsi_link l = link_session(&w);
    link_write(&l, 5, 100, 64, 1024, 1);
    struct made_pdu *r2t = make_pdu(0x31, 5);
    link_send(&l, TO_INITIATOR, r2t);
    free(r2t);
    link_data_out(&l, 5, 20000, 12768, 4);
    link_data_out(&l, 5, 1024, 1000, 2);
    link_write(&l, 6, 500, 8, 4096, 9);
    link_data_out(&l, 5, 2024, 17976, 3);
    link_response(&l, 6, GOOD);
    link_response(&l, 5, GOOD);
    const struct recorded *e = recorded_update(w.recorder, 1);
    cr_assert_eq(e->data_bytes, 32768);
    cr_assert(e->data[0] == 1 && e->data[1023] == 1 && e->data[1024] == 2 && e->data[2023] == 2);
    cr_assert(e->data[2024] == 3 && e->data[19999] == 3 && e->data[20000] == 4);
    cr_assert_eq(e->data[32767], 4);
    cr_assert_eq(GAPS(w), 0);
    cr_assert_eq(iscsi_counters(w.iscsi)->unknown_task, 0);
    iscsi_world_end(&w);
}

/* The whole of a session in pieces of every size gives the same. */
Test(iscsi_connection, delivered_in_pieces_of_any_size) {
    for (size_t cut = 1; cut < 200; cut += cut < 60 ? 1 : 17) {
        struct iscsi_world w;
        iscsi_world_make(&w);
        w.cut = cut;
        struct iscsi_link l = link_session(&w);
        link_write(&l, 5, 100, 4, 512, 1);
        link_data_out(&l, 5, 512, 1536, 2);
        link_response(&l, 5, GOOD);
        const struct recorded *e = recorded_update(w.recorder, 0);
        cr_assert(e->data[511] == 1 && e->data[512] == 2 && e->data_bytes == 2048, "%zu", cut);
        cr_assert_eq(GAPS(w), 0);
        iscsi_world_end(&w);
    }
}

Test(iscsi_connection, sense_decides) {
    struct iscsi_world w;
    iscsi_world_make(&w);
    struct iscsi_link l = link_session(&w);
    struct made_pdu *response = make_response(5, CHECK_CONDITION);
    response->data_bytes = 2 + 18;
    response->data[1] = 18;
    response->data[2] = 0x70;
    response->data[4] = 5;
    response->data[9] = 10;
    response->data[14] = 0x24;
    link_write(&l, 5, 100, 8, 4096, 1);
    link_send(&l, TO_INITIATOR, response);
    cr_assert_eq(GAPS(w), 0, "refused");
    response->data[4] = 3;
    link_write(&l, 5, 100, 8, 4096, 1);
    link_send(&l, TO_INITIATOR, response);
    expect_gap(w.recorder, 0, 100, 8, GAP_FAILED_WRITE);
    response->data_bytes = 0;
    link_write(&l, 5, 100, 8, 4096, 1);
    link_send(&l, TO_INITIATOR, response);
    expect_gap(w.recorder, 1, 100, 8, GAP_FAILED_WRITE);
    response->data_bytes = 20;
    response->data[1] = 200; /* longer than what came */
    response->data[4] = 5;
    link_write(&l, 5, 100, 8, 4096, 1);
    link_send(&l, TO_INITIATOR, response);
    cr_assert_eq(GAPS(w), 2, "what came of it is enough");
    response->data_bytes = 1;
    link_write(&l, 5, 100, 8, 4096, 1);
    link_send(&l, TO_INITIATOR, response);
    expect_gap(w.recorder, 2, 100, 8, GAP_FAILED_WRITE);
    free(response);
    cr_assert_eq(UPDATES(w), 0);
    iscsi_world_end(&w);
}

Test(iscsi_connection, a_response_of_target_failure_is_not_good) {
    struct iscsi_world w;
    iscsi_world_make(&w);
    struct iscsi_link l = link_session(&w);
    struct made_pdu *response = make_response(5, GOOD);
    response->head[2] = 1;
    link_write(&l, 5, 100, 8, 4096, 1);
    link_send(&l, TO_INITIATOR, response);
    free(response);
    cr_assert_eq(UPDATES(w), 0);
    expect_gap(w.recorder, 0, 100, 8, GAP_FAILED_WRITE);
    iscsi_world_end(&w);
}

Test(iscsi_connection, residual_is_passed_on) {
    struct iscsi_world w;
    iscsi_world_make(&w);
    struct iscsi_link l = link_session(&w);
    struct made_pdu *response = make_response(5, GOOD);
    response->head[1] |= 0x02;
    put_be(response->head + 44, 512, 4);
    link_write(&l, 5, 100, 8, 4096, 1);
    link_send(&l, TO_INITIATOR, response);
    free(response);
    expect_gap(w.recorder, 0, 100, 8, GAP_UNKNOWN_CONTENT);
    iscsi_world_end(&w);
}

/* WRITE(32): bytes 16 and on of the CDB are in an AHS. */
Test(iscsi_connection, extended_cdb) {
    struct iscsi_world w;
    iscsi_world_make(&w);
    struct iscsi_link l = link_session(&w);
    struct made_pdu *command = make_write(&l, 5, 0, 8, 4096, 7);
    uint8_t cdb[32] = {0x7f, 0, 0, 0, 0, 0, 0, 0x18, 0, 0x0b};
    put_be(cdb + 12, 100, 8);
    put_be(cdb + 28, 8, 4);
    memcpy(command->head + 32, cdb, 16);
    command->ahs_bytes = 20;
    command->ahs[1] = 17;
    command->ahs[2] = 1;
    memcpy(command->ahs + 4, cdb + 16, 16);
    link_send(&l, TO_TARGET, command);
    link_response(&l, 5, GOOD);
    cr_assert(recorded_update(w.recorder, 0)->lba == 100 &&
              recorded_update(w.recorder, 0)->blocks == 8);
    command->ahs[1] = 18; /* past its end */
    link_send(&l, TO_TARGET, command);
    cr_assert_eq(iscsi_counters(w.iscsi)->malformed, 1);
    expect_whole_gap(w.recorder, 0, GAP_MALFORMED);
    free(command);
    iscsi_world_end(&w);
}

Test(iscsi_connection, data_for_tasks_that_are_not_there) {
    struct iscsi_world w;
    iscsi_world_make(&w);
    struct iscsi_link l = link_session(&w);
    link_data_out(&l, 77, 0, 512, 1);
    cr_assert_eq(iscsi_counters(w.iscsi)->unknown_task, 1);
    cr_assert_eq(GAPS(w), 0, "it is in flight");
    link_response(&l, 77, GOOD);
    expect_whole_gap(w.recorder, 0, GAP_STREAM_HOLE);
    link_write(&l, 5, 100, 1, 512, 1);
    link_response(&l, 5, GOOD);
    cr_assert_eq(UPDATES(w), 1);
    cr_assert_eq(GAPS(w), 1);
    iscsi_world_end(&w);
}

Test(iscsi_connection, data_past_the_expected_length) {
    struct iscsi_world w;
    iscsi_world_make(&w);
    struct iscsi_link l = link_session(&w);
    link_write(&l, 5, 100, 1, 512, 1);
    link_data_out(&l, 5, 500, 1000, 2);
    link_data_out(&l, 5, UINT32_MAX, 1000, 3);
    link_response(&l, 5, GOOD);
    cr_assert_eq(recorded_update(w.recorder, 0)->data_bytes, 512);
    cr_assert(recorded_update(w.recorder, 0)->data[499] == 1 &&
              recorded_update(w.recorder, 0)->data[500] == 2);
    iscsi_world_end(&w);
}

/* A command whose status was given while its data still came. */
Test(iscsi_connection, status_in_the_middle_of_data) {
    struct iscsi_world w;
    iscsi_world_make(&w);
    struct iscsi_link l = link_session(&w);
    struct made_pdu *data = make_data_out(5, 0, 4096, 1);
    uint8_t bytes[8192];
    size_t count = made_pdu_bytes(&l, data, bytes);
    link_write(&l, 5, 100, 8, 0, 0);
    link_bytes(&l, TO_TARGET, bytes, 1000);
    link_response(&l, 5, CHECK_CONDITION);
    link_bytes(&l, TO_TARGET, bytes + 1000, count - 1000);
    expect_gap(w.recorder, 0, 100, 2, GAP_FAILED_WRITE);
    link_write(&l, 5, 100, 1, 512, 1);
    link_response(&l, 5, GOOD);
    cr_assert_eq(UPDATES(w), 1);
    free(data);
    iscsi_world_end(&w);
}

Test(iscsi_connection, a_tag_that_comes_again) {
    struct iscsi_world w;
    iscsi_world_make(&w);
    struct iscsi_link l = link_session(&w);
    link_write(&l, 5, 100, 8, 4096, 1);
    (*l.command_number)--; /* the same command again: RFC 7143 7.2.1 */
    link_write(&l, 5, 100, 8, 4096, 1);
    cr_assert_eq(GAPS(w), 0);
    link_write(&l, 5, 200, 8, 4096, 2); /* another: the status of the first was not seen */
    expect_gap(w.recorder, 0, 100, 8, GAP_STREAM_HOLE);
    link_response(&l, 5, GOOD);
    cr_assert_eq(UPDATES(w), 1);
    cr_assert_eq(recorded_update(w.recorder, 0)->lba, 200);
    iscsi_world_end(&w);
}

static struct iscsi_link digest_session(struct iscsi_world *w) {
    struct iscsi_link l = link_open(w, 3260, true);
    link_login(&l,
               "InitiatorName=iqn.a|TargetName=iqn.target|HeaderDigest=CRC32C|DataDigest=CRC32C",
               "HeaderDigest=CRC32C|DataDigest=CRC32C");
    l.header_digest = l.data_digest = true;
    link_capacity(&l, 1);
    return l;
}

Test(iscsi_connection, digests_hold_after_the_login) {
    struct iscsi_world w;
    iscsi_world_make(&w);
    struct iscsi_link l = digest_session(&w);
    link_write(&l, 5, 100, 1, 511, 1);
    link_data_out(&l, 5, 511, 1, 2);
    link_response(&l, 5, GOOD);
    cr_assert_eq(recorded_update(w.recorder, 0)->data[511], 2);
    cr_assert_eq(iscsi_counters(w.iscsi)->data_digest_errors, 0);
    iscsi_world_end(&w);
}

Test(iscsi_connection, broken_data_digest) {
    struct iscsi_world w;
    iscsi_world_make(&w);
    struct iscsi_link l = digest_session(&w);
    struct made_pdu *data = make_data_out(5, 512, 512, 2);
    data->break_data_digest = true;
    link_write(&l, 5, 100, 2, 512, 1);
    link_send(&l, TO_TARGET, data);
    link_data_out(&l, 5, 512, 512, 3);
    link_response(&l, 5, GOOD);
    cr_assert_eq(recorded_update(w.recorder, 0)->data[512], 3, "sent again");
    link_write(&l, 5, 100, 2, 512, 1);
    link_send(&l, TO_TARGET, data);
    link_response(&l, 5, GOOD);
    expect_gap(w.recorder, 0, 101, 1, GAP_BAD_DIGEST);
    cr_assert_eq(iscsi_counters(w.iscsi)->data_digest_errors, 2);
    free(data);
    iscsi_world_end(&w);
}

Test(iscsi_connection, broken_data_digest_of_an_answer_teaches_nothing) {
    struct iscsi_world w;
    iscsi_world_make(&w);
    struct iscsi_link l = digest_session(&w);
    size_t paths = recorded_count(w.recorder, RECORDED_PATH);
    struct made_pdu *ask = make_pdu(0x01, 9);
    ask->head[1] = 0xc1;
    put_be(ask->head + 8, UINT64_C(1) << 48, 8);
    put_be(ask->head + 20, 32, 4);
    ask->head[32] = 0x9e;
    ask->head[33] = 0x10;
    link_send(&l, TO_TARGET, ask);
    struct made_pdu *answer = make_pdu(0x25, 9);
    answer->head[1] = 0x81;
    answer->data_bytes = 32;
    put_be(answer->data, 99, 8);
    put_be(answer->data + 8, 4096, 4);
    answer->break_data_digest = true;
    link_send(&l, TO_INITIATOR, answer);
    cr_assert_eq(recorded_count(w.recorder, RECORDED_PATH), paths);
    free(ask);
    free(answer);
    iscsi_world_end(&w);
}

Test(iscsi_connection, broken_data_digest_of_sense_leaves_the_outcome_open) {
    struct iscsi_world w;
    iscsi_world_make(&w);
    struct iscsi_link l = digest_session(&w);
    struct made_pdu *response = make_response(5, CHECK_CONDITION);
    response->data_bytes = 2 + 18;
    response->data[1] = 18;
    response->data[2] = 0x70;
    response->data[4] = 5;
    response->data[9] = 10;
    response->data[14] = 0x24;
    response->break_data_digest = true;
    link_write(&l, 5, 100, 8, 4096, 1);
    link_send(&l, TO_INITIATOR, response);
    expect_gap(w.recorder, 0, 100, 8, GAP_FAILED_WRITE);
    free(response);
    iscsi_world_end(&w);
}

/* RFC 7143 7.8: the target saw a broken digest that we did not see. */
Test(iscsi_connection, rejected_data_is_forgotten) {
    struct iscsi_world w;
    iscsi_world_make(&w);
    struct iscsi_link l = digest_session(&w);
    struct made_pdu *reject = make_pdu(0x3f, UINT32_MAX);
    struct made_pdu *data = make_data_out(5, 512, 512, 2);
    reject->head[2] = 2;
    memcpy(reject->data, data->head, PDU_HEAD_BYTES);
    put_be(reject->data + 5, 512, 3);
    reject->data_bytes = PDU_HEAD_BYTES;
    link_write(&l, 5, 100, 2, 512, 1);
    link_send(&l, TO_TARGET, data);
    link_send(&l, TO_INITIATOR, reject);
    link_response(&l, 5, GOOD);
    expect_gap(w.recorder, 0, 101, 1, GAP_BAD_DIGEST);
    reject->data_bytes = PDU_HEAD_BYTES - 1;
    link_write(&l, 5, 100, 2, 512, 1);
    link_send(&l, TO_TARGET, data);
    link_send(&l, TO_INITIATOR, reject);
    link_response(&l, 5, GOOD);
    cr_assert_eq(GAPS(w), 1, "a header cut short names no data");
    free(data);
    free(reject);
    iscsi_world_end(&w);
}

Test(iscsi_connection, broken_header_digest_loses_the_place) {
    struct iscsi_world w;
    iscsi_world_make(&w);
    struct iscsi_link l = digest_session(&w);
    struct made_pdu *response = make_response(5, GOOD);
    response->break_header_digest = true;
    link_write(&l, 5, 100, 1, 512, 1);
    link_send(&l, TO_INITIATOR, response);
    free(response);
    cr_assert_eq(iscsi_counters(w.iscsi)->header_digest_errors, 1);
    cr_assert_eq(iscsi_counters(w.iscsi)->lost_synchronisation, 1);
    cr_assert_eq(GAPS(w), 0, "what was lost shows when the place is found");
    link_write(&l, 6, 200, 1, 512, 1);
    link_response(&l, 6, GOOD);
    expect_gap(w.recorder, 0, 100, 1, GAP_STREAM_HOLE);
    cr_assert_eq(UPDATES(w), 1);
    cr_assert_eq(GAPS(w), 2, "the second was open as well, and its status then came");
    iscsi_world_end(&w);
}

Test(iscsi_connection, hole_within_data) {
    struct iscsi_world w;
    iscsi_world_make(&w);
    struct iscsi_link l = link_session(&w);
    struct made_pdu *command = make_write(&l, 5, 100, 8, 4096, 1);
    uint8_t bytes[8192];
    size_t count = made_pdu_bytes(&l, command, bytes);
    link_bytes(&l, TO_TARGET, bytes, PDU_HEAD_BYTES + 600);
    link_hole(&l, TO_TARGET, 500);
    link_bytes(&l, TO_TARGET, bytes + PDU_HEAD_BYTES + 1100, count - PDU_HEAD_BYTES - 1100);
    link_response(&l, 5, GOOD);
    cr_assert_eq(UPDATES(w), 2);
    cr_assert_eq(GAPS(w), 1);
    expect_gap(w.recorder, 0, 101, 2, GAP_STREAM_HOLE);
    link_write(&l, 6, 100, 8, 4096, 1);
    link_response(&l, 6, GOOD);
    cr_assert_eq(UPDATES(w), 3, "the place is known");
    free(command);
    iscsi_world_end(&w);
}

/* What the device got in a hole counts as moved when the command fails. */
Test(iscsi_connection, hole_within_data_of_a_failing_command) {
    struct iscsi_world w;
    iscsi_world_make(&w);
    struct iscsi_link l = link_session(&w);
    struct made_pdu *command = make_write(&l, 5, 100, 8, 4096, 1);
    uint8_t bytes[8192];
    made_pdu_bytes(&l, command, bytes);
    link_bytes(&l, TO_TARGET, bytes, PDU_HEAD_BYTES);
    link_hole(&l, TO_TARGET, 4096);
    link_response(&l, 5, CHECK_CONDITION);
    expect_gap(w.recorder, 0, 100, 8, GAP_FAILED_WRITE);
    free(command);
    iscsi_world_end(&w);
}

Test(iscsi_connection, hole_in_an_answer_teaches_nothing) {
    struct iscsi_world w;
    iscsi_world_make(&w);
    struct iscsi_link l = link_session(&w);
    size_t paths = recorded_count(w.recorder, RECORDED_PATH);
    struct made_pdu *ask = make_pdu(0x01, 9);
    ask->head[1] = 0xc1;
    put_be(ask->head + 8, UINT64_C(1) << 48, 8);
    put_be(ask->head + 20, 32, 4);
    ask->head[32] = 0x9e;
    ask->head[33] = 0x10;
    link_send(&l, TO_TARGET, ask);
    uint8_t answer[PDU_HEAD_BYTES + 32] = {0x25, 0x81, 0, 0, 0, 0, 0, 32};
    put_be(answer + 16, 9, 4);
    link_bytes(&l, TO_INITIATOR, answer, PDU_HEAD_BYTES + 4);
    link_hole(&l, TO_INITIATOR, 4);
    link_bytes(&l, TO_INITIATOR, answer + PDU_HEAD_BYTES + 8, 24);
    cr_assert_eq(recorded_count(w.recorder, RECORDED_PATH), paths);
    cr_assert_eq(GAPS(w), 0);
    free(ask);
    iscsi_world_end(&w);
}

Test(iscsi_connection, unknown_opcode_loses_the_place) {
    struct iscsi_world w;
    iscsi_world_make(&w);
    struct iscsi_link l = link_session(&w);
    struct made_pdu *pdu = make_pdu(0x1d, 5);
    link_send(&l, TO_TARGET, pdu);
    cr_assert_eq(GAPS(w), 0, "a vendor's own");
    pdu->head[0] = 0x07;
    link_send(&l, TO_TARGET, pdu);
    expect_whole_gap(w.recorder, 0, GAP_MALFORMED);
    cr_assert_eq(iscsi_counters(w.iscsi)->lost_synchronisation, 1);
    free(pdu);
    iscsi_world_end(&w);
}

/* A data segment length of 16 MiB takes no memory, and no time before the bytes come. */
Test(iscsi_connection, huge_data_segments) {
    struct iscsi_world w;
    iscsi_world_make(&w);
    struct iscsi_link l = link_session(&w);
    struct made_pdu *command = make_write(&l, 5, 100, 1, 0, 0);
    uint8_t bytes[PDU_HEAD_BYTES];
    memcpy(bytes, command->head, sizeof bytes);
    put_be(bytes + 5, 0xffffff, 3);
    put_be(bytes + 20, UINT32_MAX, 4);
    link_bytes(&l, TO_TARGET, bytes, sizeof bytes);
    uint8_t data[4096] = {0};
    for (int i = 0; i < 4096; i++)
        link_bytes(&l, TO_TARGET, data, sizeof data);
    link_response(&l, 5, GOOD);
    expect_gap(w.recorder, 0, 100, 1, GAP_UNKNOWN_CONTENT);
    free(command);
    iscsi_world_end(&w);
}
