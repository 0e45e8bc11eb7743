#include "fc_world.h"

#include "common/clock.h"
#include "tap/fc/els.h"
#include "tap/fc/fcp.h"

#include <criterion/criterion.h>
#include <string.h>

static struct fc_world w;

static void start(void) {
    fc_world_make(&w);
    fc_login(&w);
    /* A first write names the path, so that gaps have one. */
    fc_whole_write(&w, 9, 4000, 1, 9);
    fc_wait(&w);
    recorder_forget(w.recorder);
}

static void stop(void) {
    fc_world_end(&w);
}

TestSuite(fc_exchange, .init = start, .fini = stop);

static void expect_write(size_t index, uint64_t lba, uint64_t blocks, uint8_t fill) {
    const struct recorded *u = recorded_update(w.recorder, index);
    cr_assert_eq(u->lba, lba);
    cr_assert_eq(u->blocks, blocks);
    cr_assert_eq(u->lun, UINT64_C(1) << 48);
    for (size_t i = 0; i < u->data_bytes; i++)
        cr_assert_eq(u->data[i], fill, "at %zu", i);
}

Test(fc_exchange, a_write) {
    fc_whole_write(&w, 1, 100, 4, 7);
    fc_wait(&w);
    cr_assert_eq(UPDATES(w), 1);
    cr_assert_eq(GAPS(w), 0);
    expect_write(0, 100, 4, 7);
}

Test(fc_exchange, first_burst_needs_no_request) {
    fc_write_command(&w, 1, 100, 4);
    fc_data(&w, 1, 0, 0, 1024, 7);
    fc_ready(&w, 1, 1024, 1024);
    fc_data(&w, 1, 0, 1024, 1024, 7);
    fc_response(&w, 1, 0);
    fc_wait(&w);
    expect_write(0, 100, 4, 7);
    cr_assert_eq(GAPS(w), 0);
}

Test(fc_exchange, frames_out_of_order_by_their_times) {
    uint64_t start_ns = w.now_ns;
    fc_write_command(&w, 1, 100, 1);
    w.now_ns = start_ns + 30 * NS_PER_MS;
    fc_response(&w, 1, 0);
    w.now_ns = start_ns + 10 * NS_PER_MS;
    fc_data(&w, 1, 0, 0, 512, 7);
    w.now_ns = start_ns + 5 * NS_PER_MS;
    fc_ready(&w, 1, 0, 512);
    fc_wait(&w);
    expect_write(0, 100, 1, 7);
    cr_assert_eq(GAPS(w), 0);
}

Test(fc_exchange, response_before_the_data_by_the_clock) {
    fc_write_command(&w, 1, 100, 1);
    fc_ready(&w, 1, 0, 512);
    fc_response(&w, 1, 0);
    fc_data(&w, 1, 0, 0, 512, 7);
    fc_wait(&w);
    expect_write(0, 100, 1, 7);
    cr_assert_eq(GAPS(w), 0);
}

Test(fc_exchange, a_lost_data_frame_is_a_gap_over_its_blocks) {
    fc_write_command(&w, 1, 100, 4);
    fc_ready(&w, 1, 0, 2048);
    uint64_t before_ns = w.now_ns;
    fc_data(&w, 1, 0, 0, 512, 7);
    w.now_ns = before_ns + 20000; /* too short a hole for another command */
    fc_data(&w, 1, 2, 1024, 1024, 7);
    w.now_ns -= NS_PER_MS - 20000;
    fc_response(&w, 1, 0);
    fc_wait(&w);
    cr_assert_geq(UPDATES(w), 1);
    bool found = false;
    for (size_t i = 0; i < GAPS(w); i++)
        found |= recorded_gap(w.recorder, i)->offset_bytes == 101 * 512;
    cr_assert(found);
}

