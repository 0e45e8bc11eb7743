/* Connections joined in the middle, and behind holes: where PDUs begin, and what was missed. */
#include "iscsi_world.h"

#include "common/clock.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

enum { GOOD = 0, CHECK_CONDITION = 2 };

/* A session that goes on, of which nothing was seen before. */
static struct iscsi_link late_session(struct iscsi_world *w, bool header_digest, bool data_digest) {
    struct iscsi_link l = link_open(w, 3260, false);
    l.isid = 0x5005;
    l.header_digest = header_digest;
    l.data_digest = data_digest;
    return l;
}

static void nop(struct iscsi_link *l, uint32_t tag) {
    struct made_pdu *pdu = make_pdu(0x40, tag);
    link_send(l, TO_TARGET, pdu);
    free(pdu);
    pdu = make_pdu(0x20, tag);
    link_send(l, TO_INITIATOR, pdu);
    free(pdu);
}

static void chat(struct iscsi_link *l) {
    for (uint32_t tag = 0x900; tag < 0x904; tag++)
        nop(l, tag);
}

static void let_time_pass(struct iscsi_world *w, uint64_t more_ns) {
    w->now_ns += more_ns;
    iscsi_tick(w->iscsi, w->now_ns);
}

Test(iscsi_search, late_session_with_any_digests) {
    for (int digests = 0; digests < 4; digests++) {
        struct iscsi_world w;
        iscsi_world_make(&w);
        struct iscsi_link l = late_session(&w, digests & 1, digests & 2);
        for (uint32_t i = 0; i < 6; i++) {
            link_write(&l, 5 + i, 100 * i, 3, 1536, (uint8_t)i);
            link_response(&l, 5 + i, GOOD);
        }
        chat(&l);
        cr_assert_eq(UPDATES(w), 6, "digests %d: %zu", digests, UPDATES(w));
        cr_assert_eq(GAPS(w), 0);
        const struct recorded *e = recorded_update(w.recorder, 5);
        cr_assert(e->lba == 500 && e->data[1535] == 5);
        const struct recorded *path = recorded_at(w.recorder, RECORDED_PATH, 0);
        cr_assert(path->known.provisional);
        cr_assert_str_eq(path->known.target, "portal-0.0.0.0:3260,0.0.0.0:40000");
        cr_assert_eq(iscsi_oldest_pending(w.iscsi), UINT64_MAX);
        iscsi_world_end(&w);
    }
}

/* Whether data has a digest is not known before there is some. */
Test(iscsi_search, digest_of_data_that_comes_late) {
    for (int digests = 0; digests < 4; digests++) {
        struct iscsi_world w;
        iscsi_world_make(&w);
        struct iscsi_link l = late_session(&w, digests & 1, digests & 2);
        chat(&l);
        chat(&l);
        link_write(&l, 5, 100, 3, 1536, 7);
        link_response(&l, 5, GOOD);
        chat(&l);
        let_time_pass(&w, 4 * NS_PER_SECOND);
        cr_assert_eq(UPDATES(w), 1, "digests %d", digests);
        cr_assert_eq(GAPS(w), 0, "digests %d", digests);
        link_write(&l, 6, 100, 3, 1536, 8);
        link_response(&l, 6, GOOD);
        cr_assert_eq(UPDATES(w), 2, "digests %d", digests);
        cr_assert_eq(GAPS(w), 0);
        iscsi_world_end(&w);
    }
}

/* Any number of bytes of the first PDU may be missing. */
Test(iscsi_search, joined_within_a_pdu) {
    struct made_pdu *command = NULL;
    static uint8_t bytes[8192];
    for (size_t cut = 1; cut < 1000; cut += 13) {
        struct iscsi_world w;
        iscsi_world_make(&w);
        struct iscsi_link l = late_session(&w, false, false);
        command = make_write(&l, 5, 100, 3, 1536, 7);
        size_t count = made_pdu_bytes(&l, command, bytes);
        link_bytes(&l, TO_TARGET, bytes + cut, count - cut);
        free(command);
        for (uint32_t i = 6; i < 12; i++) {
            link_write(&l, i, 100 * i, 1, 512, (uint8_t)i);
            link_response(&l, i, GOOD);
        }
        chat(&l);
        cr_assert_eq(UPDATES(w), 6, "cut %zu", cut);
        cr_assert_eq(GAPS(w), 0);
        link_response(&l, 5, GOOD); /* that of the command that was cut */
        expect_whole_gap(w.recorder, 0, GAP_STREAM_HOLE);
        iscsi_world_end(&w);
    }
}

