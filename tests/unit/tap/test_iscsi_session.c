/* How sessions begin, go on over several connections, and end. */
#include "iscsi_world.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static const char names[] = "InitiatorName=iqn.a|TargetName=iqn.target|SessionType=Normal";

static struct iscsi_link login_as(struct iscsi_world *w, uint64_t isid, uint16_t tsih, uint16_t id,
                                  const char *more) {
    char text[512];
    struct iscsi_link l = link_open(w, 3260, true);
    l.isid = isid;
    l.tsih = tsih;
    l.id = id;
    snprintf(text, sizeof text, "%s|%s", names, more);
    link_login(&l, text, "TargetPortalGroupTag=1");
    return l;
}

Test(iscsi_session, login_over_several_pdus) {
    struct iscsi_world w;
    iscsi_world_make(&w);
    struct iscsi_link l = link_open(&w, 3260, true);
    struct made_pdu *part = make_login(&l, true, false, "InitiatorName=iqn.a|TargetNa");
    part->head[1] = 0x44; /* C bit */
    part->data_bytes--;   /* the key goes on: no NUL */
    link_send(&l, TO_TARGET, part);
    free(part);
    part = make_login(&l, false, false, "");
    link_send(&l, TO_INITIATOR, part);
    free(part);
    part = make_login(&l, true, true, "me=iqn.target|HeaderDigest=CRC32C");
    link_send(&l, TO_TARGET, part);
    free(part);
    part = make_login(&l, false, true, "HeaderDigest=CRC32C");
    link_send(&l, TO_INITIATOR, part);
    free(part);
    l.header_digest = true;
    link_capacity(&l, 1);
    link_write(&l, 5, 100, 1, 512, 1);
    link_response(&l, 5, 0);
    cr_assert_eq(UPDATES(w), 1);
    cr_assert_eq(iscsi_counters(w.iscsi)->logins, 1);
    iscsi_world_end(&w);
}

Test(iscsi_session, discovery_is_of_no_interest) {
    struct iscsi_world w;
    iscsi_world_make(&w);
    struct iscsi_link l = link_open(&w, 3260, true);
    link_login(&l, "InitiatorName=iqn.a|SessionType=Discovery", "");
    cr_assert_null(l.connection);
    cr_assert_eq(iscsi_counters(w.iscsi)->logins, 1);
    cr_assert_eq(GAPS(w), 0);
    iscsi_world_end(&w);
}

Test(iscsi_session, login_that_is_refused) {
    struct iscsi_world w;
    iscsi_world_make(&w);
    struct iscsi_link l = link_open(&w, 3260, true);
    struct made_pdu *request = make_login(&l, true, true, names);
    struct made_pdu *response = make_login(&l, false, true, "");
    response->head[36] = 2;
    link_send(&l, TO_TARGET, request);
    link_send(&l, TO_INITIATOR, response);
    cr_assert_null(l.connection);
    cr_assert_eq(GAPS(w), 0);
    free(request);
    free(response);
    iscsi_world_end(&w);
}

Test(iscsi_session, login_that_is_answered_before_it_ended) {
    struct iscsi_world w;
    iscsi_world_make(&w);
    struct iscsi_link known = link_session(&w);
    struct iscsi_link l = link_open(&w, 3260, true);
    struct made_pdu *request = make_login(&l, true, true, names);
    struct made_pdu *response = make_login(&l, false, true, "");
    uint8_t bytes[1024];
    size_t count = made_pdu_bytes(&l, request, bytes);
    link_bytes(&l, TO_TARGET, bytes, PDU_HEAD_BYTES + 10);
    link_send(&l, TO_INITIATOR, response);
    link_bytes(&l, TO_TARGET, bytes + PDU_HEAD_BYTES + 10, count - PDU_HEAD_BYTES - 10);
    expect_whole_gap(w.recorder, 0, GAP_MALFORMED);
    free(request);
    free(response);
    link_close(&known, TCP_END_FIN);
    iscsi_world_end(&w);
}

