#include "fc_world.h"

#include "common/clock.h"
#include "tap/fc/els.h"

#include <criterion/criterion.h>
#include <string.h>

/*
 * An FC_ID that may have changed hands: what of logins and logouts passes, or not, and whose the
 * writes are that follow.
 */

static struct fc_world w;

enum { NEW_WWPN_END = 0x99, OTHER_HOST = FC_INITIATOR + 0x100, OTHER_TARGET = FC_TARGET + 0x100 };
static const uint64_t new_wwpn = 0x2000000000000000 + NEW_WWPN_END;

static const char old_name[] = "naa.20:00:00:00:00:00:00:0b";
static const char new_name[] = "naa.20:00:00:00:00:00:00:99";
static const char nobody[] = "fcid:0.0b0b02.2"; /* another one than the first */

static uint64_t path_of(const char *target) {
    return record_path_id(PATH_FCP, target, strlen(target), UINT64_C(1) << 48);
}

static uint64_t newest_path(void) {
    size_t before = UPDATES(w);
    fc_whole_write(&w, 9, 0, 1, 7);
    fc_wait(&w);
    cr_assert_gt(UPDATES(w), before);
    return recorded_update(w.recorder, UPDATES(w) - 1)->path;
}

#define expect_writes_to(name, ...) cr_assert_eq(newest_path(), path_of(name), __VA_ARGS__)

/* A session that has been going on for long. */
static void start(void) {
    fc_world_make(&w);
    fc_login(&w);
    fc_prli(&w, 0x778);
    expect_writes_to(old_name, "at first");
    w.now_ns += 3600 * NS_PER_SECOND;
    fc_tick(w.fc, w.now_ns);
}

static void stop(void) {
    fc_world_end(&w);
}

TestSuite(fc_logins, .init = start, .fini = stop);

static void from_host(uint16_t ox_id, uint8_t code, uint64_t wwpn, size_t bytes) {
    fc_service(&w, &(struct frame){.s_id = FC_INITIATOR, .d_id = FC_TARGET, .ox_id = ox_id}, code,
               wwpn, bytes);
}

static void from_target(uint16_t ox_id, uint8_t code, uint64_t wwpn, size_t bytes) {
    fc_service(&w, &(struct frame){.s_id = FC_TARGET, .d_id = FC_INITIATOR, .ox_id = ox_id}, code,
               wwpn, bytes);
}

/* After a logout no command passes without a login. */
Test(fc_logins, logout_and_the_login_is_lost) {
    from_host(1, ELS_LOGO, FC_INITIATOR_WWPN, 16);
    from_target(1, ELS_LS_ACC, 0, 4);
    expect_writes_to(nobody);
}

Test(fc_logins, logout_and_the_login_is_seen) {
    from_host(1, ELS_LOGO, FC_INITIATOR_WWPN, 16);
    fc_login(&w);
    fc_prli(&w, 2);
    expect_writes_to(old_name);
}

Test(fc_logins, logout_by_the_target) {
    from_target(1, ELS_LOGO, FC_TARGET_WWPN, 16);
    w.now_ns += 100 * NS_PER_MS;
    expect_writes_to(nobody);
}

Test(fc_logins, process_logout) {
    from_host(1, ELS_PRLO, 0, 20);
    expect_writes_to(nobody);
}

/* Whoever has the FC_ID now refuses those who did not log in with it, and says who it is. */
Test(fc_logins, logout_by_a_new_owner) {
    from_target(1, ELS_LOGO, new_wwpn, 16);
    w.s_id = OTHER_HOST;
    expect_writes_to(new_name);
}

Test(fc_logins, a_rejected_login_is_none) {
    fc_plogi(&w, 1);
    from_target(1, ELS_LS_RJT, 0, 8);
    expect_writes_to(nobody);
}

/* Nor does the command pass, but its data does. */
Test(fc_logins, the_command_is_lost_too) {
    fc_plogi(&w, 1);
    size_t gaps = GAPS(w);
    fc_data(&w, 5, 0, 0, 512, 7);
    fc_response(&w, 5, 0);
    fc_wait(&w);
    cr_assert_eq(GAPS(w), gaps + 1);
    expect_whole_gap(w.recorder, gaps, GAP_STRANGER); /* it may be any volume's */
    expect_writes_to(nobody);
}