/* What was refused changed nothing, whatever it was; what brought data is a READ. */
Test(iscsi_search, commands_from_before_that_cannot_have_written) {
    struct iscsi_world w;
    iscsi_world_make(&w);
    struct iscsi_link l = late_session(&w, false, false);
    struct made_pdu *data = make_pdu(0x25, 70);
    data->head[1] = 0;
    data->data_bytes = 512;
    link_write(&l, 5, 100, 1, 512, 1);
    chat(&l);
    link_response(&l, 5, GOOD);
    link_send(&l, TO_INITIATOR, data);
    link_response(&l, 70, GOOD);
    link_response(&l, 71, 0x08);
    chat(&l);
    cr_assert_eq(UPDATES(w), 1);
    cr_assert_eq(GAPS(w), 0);
    link_response(&l, 72, GOOD);
    cr_assert_eq(GAPS(w), 1);
    free(data);
    iscsi_world_end(&w);
}

Test(iscsi_search, hole_that_hides_a_header_but_no_command) {
    struct iscsi_world w;
    iscsi_world_make(&w);
    struct iscsi_link l = link_session(&w);
    struct made_pdu *data = make_data_out(5, 512, 512, 2);
    link_write(&l, 5, 100, 4, 512, 1);
    link_send_unseen(&l, TO_TARGET, data);
    free(data);
    data = make_data_out(5, 1024, 1024, 3);
    link_send(&l, TO_TARGET, data);
    free(data);
    chat(&l);
    link_response(&l, 5, GOOD);
    chat(&l);
    cr_assert_eq(UPDATES(w), 2, "what is there of it");
    expect_gap(w.recorder, 0, 101, 1, GAP_STREAM_HOLE);
    cr_assert_eq(GAPS(w), 1);
    cr_assert_eq(iscsi_counters(w.iscsi)->lost_synchronisation, 1);
    iscsi_world_end(&w);
}

Test(iscsi_search, hole_that_hides_a_command) {
    struct iscsi_world w;
    iscsi_world_make(&w);
    struct iscsi_link l = link_session(&w);
    struct made_pdu *hidden = make_write(&l, 5, 100, 1, 512, 1);
    link_send_unseen(&l, TO_TARGET, hidden);
    free(hidden);
    chat(&l);
    link_write(&l, 6, 200, 1, 512, 1);
    link_response(&l, 6, GOOD);
    cr_assert_eq(UPDATES(w), 1);
    cr_assert_eq(GAPS(w), 0, "it is in flight");
    link_response(&l, 5, GOOD);
    expect_whole_gap(w.recorder, 0, GAP_STREAM_HOLE);
    link_write(&l, 7, 200, 1, 512, 1);
    link_response(&l, 7, GOOD);
    cr_assert_eq(GAPS(w), 1);
    link_close(&l, TCP_END_FIN);
    cr_assert_eq(GAPS(w), 1, "none is in flight");
    iscsi_world_end(&w);
}

Test(iscsi_search, session_that_ends_with_a_hidden_command_in_flight) {
    struct iscsi_world w;
    iscsi_world_make(&w);
    struct iscsi_link l = link_session(&w);
    struct made_pdu *hidden = make_write(&l, 5, 100, 1, 512, 1);
    link_send_unseen(&l, TO_TARGET, hidden);
    free(hidden);
    chat(&l);
    link_close(&l, TCP_END_RESET);
    expect_whole_gap(w.recorder, 0, GAP_NEXUS_LOST);
    iscsi_world_end(&w);
}