Test(iscsi_session, login_on_any_port) {
    struct iscsi_world w;
    iscsi_world_make(&w);
    struct iscsi_link l = link_open(&w, 5555, true);
    link_login(&l, names, "");
    link_write(&l, 5, 100, 1, 512, 1);
    link_response(&l, 5, 0);
    cr_assert_eq(UPDATES(w), 1);
    iscsi_world_end(&w);
}

Test(iscsi_session, other_protocols_are_dropped_at_once) {
    static const struct {
        int direction;
        const char *bytes;
        size_t count;
    } others[] = {
        {TO_TARGET, "GET / HTTP/1.1\r\n", 16},
        {TO_TARGET, "\x16\x03\x01\x02\x00", 5},
        {TO_INITIATOR, "SSH-2.0-x\r\n", 11},
        {TO_TARGET,
         "\x03\x00\x00\x13\x0e\xe0\x00\x00\x00\x00\x00\x01\x00\x08\x00\x03\x00\x00\x00"
         "\x03\x00\x00\x13\x0e\xe0\x00\x00\x00\x00\x00\x01\x00\x08\x00\x03\x00\x00\x00"
         "\x03\x00\x00\x13\x0e\xe0\x00\x00\x00\x00",
         48}, /* RDP begins like a login */
        {TO_TARGET, "CONNECT host.example.org:443 HTTP/1.1\r\nHost: host", 50},
    };
    struct iscsi_world w;
    iscsi_world_make(&w);
    struct iscsi_link session = link_session(&w);
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        struct iscsi_link l = link_open(&w, 8080, true);
        link_bytes(&l, others[i].direction, others[i].bytes, others[i].count);
        cr_expect_null(l.connection, "%zu", i);
        l = link_open(&w, 3260, true);
        link_bytes(&l, others[i].direction, others[i].bytes, others[i].count);
        cr_expect_null(l.connection, "%zu on the port of iSCSI", i);
        l = link_open(&w, 8080, false);
        for (size_t bytes = 0; bytes < (9u << 20) && l.connection != NULL; bytes += others[i].count)
            link_bytes(&l, others[i].direction, others[i].bytes, others[i].count);
        cr_expect_null(l.connection, "%zu joined in the middle", i);
    }
    cr_assert_eq(iscsi_oldest_pending(w.iscsi), UINT64_MAX);
    cr_assert_eq(GAPS(w), 0);
    cr_assert_eq(iscsi_counters(w.iscsi)->late_joins, 0);
    link_close(&session, TCP_END_FIN);
    iscsi_world_end(&w);
}

Test(iscsi_session, login_with_a_syn_that_was_lost) {
    struct iscsi_world w;
    iscsi_world_make(&w);
    struct iscsi_link l = link_open(&w, 3260, false);
    link_login(&l, names, "");
    link_write(&l, 5, 100, 1, 512, 1);
    link_response(&l, 5, 0);
    cr_assert_eq(UPDATES(w), 1);
    cr_assert_eq(GAPS(w), 0);
    iscsi_world_end(&w);
}

Test(iscsi_session, connection_that_ends_with_a_write_in_flight) {
    static const enum tcp_end ends[] = {TCP_END_FIN, TCP_END_RESET, TCP_END_REPLACED};
    for (size_t i = 0; i < 3; i++) {
        struct iscsi_world w;
        iscsi_world_make(&w);
        struct iscsi_link l = link_session(&w);
        link_write(&l, 5, 100, 8, 1024, 1);
        link_write(&l, 6, 200, 8, 0, 1);
        link_close(&l, ends[i]);
        cr_assert_eq(GAPS(w), 1, "the second had no data");
        expect_gap(w.recorder, 0, 100, 2, GAP_NEXUS_LOST);
        iscsi_world_end(&w);
    }
}

