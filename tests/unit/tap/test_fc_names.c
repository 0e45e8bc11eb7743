#include "fc_world.h"

#include "common/clock.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static struct fc_world w;

static void start(void) {
    fc_world_make(&w);
}

static void stop(void) {
    fc_world_end(&w);
}

TestSuite(fc_names, .init = start, .fini = stop);

static const struct sink_path *last_path(void) {
    const struct recorded *r = recorded_at(w.recorder, RECORDED_PATH, PATHS(w) - 1);
    cr_assert_not_null(r);
    return &r->known;
}

Test(fc_names, by_port_login) {
    fc_login(&w);
    fc_whole_write(&w, 1, 0, 1, 7);
    fc_wait(&w);
    cr_assert_str_eq(last_path()->target, "naa.20:00:00:00:00:00:00:0b");
    cr_assert_not(last_path()->provisional);
}

Test(fc_names, address_until_a_login_is_seen) {
    fc_whole_write(&w, 1, 0, 1, 7);
    fc_wait(&w);
    cr_assert_str_eq(last_path()->target, "fcid:0.0b0b02");
    cr_assert(last_path()->provisional);
    fc_login(&w);
    fc_wait(&w);
    bool joined = false;
    for (size_t i = 0; i < PATHS(w); i++)
        joined |= recorded_at(w.recorder, RECORDED_PATH, i)->known.same_as != 0;
    cr_assert(joined);
    fc_whole_write(&w, 1, 1, 1, 8);
    fc_wait(&w);
    cr_assert_eq(recorded_update(w.recorder, 1)->path,
                 record_path_id(PATH_FCP, "naa.20:00:00:00:00:00:00:0b", 27, UINT64_C(1) << 48));
}

Test(fc_names, by_beacon) {
    uint8_t fip[50] = {0x10, 0, 0, 5, 0, 5, 0, 10};
    uint8_t *port = fip + 10 + 8 + 12;
    memcpy(fip + 10, "\2\2RT\0\0\0\v", 8);
    memcpy(fip + 18, "\4\3\0\0\20\0RT\0\0\0\v", 12);
    memcpy(port, "\13\5\16\375\0\v\v\2", 8);
    put_be(port + 8, FC_TARGET, 4);
    put_be(port + 12, FC_TARGET_WWPN, 8);
    fc_fip(w.fc, &(struct fc_fip_frame){.data = fip, .bytes = sizeof fip, .time_ns = w.now_ns});
    fc_whole_write(&w, 1, 0, 1, 7);
    fc_wait(&w);
    cr_assert_str_eq(last_path()->target, "naa.20:00:00:00:00:00:00:0b");
}

Test(fc_names, an_address_that_gets_another_owner) {
    uint8_t payload[28] = {0x52};
    fc_login(&w);
    fc_whole_write(&w, 1, 0, 1, 7);
    fc_write_command(&w, 2, 50, 1);
    fc_ready(&w, 2, 0, 512);
    fc_data(&w, 2, 0, 0, 512, 7);
    put_be(payload + 8, 0x2000000000000099, 8);
    fc_show(&w,
            (struct frame){.r_ctl = R_CTL_ELS_REQUEST,
                           .type = TYPE_ELS,
                           .s_id = FC_TARGET,
                           .d_id = FC_INITIATOR,
                           .f_ctl = 0x290000},
            payload, sizeof payload);
    fc_whole_write(&w, 3, 0, 1, 8);
    fc_wait(&w);
    expect_gap(w.recorder, 0, 50, 1, GAP_NEXUS_LOST);
    cr_assert_str_eq(last_path()->target, "naa.20:00:00:00:00:00:00:99");
    cr_assert_eq(UPDATES(w), 2);
}

Test(fc_names, a_port_that_left_is_unknown_again) {
    uint8_t payload[16] = {0x05};
    fc_login(&w);
    fc_show(&w,
            (struct frame){.r_ctl = R_CTL_ELS_REQUEST,
                           .type = TYPE_ELS,
                           .s_id = FC_TARGET,
                           .d_id = FC_FABRIC_PORT,
                           .f_ctl = 0x290000},
            payload, sizeof payload);
    fc_whole_write(&w, 1, 0, 1, 7);
    fc_wait(&w);
    cr_assert_str_eq(last_path()->target, "fcid:0.0b0b02.2");
}