/* What was on its way already when the initiator logged out is no sign of a login. */
Test(fc_logins, frames_cross_a_logout) {
    size_t paths = PATHS(w);
    fc_write_command(&w, 5, 0, 1);
    fc_ready(&w, 5, 0, 512);
    from_host(1, ELS_LOGO, FC_INITIATOR_WWPN, 16);
    fc_response(&w, 5, 8);
    fc_login(&w);
    expect_writes_to(old_name);
    for (size_t i = paths; i < PATHS(w); i++)
        cr_assert_not(recorded_at(w.recorder, RECORDED_PATH, i)->known.provisional);
}

/* A command was sent in the session: a PRLI behind it is that of another one. */
Test(fc_logins, a_process_login_within_a_minute) {
    fc_login(&w);
    fc_prli(&w, 1);
    expect_writes_to(old_name);
    fc_prli(&w, 2);
    expect_writes_to(nobody);
}

Test(fc_logins, a_process_login_is_sent_again) {
    fc_login(&w);
    fc_prli(&w, 1);
    from_target(1, ELS_LS_RJT, 0, 8);
    w.now_ns += NS_PER_SECOND;
    fc_prli(&w, 2);
    expect_writes_to(old_name);
}

/* A discovery says who is there, not that a session begins: the PRLI may be that of a login that
 * passed unseen, of somebody who has the FC_ID since. */
Test(fc_logins, a_process_login_behind_a_discovery) {
    static const uint8_t codes[] = {ELS_ADISC, ELS_PDISC};
    static const size_t bytes[] = {28, 116};
    for (size_t i = 0; i < sizeof codes; i++) {
        stop();
        start();
        from_host(1, codes[i], FC_INITIATOR_WWPN, bytes[i]);
        from_target(1, ELS_LS_ACC, FC_TARGET_WWPN, bytes[i]);
        expect_writes_to(old_name);
        fc_prli(&w, 2);
        expect_writes_to(nobody);
    }
}

Test(fc_logins, a_process_login_of_another_protocol) {
    uint8_t prli[20] = {ELS_PRLI, 16, 0, 20, TYPE_NVME};
    fc_show(&w, (struct frame){.r_ctl = R_CTL_ELS_REQUEST, .type = TYPE_ELS, .f_ctl = 0x290000},
            prli, sizeof prli);
    expect_writes_to(old_name);
}

Test(fc_logins, only_the_answer_to_a_process_login) {
    from_target(1, ELS_LS_ACC, 0, 20);
    expect_writes_to(nobody);
}

Test(fc_logins, a_long_answer_without_its_request) {
    from_target(1, ELS_LS_ACC, new_wwpn, 256);
    expect_writes_to(new_name);
}

/* The clock of the target's direction is ahead. */
Test(fc_logins, the_answer_is_there_first) {
    from_target(1, ELS_LS_ACC, FC_TARGET_WWPN, 116);
    fc_plogi(&w, 1);
    fc_prli(&w, 2);
    expect_writes_to(old_name);
}

/* And that of the initiator is: the PLOGI's answer comes behind the PRLI. */
Test(fc_logins, the_answer_is_there_last) {
    size_t paths = PATHS(w);
    fc_plogi(&w, 1);
    fc_prli(&w, 2);
    from_target(1, ELS_LS_ACC, FC_TARGET_WWPN, 116);
    expect_writes_to(old_name);
    cr_assert_eq(PATHS(w), paths);
}

Test(fc_logins, an_answer_before_another_login) {
    from_target(1, ELS_LS_ACC, FC_TARGET_WWPN, 116);
    w.now_ns += 100 * NS_PER_MS;
    fc_plogi(&w, 1);
    expect_writes_to(nobody);
}

/* An exchange identifier whose last request got no answer: the answer to a PLOGI that was lost must
 * not be read as one to that. */
Test(fc_logins, a_request_without_an_answer_before_it) {
    static const uint8_t codes[] = {ELS_ADISC, ELS_LOGO, ELS_PRLI, ELS_PRLO, ELS_REC};
    static const size_t bytes[] = {28, 16, 20, 20, 12};
    for (size_t i = 0; i < sizeof codes; i++) {
        stop();
        start();
        from_host(1, codes[i], FC_INITIATOR_WWPN, bytes[i]);
        from_target(1, ELS_LS_ACC, new_wwpn, 116);
        expect_writes_to(new_name, "behind %02x", codes[i]);
    }
}