Test(iscsi_search, hole_that_hides_a_status) {
    struct iscsi_world w;
    iscsi_world_make(&w);
    struct iscsi_link l = link_session(&w);
    struct made_pdu *hidden = make_response(5, GOOD);
    link_write(&l, 4, 50, 1, 512, 1);
    link_write(&l, 5, 100, 1, 512, 1);
    link_send_unseen(&l, TO_INITIATOR, hidden);
    chat(&l);
    cr_assert_eq(GAPS(w), 2, "one of them ended, and nobody knows which");
    expect_gap(w.recorder, 0, 50, 1, GAP_STREAM_HOLE);
    expect_gap(w.recorder, 1, 100, 1, GAP_STREAM_HOLE);
    link_response(&l, 4, GOOD);
    cr_assert_eq(UPDATES(w), 1, "which ends that gap");
    link_write(&l, 5, 100, 1, 512, 2);
    link_response(&l, 5, GOOD);
    cr_assert_eq(UPDATES(w), 2);
    cr_assert_eq(GAPS(w), 2, "the tag came again: it is the other one that ended");
    free(hidden);
    iscsi_world_end(&w);
}

/* Data-In takes no status number, and R2T none at all. */
Test(iscsi_search, hole_that_hides_no_status) {
    struct iscsi_world w;
    iscsi_world_make(&w);
    struct iscsi_link l = link_session(&w);
    struct made_pdu *hidden = make_pdu(0x31, 5);
    link_write(&l, 5, 100, 1, 512, 1);
    link_send_unseen(&l, TO_INITIATOR, hidden);
    chat(&l);
    link_response(&l, 5, GOOD);
    chat(&l);
    cr_assert_eq(UPDATES(w), 1);
    cr_assert_eq(GAPS(w), 0);
    free(hidden);
    iscsi_world_end(&w);
}

/* Promises wait while it is not decided what was lost, but not for ever. */
Test(iscsi_search, nothing_comes_behind_the_hole) {
    for (int direction = 0; direction < 2; direction++) {
        struct iscsi_world w;
        iscsi_world_make(&w);
        w.now_ns = 100 * NS_PER_SECOND;
        struct iscsi_link l = link_session(&w);
        link_write(&l, 5, 100, 1, 512, 1);
        iscsi_tick(w.iscsi, w.now_ns);
        link_hole(&l, direction, 148);
        cr_assert(iscsi_oldest_pending(w.iscsi) <= w.now_ns);
        let_time_pass(&w, 4 * NS_PER_SECOND);
        cr_assert_eq(GAPS(w), direction == TO_INITIATOR ? 1 : 0);
        cr_assert(iscsi_oldest_pending(w.iscsi) > 100 * NS_PER_SECOND + NS_PER_SECOND);
        chat(&l);
        cr_assert_eq(iscsi_oldest_pending(w.iscsi), UINT64_MAX);
        iscsi_world_end(&w);
    }
}

/* PDUs begin at multiples of four bytes of the stream, wherever segments do. */
Test(iscsi_search, place_lost_in_the_middle_of_a_segment) {
    for (size_t cut = 1; cut < 100; cut++) {
        struct iscsi_world w;
        iscsi_world_make(&w);
        struct iscsi_link l = link_session(&w);
        struct made_pdu *nonsense = make_pdu(0x07, 5);
        nonsense->data_bytes = 96;
        w.cut = cut;
        link_send(&l, TO_TARGET, nonsense);
        cr_assert_eq(iscsi_counters(w.iscsi)->malformed, 1);
        cr_assert_eq(GAPS(w), 1);
        chat(&l);
        link_write(&l, 6, 100, 1, 512, 1);
        link_response(&l, 6, GOOD);
        cr_assert_eq(UPDATES(w), 1, "cut %zu", cut);
        cr_assert_eq(iscsi_oldest_pending(w.iscsi), UINT64_MAX);
        free(nonsense);
        iscsi_world_end(&w);
    }
}