static uint64_t path_of(const char *target) {
    return record_path_id(PATH_FCP, target, strlen(target), UINT64_C(1) << 48);
}

static uint64_t newest_path(void) {
    fc_whole_write(&w, 9, 0, 1, 7);
    fc_wait(&w);
    cr_assert_gt(UPDATES(w), 0);
    return recorded_update(w.recorder, UPDATES(w) - 1)->path;
}

/* Another port has the address of one that was known: what of its login the mirror loses. */
Test(fc_names, an_address_changes_hands_and_the_mirror_loses_it) {
    enum { NO_PLOGI = 1, NO_ACCEPT = 2, NO_PRLI = 4, ALL = 8 };
    for (unsigned lost = 0; lost < ALL; lost++) {
        stop();
        start();
        fc_login(&w);
        fc_prli(&w, 0x778);
        cr_assert_eq(newest_path(), path_of("naa.20:00:00:00:00:00:00:0b"));
        w.now_ns += 3600 * NS_PER_SECOND;
        if ((lost & NO_PLOGI) == 0)
            fc_plogi(&w, 0x100);
        if ((lost & NO_ACCEPT) == 0)
            fc_plogi_accept(&w, 0x100, 0x2000000000000099);
        if ((lost & NO_PRLI) == 0)
            fc_prli(&w, 0x101);
        const char *expected = "naa.20:00:00:00:00:00:00:99";
        if ((lost & NO_ACCEPT) != 0)
            expected = "fcid:0.0b0b02.2";
        if (lost == ALL - 1) /* nothing tells */
            expected = "naa.20:00:00:00:00:00:00:0b";
        cr_assert_eq(newest_path(), path_of(expected), "lost %u: not %s", lost, expected);
    }
}

Test(fc_names, the_answer_comes_late) {
    fc_login(&w);
    cr_assert_eq(newest_path(), path_of("naa.20:00:00:00:00:00:00:0b"));
    fc_plogi(&w, 0x100);
    cr_assert_eq(newest_path(), path_of("fcid:0.0b0b02.2"));
    fc_plogi_accept(&w, 0x100, FC_TARGET_WWPN);
    cr_assert_eq(newest_path(), path_of("naa.20:00:00:00:00:00:00:0b"));
}

/* The fabric lost the first PLOGI, or the port was not ready. */
Test(fc_names, the_second_login_is_answered) {
    fc_login(&w);
    fc_plogi(&w, 0x100);
    fc_plogi(&w, 0x101);
    fc_plogi_accept(&w, 0x101, FC_TARGET_WWPN);
    cr_assert_eq(newest_path(), path_of("naa.20:00:00:00:00:00:00:0b"));
}

/* An identifier is used again though its last request was never answered. */
Test(fc_names, an_answer_is_that_of_the_newest_request) {
    fc_login(&w);
    fc_logo(&w, 0x100);
    fc_plogi(&w, 0x100);
    fc_plogi_accept(&w, 0x100, 0x2000000000000099);
    cr_assert_eq(newest_path(), path_of("naa.20:00:00:00:00:00:00:99"));
}

/* So many others come that it is forgotten: then it counts as lost. */
Test(fc_names, a_login_that_is_pushed_out) {
    fc_login(&w);
    cr_assert_eq(newest_path(), path_of("naa.20:00:00:00:00:00:00:0b"));
    fc_plogi(&w, 0x100);
    for (uint16_t i = 0; i < 17000; i++) {
        w.d_id++;
        fc_plogi(&w, i);
    }
    w.d_id = FC_TARGET;
    cr_assert_eq(newest_path(), path_of("fcid:0.0b0b02.2"));
}

Test(fc_names, two_vsans_are_two_fabrics) {
    fc_whole_write(&w, 1, 0, 1, 7);
    w.vsan = 12;
    fc_whole_write(&w, 1, 0, 1, 8);
    fc_wait(&w);
    cr_assert_str_eq(last_path()->target, "fcid:12.0b0b02");
}

/* INQUIRY, and its page 83h with NAA 6 that ends in 5. */
static void introduce(void) {
    static const uint8_t inquiry[] = {0x12, 0, 0, 0, 36, 0};
    static const uint8_t page[] = {0x12, 1, 0x83, 0, 24, 0};
    static const uint8_t disk[36] = {0, 0, 6, 2, 31};
    static const uint8_t names[24] = {0,  0x83, 0,    20,   1,    3,       0,
                                      16, 0x60, 0x01, 0x40, 0x50, [23] = 5};
    fc_ask(&w, 1, inquiry, sizeof inquiry, disk, sizeof disk);
    fc_ask(&w, 2, page, sizeof page, names, sizeof names);
}