Test(iscsi_session, monitor_that_ends_with_a_write_in_flight) {
    struct iscsi_world w;
    iscsi_world_make(&w);
    struct iscsi_link l = link_session(&w);
    link_write(&l, 5, 100, 8, 4096, 1);
    link_close(&l, TCP_END_SHUTDOWN);
    cr_assert_eq(GAPS(w), 0);
    iscsi_world_end(&w);
}

Test(iscsi_session, connection_that_had_to_give_way) {
    struct iscsi_world w;
    iscsi_world_make(&w);
    struct iscsi_link l = link_session(&w);
    link_write(&l, 5, 100, 8, 4096, 1);
    link_close(&l, TCP_END_EVICTED);
    expect_gap(w.recorder, 0, 100, 8, GAP_OVERFLOW);
    iscsi_world_end(&w);
}

/* RFC 7143 6.3.5 */
Test(iscsi_session, reinstatement_ends_the_old_session) {
    struct iscsi_world w;
    iscsi_world_make(&w);
    struct iscsi_link old = link_session(&w);
    link_write(&old, 5, 100, 8, 4096, 1);
    struct iscsi_link other = login_as(&w, 0x9999, 0, 1, "");
    cr_assert_eq(GAPS(w), 0, "another ISID is another session");
    struct iscsi_link renewed = login_as(&w, old.isid, 0, 1, "");
    expect_gap(w.recorder, 0, 100, 8, GAP_NEXUS_LOST);
    link_response(&old, 5, 0);
    cr_assert_eq(UPDATES(w), 0, "that task is over");
    link_write(&renewed, 5, 100, 8, 4096, 1);
    link_response(&renewed, 5, 0);
    cr_assert_eq(UPDATES(w), 1);
    link_close(&old, TCP_END_RESET);
    link_write(&renewed, 6, 100, 8, 4096, 1);
    link_response(&renewed, 6, 0);
    cr_assert_eq(UPDATES(w), 2, "the end of the old connection is not that of the new session");
    link_close(&other, TCP_END_FIN);
    iscsi_world_end(&w);
}

Test(iscsi_session, several_connections_are_one_session) {
    struct iscsi_world w;
    iscsi_world_make(&w);
    struct iscsi_link a = link_session(&w);
    struct iscsi_link b = login_as(&w, a.isid, 3, 2, "");
    link_write(&a, 5, 100, 8, 4096, 1);
    link_write(&b, 6, 200, 8, 4096, 2);
    link_data_out(&b, 5, 0, 512, 9); /* not on the connection of its command */
    link_response(&b, 6, 0);
    link_response(&a, 5, 0);
    cr_assert_eq(UPDATES(w), 2);
    cr_assert_eq(recorded_at(w.recorder, RECORDED_UPDATE, 1)->data[0], 1);
    link_write(&a, 5, 100, 8, 4096, 1);
    link_write(&b, 6, 200, 8, 4096, 2);
    link_close(&b, TCP_END_RESET);
    expect_gap(w.recorder, 0, 200, 8, GAP_NEXUS_LOST);
    link_response(&a, 5, 0);
    cr_assert_eq(UPDATES(w), 3);
    struct iscsi_link again = login_as(&w, a.isid, 3, 1, "");
    cr_assert_eq(GAPS(w), 1);
    link_write(&a, 5, 100, 8, 4096, 1);
    struct iscsi_link third = login_as(&w, a.isid, 3, 1, ""); /* takes the place of both */
    expect_gap(w.recorder, 1, 100, 8, GAP_NEXUS_LOST);
    link_close(&again, TCP_END_FIN);
    link_close(&third, TCP_END_FIN);
    iscsi_world_end(&w);
}