Test(fc_exchange, a_lost_response_is_a_gap_from_the_command_on) {
    fc_write_command(&w, 1, 100, 1);
    uint64_t issued_ns = w.now_ns;
    fc_ready(&w, 1, 0, 512);
    fc_data(&w, 1, 0, 0, 512, 7);
    fc_wait(&w);
    cr_assert_eq(fc_oldest_pending(w.fc), issued_ns - 1, "nothing is promised before");
    fc_wait(&w);
    fc_wait(&w);
    expect_gap(w.recorder, 0, 100, 1, GAP_STREAM_HOLE);
    cr_assert_eq(recorded_gap(w.recorder, 0)->time_ns, issued_ns);
    cr_assert_eq(fc_oldest_pending(w.fc), UINT64_MAX);
    /* It comes after all, and ends the gap. */
    fc_response(&w, 1, 0);
    fc_wait(&w);
    expect_write(0, 100, 1, 7);
}

Test(fc_exchange, an_identifier_used_again_shows_a_lost_response) {
    fc_write_command(&w, 1, 100, 1);
    fc_ready(&w, 1, 0, 512);
    fc_data(&w, 1, 0, 0, 512, 7);
    fc_whole_write(&w, 1, 200, 1, 8);
    fc_wait(&w);
    expect_write(0, 200, 1, 8);
    expect_gap(w.recorder, 0, 100, 1, GAP_STREAM_HOLE);
}

Test(fc_exchange, a_lost_command_puts_the_whole_volume_in_doubt) {
    w.silent = true;
    fc_write_command(&w, 1, 100, 1);
    w.silent = false;
    fc_ready(&w, 1, 0, 512);
    uint64_t first_ns = w.now_ns;
    fc_data(&w, 1, 0, 0, 512, 7);
    fc_response(&w, 1, 0);
    fc_wait(&w);
    cr_assert_eq(UPDATES(w), 0);
    expect_whole_gap(w.recorder, 0, GAP_STREAM_HOLE);
    cr_assert_lt(recorded_gap(w.recorder, 0)->time_ns, first_ns);
}

Test(fc_exchange, a_lone_response_is_of_a_lost_command) {
    fc_response(&w, 1, 0);
    fc_wait(&w);
    expect_whole_gap(w.recorder, 0, GAP_STREAM_HOLE);
}

/* Nothing else is left of the command, and its response looks like the one before. */
Test(fc_exchange, a_lone_response_like_the_one_before_is_of_a_lost_command) {
    fc_whole_write(&w, 1, 0, 1, 7);
    fc_whole_write(&w, 1, 1, 1, 8); /* whose own response may be a copy, and is not believed yet */
    fc_response(&w, 1, 0);
    fc_wait(&w);
    fc_wait(&w);
    fc_wait(&w);
    cr_assert_eq(UPDATES(w), 2);
    cr_assert_geq(GAPS(w), 1);
    expect_whole_gap(w.recorder, 0, GAP_STREAM_HOLE);
}

/*
 * The end of a write, and the command of the next one, are lost; what is left of the first looks
 * like the write before: the data of the next one must not take its place.
 */
Test(fc_exchange, data_of_a_lost_command_is_not_that_of_the_one_before) {
    bool lost = false;
    fc_whole_write(&w, 5, 10, 1, 3);
    fc_write_command(&w, 5, 20, 2);
    fc_ready(&w, 5, 0, 1024);
    fc_data(&w, 5, 0, 0, 512, 3);
    fc_response(&w, 5, 0);
    fc_ready(&w, 5, 0, 1536);
    fc_data(&w, 5, 0, 0, 512, 9);
    fc_response(&w, 5, 0);
    for (int i = 0; i < 3; i++)
        fc_wait(&w);
    for (size_t i = 0; i < UPDATES(w); i++) {
        const struct recorded *u = recorded_update(w.recorder, i);
        cr_assert(u->lba != 20 || u->data[0] == 3, "data of the next command");
    }
    for (size_t i = 0; i < GAPS(w); i++)
        lost |= recorded_at(w.recorder, RECORDED_GAP, i)->length_bytes == GAP_TO_END;
    cr_assert(lost, "nothing is said of the command that was lost");
}