Test(fc_logins, a_login_without_an_answer_and_then_a_discovery) {
    fc_plogi(&w, 1);
    from_target(1, ELS_LS_ACC, new_wwpn, 28);
    expect_writes_to(nobody, "half a node name is no port name");
}

/* In fabrics the last byte of an FC_ID is 0 most often. */
Test(fc_logins, answers_to_others) {
    w.s_id = FC_INITIATOR & 0xffff00;
    struct frame ids = {.s_id = w.s_id + 0x100, .d_id = FC_TARGET, .ox_id = 1};
    fc_service(&w, &ids, ELS_ADISC, 0x2000000000000055, 28);
    ids.s_id = w.s_id;
    fc_service(&w, &ids, ELS_LOGO, FC_INITIATOR_WWPN, 16);
    ids = (struct frame){.s_id = FC_TARGET, .d_id = w.s_id + 0x100, .ox_id = 1};
    fc_service(&w, &ids, ELS_LS_ACC, new_wwpn, 28);
    w.s_id = FC_INITIATOR;
    expect_writes_to(new_name);
}

static void to_fabric(uint16_t ox_id, uint32_t s_id, uint8_t code, uint64_t wwpn, size_t bytes) {
    fc_service(&w, &(struct frame){.s_id = s_id, .d_id = FC_FABRIC_PORT, .ox_id = ox_id}, code,
               wwpn, bytes);
}

static void from_fabric(uint16_t ox_id, uint32_t d_id, uint8_t code, size_t bytes) {
    fc_service(&w, &(struct frame){.s_id = FC_FABRIC_PORT, .d_id = d_id, .ox_id = ox_id}, code,
               0x1000000000000001, bytes);
}

Test(fc_logins, fabric_login_of_another_port) {
    to_fabric(1, 0, ELS_FLOGI, new_wwpn, 116);
    from_fabric(1, FC_TARGET, ELS_LS_ACC, 116);
    expect_writes_to(new_name);
}

Test(fc_logins, fabric_login_of_which_only_the_answer_is_seen) {
    from_fabric(1, FC_TARGET, ELS_LS_ACC, 116);
    expect_writes_to(nobody);
}

Test(fc_logins, fabric_login_of_which_only_the_request_is_seen) {
    to_fabric(1, 0, ELS_FLOGI, FC_TARGET_WWPN, 116);
    expect_writes_to(nobody);
}

Test(fc_logins, fabric_login_again) {
    to_fabric(1, 0, ELS_FLOGI, FC_TARGET_WWPN, 116);
    from_fabric(1, FC_TARGET, ELS_LS_ACC, 116);
    expect_writes_to(old_name);
}

/* As after a power failure, when all count from 0. */
Test(fc_logins, fabric_logins_at_once) {
    to_fabric(0, 0, ELS_FLOGI, new_wwpn, 116);
    to_fabric(0, 0, ELS_FLOGI, 0x2000000000000055, 116);
    from_fabric(0, FC_TARGET, ELS_LS_ACC, 116);
    expect_writes_to(nobody);
}

Test(fc_logins, logout_by_the_fabric) {
    from_fabric(1, FC_TARGET, ELS_LOGO, 16);
    expect_writes_to(nobody);
}

/* Somebody swapped two cables. */
Test(fc_logins, a_name_that_moves_leaves_its_address) {
    struct frame ids = {.s_id = OTHER_TARGET, .d_id = 0xfffffc, .ox_id = 1};
    fc_service(&w, &ids, ELS_PLOGI, FC_TARGET_WWPN, 116);
    expect_writes_to(nobody);
}

Test(fc_logins, a_name_in_another_fabric) {
    struct frame ids = {.s_id = OTHER_TARGET, .d_id = 0xfffffc, .ox_id = 1};
    w.vsan = 7;
    fc_service(&w, &ids, ELS_PLOGI, FC_TARGET_WWPN, 116);
    w.vsan = 0;
    expect_writes_to(old_name);
}

static bool is_joined(const char *target) {
    bool joined = false;
    for (size_t i = 0; i < PATHS(w); i++) {
        const struct recorded *r = recorded_at(w.recorder, RECORDED_PATH, i);
        joined |= r->path == path_of(target) && r->known.same_as != 0;
    }
    return joined;
}