/* Nothing on it can be read: every volume of the target is in doubt for as long as it goes on. */
Test(iscsi_search, nothing_is_found) {
    struct iscsi_world w;
    iscsi_world_make(&w);
    struct iscsi_link l = link_session(&w);
    link_write(&l, 5, 100, 1, 512, 1);
    iscsi_tick(w.iscsi, w.now_ns);
    link_hole(&l, TO_TARGET, 100);
    link_bytes(&l, TO_TARGET, "nothing that is like a PDU..", 28);
    let_time_pass(&w, 4 * NS_PER_SECOND);
    expect_whole_gap(w.recorder, 0, GAP_STREAM_HOLE);
    cr_assert_eq(iscsi_oldest_pending(w.iscsi), UINT64_MAX);
    size_t gaps = GAPS(w);
    w.now_ns += 2 * NS_PER_SECOND;
    link_bytes(&l, TO_TARGET, "xxxx", 4);
    cr_assert_eq(GAPS(w), gaps + 1, "another monitor may have healed it");
    chat(&l);
    chat(&l);
    w.now_ns += 2 * NS_PER_SECOND;
    link_write(&l, 6, 100, 1, 512, 1);
    link_response(&l, 6, GOOD);
    cr_assert_eq(UPDATES(w), 1, "found after all");
    iscsi_world_end(&w);
}

/* Another protocol, joined in the middle: it has nothing to do with volumes. */
Test(iscsi_search, other_protocols_are_let_go) {
    for (int hole = 0; hole < 2; hole++) {
        struct iscsi_world w;
        iscsi_world_make(&w);
        struct iscsi_link known = link_session(&w);
        struct iscsi_link other = link_open(&w, 5432, false);
        link_write(&known, 5, 100, 1, 512, 1);
        link_bytes(&other, TO_TARGET, "select * from t;", 16);
        let_time_pass(&w, 4 * NS_PER_SECOND);
        if (hole)
            link_hole(&other, TO_INITIATOR, 100);
        else
            link_bytes(&other, TO_INITIATOR, "nothing", 7);
        cr_assert_eq(other.connection, NULL);
        cr_assert_eq(GAPS(w), 0);
        iscsi_world_end(&w);
    }
}

/* A session that shows up late was unseen before: what it wrote then, nobody knows. */
Test(iscsi_search, late_session_beside_known_volumes) {
    struct iscsi_world w;
    iscsi_world_make(&w);
    struct iscsi_link known = link_session(&w);
    w.now_ns += 3600 * NS_PER_SECOND;
    struct iscsi_link late = late_session(&w, false, false);
    link_write(&late, 5, 100, 8, 4096, 1);
    expect_whole_gap(w.recorder, 0, GAP_STREAM_HOLE);
    link_response(&late, 5, GOOD);
    chat(&late);
    link_write(&known, 5, 100, 8, 4096, 1);
    link_response(&known, 5, GOOD);
    cr_assert_eq(UPDATES(w), 2);
    size_t gaps = GAPS(w);
    link_write(&late, 6, 300, 8, 4096, 1);
    link_response(&late, 6, GOOD);
    cr_assert_eq(GAPS(w), gaps + 1, "it may have written to the known one");
    expect_gap(w.recorder, gaps, 300, 8, GAP_STRANGER);
    iscsi_world_end(&w);
}

/* INQUIRY, VPD page 80h, answered with "SN1". */
static void tell_serial(struct iscsi_link *l, uint32_t tag) {
    static const uint8_t answer[] = {0, 0x80, 0, 3, 'S', 'N', '1'};
    struct made_pdu *pdu = make_pdu(0x01, tag);
    pdu->head[1] = 0xc1;
    put_be(pdu->head + 8, UINT64_C(1) << 48, 8);
    put_be(pdu->head + 20, sizeof answer, 4);
    pdu->head[32] = 0x12;
    pdu->head[33] = 0x01;
    pdu->head[34] = 0x80;
    pdu->head[36] = sizeof answer;
    link_send(l, TO_TARGET, pdu);
    free(pdu);
    pdu = make_pdu(0x25, tag);
    pdu->head[1] = 0x81;
    pdu->data_bytes = sizeof answer;
    memcpy(pdu->data, answer, sizeof answer);
    link_send(l, TO_INITIATOR, pdu);
    free(pdu);
}