Test(fc_exchange, another_responder_identifier_is_another_exchange) {
    fc_write_command(&w, 1, 100, 1);
    fc_ready(&w, 1, 0, 512);
    fc_data(&w, 1, 0, 0, 512, 7);
    uint8_t iu[24] = {0};
    fc_show(&w,
            (struct frame){.r_ctl = R_CTL_RESPONSE,
                           .type = TYPE_FCP,
                           .f_ctl = 0x980000,
                           .ox_id = 1,
                           .rx_id = 0x999},
            iu, sizeof iu);
    fc_wait(&w);
    cr_assert_eq(UPDATES(w), 0);
    cr_assert_geq(GAPS(w), 2);
}

Test(fc_exchange, damaged_frames_count_as_not_seen) {
    uint8_t bytes[64] = {R_CTL_COMMAND};
    fc_frame(
        w.fc,
        &(struct fc_frame){
            .data = bytes, .bytes = 64, .wire_bytes = 64, .has_crc = true, .time_ns = w.now_ns});
    fc_frame(w.fc, &(struct fc_frame){
                       .data = bytes, .bytes = 60, .wire_bytes = 60, .bad = true, .time_ns = 1});
    cr_assert_eq(fc_counters(w.fc)->damaged, 2);
    fc_wait(&w);
    cr_assert_eq(w.recorder->count, 0);
}

Test(fc_exchange, a_frame_cut_before_its_header_may_be_anything) {
    uint8_t bytes[20] = {R_CTL_COMMAND};
    fc_frame(w.fc,
             &(struct fc_frame){.data = bytes, .bytes = 20, .wire_bytes = 60, .time_ns = w.now_ns});
    expect_whole_gap(w.recorder, 0, GAP_STREAM_HOLE);
}

Test(fc_exchange, a_loss_counter_puts_its_vsan_in_doubt) {
    fc_loss(w.fc, 5, "a counter jumped", w.now_ns);
    cr_assert_eq(GAPS(w), 0);
    fc_loss(w.fc, 0, "a counter jumped", w.now_ns);
    expect_whole_gap(w.recorder, 0, GAP_CAPTURE_LOSS);
}

static void show_abort(uint8_t r_ctl, uint32_t f_ctl) {
    uint8_t payload[12] = {0};
    fc_show(&w, (struct frame){.r_ctl = r_ctl, .f_ctl = f_ctl, .ox_id = 1, .rx_id = 0x101}, payload,
            sizeof payload);
}

Test(fc_exchange, aborted) {
    fc_write_command(&w, 1, 100, 4);
    fc_ready(&w, 1, 0, 2048);
    fc_data(&w, 1, 0, 0, 512, 7);
    show_abort(R_CTL_ABTS, 0x090000);
    fc_wait(&w);
    cr_assert_eq(GAPS(w), 0, "not before the target agrees");
    show_abort(R_CTL_BA_ACC, 0x980000);
    fc_data(&w, 1, 1, 512, 512, 7); /* on its way */
    fc_wait(&w);
    cr_assert_eq(GAPS(w), 1);
    expect_gap(w.recorder, 0, 100, 4, GAP_ABORTED);
    fc_whole_write(&w, 1, 100, 4, 8);
    fc_wait(&w);
    expect_write(0, 100, 4, 8);
}

Test(fc_exchange, reset_of_the_unit) {
    fc_write_command(&w, 1, 100, 1);
    fc_ready(&w, 1, 0, 512);
    fc_data(&w, 1, 0, 0, 512, 7);
    fc_management(&w, 2, FCP_UNIT_RESET);
    fc_response(&w, 2, 0);
    fc_wait(&w);
    expect_gap(w.recorder, 0, 100, 1, GAP_ABORTED);
}

Test(fc_exchange, a_reset_whose_response_was_taken_for_that_of_the_next_command) {
    fc_management(&w, 1, FCP_UNIT_RESET);
    fc_write_command(&w, 1, 100, 1);
    fc_response(&w, 1, 0);
    fc_ready(&w, 1, 0, 512); /* so that one was the reset's, which was over by then */
    fc_data(&w, 1, 0, 0, 512, 7);
    fc_response(&w, 1, 0);
    fc_wait(&w);
    cr_assert_eq(UPDATES(w), 1);
    expect_write(0, 100, 1, 7);
}