/* The FC_ID may have changed hands twice: what was written in between is nobody's. */
Test(fc_logins, the_next_login_names_nobody_before_it) {
    from_host(1, ELS_LOGO, FC_INITIATOR_WWPN, 16);
    expect_writes_to(nobody);
    w.now_ns += NS_PER_SECOND;
    fc_login(&w);
    fc_prli(&w, 2);
    expect_writes_to(old_name);
    cr_assert_not(is_joined(nobody));
}

Test(fc_logins, the_next_discovery_names_who_was_there) {
    from_host(1, ELS_LOGO, FC_INITIATOR_WWPN, 16);
    expect_writes_to(nobody);
    from_host(2, ELS_ADISC, FC_INITIATOR_WWPN, 28);
    from_target(2, ELS_LS_ACC, new_wwpn, 28);
    expect_writes_to(new_name);
    cr_assert(is_joined(nobody));
}

Test(fc_logins, a_late_answer_names_who_was_there) {
    fc_plogi(&w, 1);
    expect_writes_to(nobody);
    from_target(1, ELS_LS_ACC, new_wwpn, 116);
    expect_writes_to(new_name);
    cr_assert(is_joined(nobody));
}

/* What another initiator does to its own session. */
Test(fc_logins, another_host_logs_out) {
    struct frame ids = {.s_id = OTHER_HOST, .d_id = FC_TARGET, .ox_id = 1};
    fc_service(&w, &ids, ELS_LOGO, 0x2000000000000055, 16);
    fc_service(&w, &ids, ELS_PLOGI, 0x2000000000000055, 116);
    expect_writes_to(old_name);
}

static void show_fip(uint8_t operation, uint8_t subcode, const uint8_t *list, size_t bytes,
                     bool to_enode) {
    static const uint8_t enode[6] = "ENODE1";
    static const uint8_t forwarder[6] = "FCFFCF";
    uint8_t fip[300] = {0x10, 0, 0, operation, 0, subcode, 0, (uint8_t)(bytes / 4)};
    struct fc_fip_frame frame = {.data = fip, .bytes = (uint32_t)(10 + bytes)};
    memcpy(fip + 10, list, bytes);
    memcpy(frame.destination, to_enode ? enode : forwarder, 6);
    memcpy(frame.source, to_enode ? forwarder : enode, 6);
    frame.time_ns = w.now_ns += NS_PER_MS;
    fc_fip(w.fc, &frame);
}

/* A descriptor with FLOGI, or its LS_ACC. */
static void show_encapsulated(uint8_t code, uint64_t wwpn) {
    bool reply = code == ELS_LS_ACC;
    uint8_t flogi[144] = {7, 36, 0, 0};
    uint8_t *header = flogi + 4;
    put_be(header, reply ? R_CTL_ELS_REPLY : R_CTL_ELS_REQUEST, 1);
    put_be(header + 1, reply ? FC_TARGET : FC_FABRIC_PORT, 3);
    put_be(header + 5, reply ? FC_FABRIC_PORT : 0, 3);
    put_be(header + 8, TYPE_ELS, 1);
    put_be(header + 9, reply ? 0x990000 : 0x290000, 3);
    put_be(header + 16, 0x21, 2);
    header[24] = code;
    put_be(header + 24 + 20, wwpn, 8);
    header[24 + 68] = 0x80;
    show_fip(2, reply ? 2 : 1, flogi, sizeof flogi, reply);
}

Test(fc_logins, virtual_links_are_cleared) {
    uint8_t port[20] = {11, 5};
    put_be(port + 8, FC_TARGET, 4);
    put_be(port + 12, FC_TARGET_WWPN, 8);
    show_fip(3, 2, port, sizeof port, true);
    expect_writes_to(nobody);
}

Test(fc_logins, all_virtual_links_of_a_host_adapter_are_cleared) {
    static const uint8_t nothing[4] = {2, 0};
    show_encapsulated(ELS_FLOGI, new_wwpn);
    show_encapsulated(ELS_LS_ACC, 1);
    expect_writes_to(new_name);
    show_fip(3, 2, nothing, 0, true);
    expect_writes_to(nobody);
}

Test(fc_logins, virtual_links_of_others_are_cleared) {
    static const uint8_t nothing[4] = {2, 0};
    show_fip(3, 2, nothing, 0, true);
    expect_writes_to(old_name);
}

Test(fc_logins, an_encapsulated_answer_without_its_request) {
    show_encapsulated(ELS_LS_ACC, 1);
    expect_writes_to(nobody);
}