/* Overlapping writes on two connections: ORDERED proves nothing of their order. */
Test(iscsi_session, order_over_several_connections_is_not_proven) {
    struct iscsi_world w;
    iscsi_world_make(&w);
    struct iscsi_link a = link_session(&w);
    struct made_pdu *first = make_write(&a, 5, 100, 8, 4096, 1);
    struct made_pdu *second = make_write(&a, 6, 100, 8, 4096, 2);
    second->head[1] = 0xa2; /* ORDERED */
    link_send(&a, TO_TARGET, first);
    link_send(&a, TO_TARGET, second);
    link_response(&a, 5, 0);
    link_response(&a, 6, 0);
    cr_assert_eq(GAPS(w), 0);
    struct iscsi_link b = login_as(&w, a.isid, 3, 2, "");
    link_send(&a, TO_TARGET, first);
    link_send(&b, TO_TARGET, second);
    link_response(&a, 5, 0);
    link_response(&b, 6, 0);
    expect_gap(w.recorder, 0, 100, 8, GAP_OVERLAP);
    free(first);
    free(second);
    iscsi_world_end(&w);
}

Test(iscsi_session, reassigned_task_goes_on_elsewhere) {
    struct iscsi_world w;
    iscsi_world_make(&w);
    struct iscsi_link a = link_open(&w, 3260, true);
    link_login(&a, "InitiatorName=iqn.a|TargetName=iqn.target|ErrorRecoveryLevel=2",
               "ErrorRecoveryLevel=2");
    link_capacity(&a, 1);
    struct iscsi_link b = link_open(&w, 3260, true);
    b.tsih = 3;
    b.id = 2;
    link_login(&b, "InitiatorName=iqn.a|TargetName=iqn.target|ErrorRecoveryLevel=2",
               "ErrorRecoveryLevel=2");
    link_write(&a, 5, 100, 2, 512, 1);
    link_close(&a, TCP_END_RESET);
    cr_assert_eq(GAPS(w), 0);
    link_task_function(&b, 8, 8, 5, 0);
    link_data_out(&b, 5, 512, 512, 2);
    link_response(&b, 5, 0);
    cr_assert_eq(UPDATES(w), 1);
    cr_assert_eq(recorded_at(w.recorder, RECORDED_UPDATE, 0)->data[512], 2);
    link_write(&b, 5, 100, 2, 0, 1);
    link_close(&b, TCP_END_RESET);
    expect_gap(w.recorder, 0, 100, 2,
               GAP_NEXUS_LOST); /* its data may move on a connection to come */
    iscsi_world_end(&w);
}

Test(iscsi_session, abort_task) {
    struct iscsi_world w;
    iscsi_world_make(&w);
    struct iscsi_link l = link_session(&w);
    link_write(&l, 5, 100, 8, 4096, 1);
    link_write(&l, 6, 200, 8, 4096, 1);
    link_task_function(&l, 7, 1, 5, 255); /* rejected */
    cr_assert_eq(GAPS(w), 0);
    link_task_function(&l, 7, 1, 5, 0);
    expect_gap(w.recorder, 0, 100, 8, GAP_ABORTED);
    link_task_function(&l, 7, 1, 6, 1); /* the target does not know it */
    expect_gap(w.recorder, 1, 200, 8, GAP_ABORTED);
    link_task_function(&l, 7, 1, 99, 0);
    cr_assert_eq(GAPS(w), 2);
    iscsi_world_end(&w);
}