/* A capture without times. */
Test(fc_exchange, frames_of_no_known_command_at_time_zero) {
    struct fc_world other;
    uint8_t logout[16] = {ELS_LOGO};
    fc_world_make(&other);
    for (uint16_t ox_id = 1; ox_id <= 3; ox_id++) {
        other.now_ns = UINT64_MAX - NS_PER_MS + 1; /* fc_show() adds it */
        fc_data(&other, ox_id, 0, 0, 512, 7);
    }
    other.now_ns = NS_PER_MS;
    fc_show(&other, (struct frame){.r_ctl = R_CTL_ELS_REQUEST, .type = TYPE_ELS, .f_ctl = 0x290000},
            logout, sizeof logout);
    fc_wait(&other);
    fc_data(&other, 4, 0, 0, 512, 7);
    fc_wait(&other);
    fc_world_end(&other);
}

Test(fc_exchange, logout_ends_commands) {
    uint8_t payload[16] = {0x05};
    fc_write_command(&w, 1, 100, 1);
    fc_ready(&w, 1, 0, 512);
    fc_data(&w, 1, 0, 0, 512, 7);
    fc_show(&w, (struct frame){.r_ctl = R_CTL_ELS_REQUEST, .type = TYPE_ELS, .f_ctl = 0x290000},
            payload, sizeof payload);
    fc_wait(&w);
    expect_gap(w.recorder, 0, 100, 1, GAP_NEXUS_LOST);
}

Test(fc_exchange, sent_again_after_recovery) {
    uint8_t rec[12] = {0x13};
    put_be(rec + 5, FC_INITIATOR, 3);
    put_be(rec + 8, 1, 2);
    fc_write_command(&w, 1, 100, 1);
    fc_ready(&w, 1, 0, 512);
    fc_data(&w, 1, 0, 0, 512, 7);
    fc_show(&w, (struct frame){.r_ctl = R_CTL_ELS_REQUEST, .type = TYPE_ELS, .f_ctl = 0x290000},
            rec, sizeof rec);
    fc_data(&w, 1, 1, 0, 512, 8);
    fc_response(&w, 1, 0);
    fc_wait(&w);
    expect_write(0, 100, 1, 8);
    cr_assert_eq(GAPS(w), 0);
}

Test(fc_exchange, copies_of_each_frame_change_nothing) {
    for (uint16_t i = 0; i < 40; i++) {
        uint16_t ox_id = i % 3;
        uint64_t begin_ns = w.now_ns;
        for (int copy = 0; copy < 2; copy++) {
            w.now_ns = begin_ns + (uint64_t)copy * 1000;
            fc_write_command(&w, ox_id, i, 1);
        }
        for (int copy = 0; copy < 2; copy++)
            fc_ready(&w, ox_id, 0, 512);
        for (int copy = 0; copy < 2; copy++)
            fc_data(&w, ox_id, 0, 0, 512, (uint8_t)i);
        for (int copy = 0; copy < 2; copy++)
            fc_response(&w, ox_id, 0);
    }
    fc_wait(&w);
    fc_wait(&w);
    fc_wait(&w);
    cr_assert_eq(UPDATES(w), 40);
    cr_assert_eq(GAPS(w), 0);
    for (uint8_t i = 0; i < 40; i++)
        expect_write(i, i, 1, i);
}

/* Each frame twice, so that it is clear what kind of mirror this is. */
static void show_that_it_makes_copies(void) {
    for (uint16_t i = 0; i < 4; i++) {
        for (int copy = 0; copy < 2; copy++)
            fc_write_command(&w, 20, i, 1);
        for (int copy = 0; copy < 2; copy++)
            fc_ready(&w, 20, 0, 512);
        for (int copy = 0; copy < 2; copy++)
            fc_data(&w, 20, 0, 0, 512, (uint8_t)i);
        for (int copy = 0; copy < 2; copy++)
            fc_response(&w, 20, 0);
    }
}