/* Arrays offer the same volume both ways. */
static void expect_one_volume(const char *target) {
    struct nexus *iscsi = tracker_nexus_open(w.tracker, PATH_ISCSI, "iqn.i", "iqn.t");
    struct scsi_world other = {w.recorder, w.tracker, iscsi, w.now_ns};
    scsi_introduce(&other, iscsi, 0, "MAKER   ");
    scsi_identify(&other, iscsi, 5);
    /* In flight together, on both paths: who came last is not known. */
    fc_write_command(&w, 5, 70, 1);
    fc_ready(&w, 5, 0, 512);
    fc_data(&w, 5, 0, 0, 512, 1);
    fc_tick(w.fc, w.now_ns + 45 * NS_PER_MS);
    other.now_ns = w.now_ns + 10 * NS_PER_MS;
    scsi_good(&other, scsi_write(&other, iscsi, 70, 1, 2));
    w.now_ns = other.now_ns + 45 * NS_PER_MS;
    fc_response(&w, 5, 0);
    fc_wait(&w);
    expect_gap(w.recorder, GAPS(w) - 1, 70, 1, GAP_OVERLAP);
    bool same = false;
    for (size_t i = 0; i < PATHS(w); i++) {
        const struct sink_path *path = &recorded_at(w.recorder, RECORDED_PATH, i)->known;
        same |= strcmp(path->target, target) == 0 &&
                strcmp(path->designator, last_path()->designator) == 0;
    }
    cr_assert(same);
    tracker_nexus_close(iscsi, 0, NULL, 0);
}

Test(fc_names, one_volume_by_iscsi_and_by_fc) {
    fc_login(&w);
    introduce();
    fc_whole_write(&w, 3, 0, 1, 7);
    fc_wait(&w);
    expect_one_volume("naa.20:00:00:00:00:00:00:0b");
}

Test(fc_names, one_volume_when_the_login_comes_late) {
    introduce();
    fc_whole_write(&w, 3, 0, 1, 7);
    fc_wait(&w);
    fc_login(&w);
    fc_wait(&w);
    expect_one_volume("naa.20:00:00:00:00:00:00:0b");
}

static int load(const char *text) {
    char file[] = "/tmp/fcid-map-XXXXXX";
    struct error err;
    int fd = mkstemp(file);
    cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    int code = fc_load_names(w.fc, file, &err);
    unlink(file);
    return code;
}

Test(fc_names, configured) {
    cr_assert_eq(load("# ports\n\n0b0b02  20:00:00:00:00:00:00:0b # the array\n"), 0);
    fc_whole_write(&w, 1, 0, 1, 7);
    fc_wait(&w);
    cr_assert_str_eq(last_path()->target, "naa.20:00:00:00:00:00:00:0b");
}

Test(fc_names, a_map_with_mistakes) {
    cr_assert_eq(load("0b0b02 20:00:00:00:00:00:00\n"), ERR_USAGE);
    cr_assert_eq(load("0b0b02\n"), ERR_USAGE);
    cr_assert_eq(load("x 20:00:00:00:00:00:00:0b\n"), ERR_USAGE);
    cr_assert_eq(load("1000000 20:00:00:00:00:00:00:0b\n"), ERR_USAGE);
    cr_assert_eq(load("0b0b02 20:00:00:00:00:00:00:0b more\n"), ERR_USAGE);
}

/* Nothing shows what a target that was not known wrote while nobody watched. */
Test(fc_names, a_stranger_after_a_restart) {
    fc_restarted(w.fc, w.now_ns - NS_PER_SECOND);
    fc_login(&w);
    fc_whole_write(&w, 1, 0, 1, 7);
    fc_wait(&w);
    cr_assert_eq(fc_counters(w.fc)->strangers, 1);
    expect_whole_gap(w.recorder, 0, GAP_MONITOR_RESTART);
    w.s_id++;
    fc_whole_write(&w, 1, 0, 1, 7);
    fc_wait(&w);
    cr_assert_eq(fc_counters(w.fc)->strangers, 1, "its target is known by now");
}