/* What began before the numbers were known is none of those that are missing: the loss of one more
 * is noticed, long after the session was joined, too. */
Test(iscsi_search, command_from_before_the_numbers_hides_no_later_one) {
    struct iscsi_world w;
    iscsi_world_make(&w);
    struct iscsi_link l = late_session(&w, false, false);
    link_write(&l, 5, 100, 8, 4096, 1);
    link_response(&l, 5, GOOD);
    chat(&l);
    cr_assert_eq(UPDATES(w), 1);
    link_response(&l, 77, GOOD);
    size_t gaps = GAPS(w);
    cr_assert_eq(gaps, 1, "it may have written anything");
    let_time_pass(&w, 301 * NS_PER_SECOND);
    link_write(&l, 6, 100, 8, 4096, 2);
    link_response(&l, 6, GOOD);
    struct made_pdu *hidden = make_write(&l, 7, 100, 8, 4096, 3);
    link_send_unseen(&l, TO_TARGET, hidden);
    free(hidden);
    hidden = make_response(7, GOOD);
    link_send_unseen(&l, TO_INITIATOR, hidden);
    free(hidden);
    chat(&l);
    cr_assert_eq(GAPS(w), gaps + 1, "a command and its status passed unseen");
    iscsi_world_end(&w);
}

Test(iscsi_search, late_session_gets_a_name) {
    struct iscsi_world w;
    struct identity_unit unit = {.lun = UINT64_C(1) << 48,
                                 .designator = "naa.6001",
                                 .serial = "SN1",
                                 .size_bytes = 4096 * 512,
                                 .block_bytes = 512,
                                 .is_disk = true};
    struct identity_target targets[] = {{.name = "iqn.other"},
                                        {.name = "iqn.target", .units = &unit, .unit_count = 1}};
    struct identity identity = {.targets = targets, .target_count = 2};
    iscsi_world_make(&w);
    struct iscsi_link late = late_session(&w, false, false);
    cr_assert_not(iscsi_wants_identity(w.iscsi, &identity.portal));
    link_write(&late, 5, 100, 8, 4096, 1);
    link_response(&late, 5, GOOD);
    chat(&late);
    cr_assert(iscsi_wants_identity(w.iscsi, &identity.portal));
    cr_assert(identity.portal.port == 3260 && identity.portal.family == 4);
    cr_assert_not(iscsi_wants_identity(w.iscsi, &identity.portal), "once is enough");
    iscsi_identify(w.iscsi, &identity, w.now_ns);
    cr_assert_str_eq(recorded_at(w.recorder, RECORDED_PATH, 0)->known.serial, "", "no proof");
    tell_serial(&late, 20);
    iscsi_identify(w.iscsi, &identity, w.now_ns);
    size_t paths = recorded_count(w.recorder, RECORDED_PATH);
    const struct recorded *named = recorded_at(w.recorder, RECORDED_PATH, paths - 2);
    const struct recorded *old = recorded_at(w.recorder, RECORDED_PATH, paths - 1);
    cr_assert_str_eq(named->known.target, "iqn.target");
    cr_assert_eq(old->known.same_as, named->known.id);
    cr_assert_str_eq(old->known.designator, "naa.6001");
    link_write(&late, 6, 100, 8, 4096, 1);
    link_response(&late, 6, GOOD);
    cr_assert_eq(recorded_update(w.recorder, 1)->path, named->known.id);
    cr_assert_eq(GAPS(w), 0);
    iscsi_world_end(&w);
}