Test(iscsi_session, reset_ends_the_tasks_of_all_sessions) {
    struct iscsi_world w;
    iscsi_world_make(&w);
    struct iscsi_link a = link_session(&w);
    struct iscsi_link b = login_as(&w, 0x7777, 0, 1, "");
    struct iscsi_link c = link_open(&w, 3260, true);
    c.isid = 0x7778;
    link_login(&c, "InitiatorName=iqn.a|TargetName=iqn.other", "");
    link_capacity(&c, 1);
    link_write(&a, 5, 100, 8, 4096, 1);
    link_write(&b, 5, 200, 8, 4096, 1);
    link_write(&c, 5, 300, 8, 4096, 1);
    link_task_function(&a, 9, 2, 0, 0); /* ABORT TASK SET: its own */
    cr_assert_eq(GAPS(w), 1);
    expect_gap(w.recorder, 0, 100, 8, GAP_ABORTED);
    link_task_function(&a, 9, 5, 0, 0); /* LOGICAL UNIT RESET */
    cr_assert_eq(GAPS(w), 2);
    expect_gap(w.recorder, 1, 200, 8, GAP_ABORTED);
    link_response(&c, 5, 0);
    cr_assert_eq(UPDATES(w), 1, "another target");
    link_write(&b, 5, 200, 8, 4096, 1);
    link_task_function(&a, 9, 7, 0, 0); /* TARGET COLD RESET */
    cr_assert_eq(GAPS(w), 3);
    iscsi_world_end(&w);
}

Test(iscsi_session, logout_with_tasks_open) {
    struct iscsi_world w;
    iscsi_world_make(&w);
    struct iscsi_link l = link_session(&w);
    struct made_pdu *request = make_pdu(0x46, 9);
    struct made_pdu *response = make_pdu(0x26, 9);
    link_write(&l, 5, 100, 8, 4096, 1);
    request->head[1] = 0x81; /* close a connection */
    put_be(request->head + 20, 7, 2);
    link_send(&l, TO_TARGET, request);
    link_send(&l, TO_INITIATOR, response);
    cr_assert_eq(GAPS(w), 0, "another connection");
    put_be(request->head + 20, l.id, 2);
    link_send(&l, TO_TARGET, request);
    link_send(&l, TO_INITIATOR, response);
    expect_gap(w.recorder, 0, 100, 8, GAP_NEXUS_LOST);
    link_write(&l, 5, 100, 8, 4096, 1);
    request->head[1] = 0x80;
    link_send(&l, TO_TARGET, request);
    link_send(&l, TO_INITIATOR, response);
    expect_gap(w.recorder, 1, 100, 8, GAP_NEXUS_LOST);
    free(request);
    free(response);
    iscsi_world_end(&w);
}

Test(iscsi_session, options_that_cannot_be_followed_are_said) {
    struct iscsi_world w;
    iscsi_world_make(&w);
    struct iscsi_link l = link_session(&w);
    struct iscsi_link other = link_open(&w, 3260, true);
    other.isid = 5;
    link_login(&other, "InitiatorName=iqn.a|TargetName=iqn.target|OFMarker=Yes", "OFMarker=Yes");
    expect_whole_gap(w.recorder, 0, GAP_MALFORMED);
    cr_assert_not_null(other.connection);
    link_close(&l, TCP_END_FIN);
    iscsi_world_end(&w);
}

Test(iscsi_session, connections_have_a_limit) {
    enum { MORE_THAN_FOLLOWED = 16384 + 10 };
    struct iscsi_world w;
    iscsi_world_make(&w);
    struct iscsi_link l = link_session(&w);
    static struct iscsi_link crowd[MORE_THAN_FOLLOWED];
    for (size_t i = 0; i < MORE_THAN_FOLLOWED; i++)
        crowd[i] = link_open(&w, 3260, true);
    cr_assert_eq(GAPS(w), 0);
    struct iscsi_link *last = &crowd[MORE_THAN_FOLLOWED - 1];
    link_bytes(last, TO_TARGET, "x", 1);
    expect_whole_gap(w.recorder, 0, GAP_OVERFLOW);
    cr_assert_not_null(last->connection);
    for (size_t i = 0; i < MORE_THAN_FOLLOWED; i++)
        link_close(&crowd[i], TCP_END_FIN);
    link_write(&l, 5, 100, 8, 4096, 1);
    link_response(&l, 5, 0);
    cr_assert_eq(UPDATES(w), 1);
    iscsi_world_end(&w);
}