/* The target has two identifiers in turn. Two writes of the same OX_ID, 0 and 1 in each byte. */
static void write_in_turn(void) {
    show_that_it_makes_copies();
    w.rx_base = 0x200;
    fc_whole_write(&w, 5, 10, 1, 0);
    w.rx_base = 0x300;
    fc_whole_write(&w, 5, 20, 1, 1);
}

/* What is said of block 30 is a gap, or what was written there, which is not what the copies hold.
 */
static void expect_no_copied_data(void) {
    enum { AT = 30 * 512 };
    bool said = false;
    for (int i = 0; i < 3; i++)
        fc_wait(&w);
    for (size_t i = 0; i < UPDATES(w); i++) {
        const struct recorded *u = recorded_update(w.recorder, i);
        said |= u->lba == 30;
        cr_assert(u->lba != 30 || u->data[0] == 0, "data of the command before");
    }
    for (size_t i = 0; i < GAPS(w); i++) {
        const struct recorded *gap = recorded_at(w.recorder, RECORDED_GAP, i);
        said |= gap->offset_bytes <= AT && gap->length_bytes > AT - gap->offset_bytes;
    }
    cr_assert(said);
}

/* Frames of the write before come again, before those of the new write, which themselves look like
 * those of an older one. The responder's identifier tells, once it is known. */
Test(fc_exchange, copies_of_the_write_before_are_not_data) {
    write_in_turn();
    fc_write_command(&w, 5, 30, 2);
    fc_ready(&w, 5, 0, 512);
    fc_data(&w, 5, 0, 0, 512, 1);
    w.rx_base = 0x200;
    fc_ready(&w, 5, 0, 1024);
    fc_data(&w, 5, 0, 0, 512, 0);
    fc_data(&w, 5, 1, 512, 512, 2);
    fc_response(&w, 5, 0);
    fc_response(&w, 5, 0);
    expect_no_copied_data();
}

/* All of it looks like copies: what differs is nobody's. */
Test(fc_exchange, copies_that_contradict_each_other) {
    write_in_turn();
    fc_write_command(&w, 5, 30, 1);
    fc_ready(&w, 5, 0, 512);
    fc_data(&w, 5, 0, 0, 512, 1);
    w.rx_base = 0x200;
    fc_ready(&w, 5, 0, 512);
    fc_data(&w, 5, 0, 0, 512, 0);
    fc_response(&w, 5, 0);
    fc_response(&w, 5, 0);
    expect_no_copied_data();
}

Test(fc_exchange, read_data_is_no_sign_of_a_lost_write) {
    uint8_t data[512] = {0};
    uint8_t iu[24] = {0};
    struct frame h = {.r_ctl = R_CTL_DATA,
                      .type = TYPE_FCP,
                      .f_ctl = F_CTL_RESPONDER | F_CTL_OFFSET,
                      .ox_id = 3,
                      .rx_id = 3};
    fc_show(&w, h, data, sizeof data);
    h.r_ctl = R_CTL_RESPONSE;
    fc_show(&w, h, iu, sizeof iu);
    fc_wait(&w);
    fc_wait(&w);
    cr_assert_eq(GAPS(w), 0);
}

Test(fc_exchange, what_is_open_at_the_end_is_in_doubt) {
    fc_write_command(&w, 1, 100, 1);
    fc_ready(&w, 1, 0, 512);
    fc_data(&w, 1, 0, 0, 512, 7);
    fc_wait(&w);
    fc_finish(w.fc);
    expect_gap(w.recorder, 0, 100, 1, GAP_STREAM_HOLE);
}

Test(fc_exchange, nvme_is_counted) {
    uint8_t payload[96] = {0};
    fc_show(&w, (struct frame){.r_ctl = R_CTL_COMMAND, .type = TYPE_NVME, .f_ctl = 0x290000},
            payload, sizeof payload);
    fc_wait(&w);
    cr_assert_eq(fc_counters(w.fc)->nvme, 1);
    cr_assert_eq(w.recorder->count, 0);
}