/* The only one that it can be: no proof. */
Test(iscsi_search, name_that_is_not_certain) {
    struct identity_unit unit = {.lun = UINT64_C(1) << 48, .block_bytes = 512, .is_disk = true};
    struct identity_target target = {
        .name = "iqn.a", .units = &unit, .unit_count = 1, .whole = true};
    struct identity identity = {.targets = &target, .target_count = 1};
    struct iscsi_world w;
    iscsi_world_make(&w);
    struct iscsi_link late = late_session(&w, false, false);
    link_write(&late, 5, 100, 8, 4096, 1);
    chat(&late);
    cr_assert(iscsi_wants_identity(w.iscsi, &identity.portal));
    iscsi_identify(w.iscsi, &identity, w.now_ns);
    link_response(&late, 5, GOOD);
    cr_assert(recorded_at(w.recorder, RECORDED_PATH, 0)->known.provisional);
    iscsi_world_end(&w);
}

/* One connection of several is seen. */
Test(iscsi_search, commands_on_a_connection_that_is_not_seen) {
    struct iscsi_world w;
    iscsi_world_make(&w);
    struct iscsi_link l = link_open(&w, 3260, true);
    link_login(&l, "InitiatorName=iqn.a|TargetName=iqn.target|MaxConnections=8",
               "TargetPortalGroupTag=1|MaxConnections=8");
    link_capacity(&l, 1);
    (*l.command_number)++; /* somewhere else */
    link_write(&l, 5, 100, 1, 512, 1);
    expect_whole_gap(w.recorder, 0, GAP_STREAM_HOLE);
    link_response(&l, 5, GOOD);
    (*l.command_number)++;
    nop(&l, 9); /* its answer tells that the target expects more */
    cr_assert_eq(GAPS(w), 2);
    iscsi_world_end(&w);
}

/* A command with a number that is not due is ignored by the target: RFC 7143 4.2.2.1. */
Test(iscsi_search, command_number_out_of_the_window) {
    struct iscsi_world w;
    iscsi_world_make(&w);
    struct iscsi_link l = link_session(&w);
    *l.command_number += 1000;
    link_write(&l, 5, 100, 1, 512, 1);
    *l.command_number -= 1001;
    link_write(&l, 6, 200, 1, 512, 1);
    link_response(&l, 6, GOOD);
    cr_assert_eq(UPDATES(w), 1);
    cr_assert_eq(GAPS(w), 0);
    iscsi_world_end(&w);
}

/* A status that is sent again on request is not that of an unseen command. */
Test(iscsi_search, status_that_comes_again) {
    struct iscsi_world w;
    iscsi_world_make(&w);
    struct iscsi_link l = link_session(&w);
    link_write(&l, 5, 100, 1, 512, 1);
    link_response(&l, 5, GOOD);
    l.status_number--;
    link_response(&l, 5, GOOD);
    cr_assert_eq(UPDATES(w), 1);
    cr_assert_eq(GAPS(w), 0);
    iscsi_world_end(&w);
}

Test(iscsi_search, held_bytes_have_a_limit) {
    struct iscsi_world w;
    iscsi_world_make(&w);
    struct iscsi_link l = link_session(&w);
    static uint8_t noise[65536];
    link_write(&l, 5, 100, 1, 512, 1);
    link_hole(&l, TO_TARGET, 100);
    for (size_t bytes = 0; bytes < (20U << 20); bytes += sizeof noise)
        link_bytes(&l, TO_TARGET, noise, sizeof noise);
    expect_whole_gap(w.recorder, 0, GAP_STREAM_HOLE);
    cr_assert_eq(iscsi_oldest_pending(w.iscsi), UINT64_MAX);
    iscsi_world_end(&w);
}

/* The end of a status was lost, not its time. */
Test(iscsi_search, status_that_ends_in_a_hole) {
    struct iscsi_world w;
    iscsi_world_make(&w);
    struct iscsi_link l = link_session(&w);
    struct made_pdu *response = make_response(5, GOOD);
    uint8_t bytes[PDU_HEAD_BYTES + 64];
    response->data_bytes = 22;
    response->data[1] = 18;
    put_be(response->head + 24, l.status_number, 4);
    put_be(response->head + 28, *l.command_number + 1, 4);
    link_write(&l, 5, 100, 1, 512, 1);
    size_t count = made_pdu_bytes(&l, response, bytes);
    w.now_ns += 100;
    link_bytes(&l, TO_INITIATOR, bytes, count - 4);
    uint64_t then_ns = w.now_ns;
    w.now_ns -= 50; /* holes are as old as what came before them */
    link_hole(&l, TO_INITIATOR, 4);
    cr_assert_eq(recorded_update(w.recorder, 0)->time_ns, then_ns);
    free(response);
    iscsi_world_end(&w);
}

/* Nothing tells at first that it is iSCSI: neither the port nor what lies in a long data segment.
 */
Test(iscsi_search, inside_a_long_segment_on_another_port) {
    enum { LONG = 1 << 20 };
    struct iscsi_world w;
    iscsi_world_make(&w);
    struct iscsi_link l = link_open(&w, 9999, false);
    l.isid = 0x5005;
    uint8_t *rest = calloc(1, LONG);
    link_bytes(&l, TO_INITIATOR, rest, LONG);
    free(rest);
    for (uint32_t i = 0; i < 6; i++) {
        link_write(&l, 5 + i, 100 * i, 3, 1536, (uint8_t)i);
        link_response(&l, 5 + i, GOOD);
    }
    chat(&l);
    cr_assert_eq(UPDATES(w), 6);
    expect_whole_gap(w.recorder, 0, GAP_STREAM_HOLE);
    iscsi_world_end(&w);
}

Test(iscsi_search, another_protocol_on_another_port) {
    enum { PIECE = 65536 };
    struct iscsi_world w;
    iscsi_world_make(&w);
    struct iscsi_link l = link_open(&w, 9999, false);
    uint8_t *piece = calloc(1, PIECE);
    for (unsigned i = 0; i < 200 && l.connection != NULL; i++)
        link_bytes(&l, TO_INITIATOR, piece, PIECE);
    free(piece);
    cr_assert_null(l.connection, "it is not read for ever");
    cr_assert_eq(GAPS(w), 0);
    iscsi_world_end(&w);
}

/* What an initiator sends again before it was acknowledged need not be the same. */
Test(iscsi_search, data_that_is_sent_again) {
    struct iscsi_world w;
    iscsi_world_make(&w);
    struct iscsi_link l = link_session(&w);
    uint8_t data[1024];
    memset(data, 7, sizeof data);
    link_write(&l, 5, 100, 4, 2048, 7);
    cr_assert_eq(w.consumer.again(l.connection, TCP_TO_SERVER, 2048, data, sizeof data),
                 TCP_COPY_SAME);
    cr_assert_eq(w.consumer.again(l.connection, TCP_TO_SERVER, 2048 + 24, data + 1000, 24),
                 TCP_COPY_SAME);
    link_response(&l, 5, GOOD);
    cr_assert_eq(UPDATES(w), 1, "the same bytes, or a header");
    link_write(&l, 6, 100, 4, 2048, 7);
    data[600] = 8;
    cr_assert_eq(w.consumer.again(l.connection, TCP_TO_SERVER, 1024, data, sizeof data),
                 TCP_COPY_DIFFERS);
    w.consumer.dispute(l.connection, TCP_TO_SERVER, 1024, sizeof data, w.now_ns);
    link_response(&l, 6, GOOD);
    expect_gap(w.recorder, 0, 102, 2, GAP_STREAM_HOLE);
    cr_assert_eq(GAPS(w), 1);
    link_write(&l, 7, 100, 4, 2048, 7);
    link_response(&l, 7, GOOD);
    cr_assert_eq(w.consumer.again(l.connection, TCP_TO_SERVER, 1024, data, sizeof data),
                 TCP_COPY_FORGOTTEN);
    w.consumer.dispute(l.connection, TCP_TO_SERVER, 1024, sizeof data, w.now_ns);
    expect_gap(w.recorder, 1, 100, 4, GAP_STREAM_HOLE);
    link_write(&l, 8, 200, 4, 2048, 7);
    link_response(&l, 8, 0x08); /* BUSY */
    w.consumer.dispute(l.connection, TCP_TO_SERVER, 1024, sizeof data, w.now_ns);
    cr_assert_eq(GAPS(w), 2, "nothing was changed by it");
    iscsi_world_end(&w);
}
