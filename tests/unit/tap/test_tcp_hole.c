/* What is lost is said, what may still come is waited for, and neither takes memory without bound.
 */
#include "common/clock.h"
#include "tests/unit/tap/tcp_world.h"

#include <stdio.h>
#include <string.h>

static struct tcp_world w;

static void start(void) {
    world_init(&w, NULL);
    world_shake_hands(&w);
}

TestSuite(tcp_hole, .init = start);

Test(tcp_hole, acknowledged_and_not_seen_is_lost_after_the_window) {
    world_send(&w, CLIENT, 0, 1, 1, "abc");
    world_send(&w, CLIENT, 0, 7, 1, "ghi");
    world_send(&w, SERVER, 0, 1, 10, "");
    world_wait(&w, 499);
    world_heard(&w, "open+ >abc ");
    world_wait(&w, 1);
    world_wait(&w, 500);
    world_heard(&w, "open+ >abc >hole:3 >ghi ");
    cr_assert_eq(w.data_time_ms, w.ms - 1000, "its own time, not that of the decision");
    cr_assert_leq(w.hole_time_ms, w.ms - 1000, "before the loss can have happened");
    cr_assert_eq(tcp_counters(w.tcp)->holes, 1);
    cr_assert_eq(tcp_counters(w.tcp)->hole_bytes, 3);
    world_send(&w, CLIENT, 0, 10, 1, "jkl");
    world_heard(&w, "open+ >abc >hole:3 >ghi >jkl ");
    world_end(&w);
}

Test(tcp_hole, what_is_undecided_is_pending_since_then) {
    cr_assert_eq(tcp_oldest_pending(w.tcp), UINT64_MAX);
    world_send(&w, CLIENT, 0, 1, 1, "abc");
    cr_assert_eq(tcp_oldest_pending(w.tcp), UINT64_MAX, "nothing is missing");
    uint64_t since_ns = w.ms * NS_PER_MS;
    world_send(&w, CLIENT, 0, 7, 1, "ghi");
    world_wait(&w, 300);
    world_send(&w, SERVER, 0, 1, 10, "");
    world_wait(&w, 100);
    cr_assert_eq(tcp_oldest_pending(w.tcp), since_ns);
    world_wait(&w, 100);
    cr_assert_eq(tcp_oldest_pending(w.tcp), since_ns, "looked at, and not settled yet");
    world_wait(&w, 500);
    world_heard(&w, "open+ >abc >hole:3 >ghi ");
    cr_assert_eq(tcp_oldest_pending(w.tcp), UINT64_MAX, "decided");
    world_end(&w);
}

Test(tcp_hole, bytes_that_nobody_has_do_not_hold_the_rest_up_for_ever) {
    world_send(&w, CLIENT, 0, 7, 1, "ghi");
    for (unsigned i = 0; i < 20; i++)
        world_wait(&w, 500);
    cr_assert_geq(tcp_oldest_pending(w.tcp), (w.ms - 1000) * NS_PER_MS);
    world_end(&w);
}

Test(tcp_hole, not_acknowledged_is_waited_for) {
    world_send(&w, CLIENT, 0, 1, 1, "abc");
    world_send(&w, CLIENT, 0, 7, 1, "ghi");
    world_send(&w, SERVER, 0, 1, 4, "");
    world_wait(&w, 20000);
    world_heard(&w, "open+ >abc ");
    world_send(&w, CLIENT, 0, 4, 1, "def");
    world_heard(&w, "open+ >abc >def >ghi ");
    world_end(&w);
}

Test(tcp_hole, the_window_begins_with_the_acknowledgement) {
    world_send(&w, CLIENT, 0, 4, 1, "def");
    world_wait(&w, 3000);
    /* The retransmission was late in the mirror, its acknowledgement was not. */
    world_send(&w, SERVER, 0, 1, 7, "");
    world_wait(&w, 40);
    world_send(&w, CLIENT, 0, 1, 1, "abc");
    world_heard(&w, "open+ >abc >def ");
    world_end(&w);
}

/*
 * The first copy of "def" was lost by the mirror alone. What the client sends again, though it need
 * not, is what its memory holds by then.
 */
Test(tcp_hole, what_is_sent_needlessly_fills_no_hole) {
    world_send(&w, CLIENT, 0, 1, 1, "abc");
    world_send(&w, SERVER, 0, 1, 7, "done");
    world_wait(&w, 60);
    world_send(&w, CLIENT, 0, 1, 1, "abcDEFghi");
    world_heard(&w, "open+ >abc ");
    cr_assert_eq(tcp_counters(w.tcp)->sent_needlessly, 3);
    world_wait(&w, 1000);
    world_wait(&w, 1000);
    world_heard(&w, "open+ >abc >hole:3 >ghi <done ");
    world_end(&w);
}

static void send_stamped(int from, uint32_t sequence, uint32_t ack, const char *text,
                         uint32_t stamp, uint32_t echo) {
    w.stamp = stamp;
    w.echo = echo;
    world_send(&w, from, 0, sequence, ack, text);
}

/* Timestamps tell the late copy from the new one, whenever the mirror shows them. */
Test(tcp_hole, timestamps_tell_what_was_sent_needlessly) {
    send_stamped(CLIENT, 1, 1, "abc", 0xfffffff0, 5);
    send_stamped(SERVER, 1, 10, "done", 9, 0xfffffff2);
    send_stamped(CLIENT, 7, 1, "ghi", 1, 5); /* wrapped */
    world_wait(&w, 5);
    send_stamped(CLIENT, 4, 1, "DEF", 3, 5);
    world_heard(&w, "open+ >abc ");
    world_wait(&w, 30);
    send_stamped(CLIENT, 4, 1, "def", 0xffffffff, 5);
    world_heard(&w, "open+ >abc >def >ghi <done ");
    cr_assert_eq(tcp_counters(w.tcp)->sent_needlessly, 3);
    world_end(&w);
}

Test(tcp_hole, very_many_acknowledgements_of_what_is_missing) {
    for (uint32_t i = 1; i < 5000; i++)
        send_stamped(SERVER, 1, 1 + i, "", 1, i);
    send_stamped(CLIENT, 5, 1, "e", 1, 1);
    send_stamped(CLIENT, 1, 1, "ab", 1, 1);
    world_heard(&w, "open+ >ab ");
    send_stamped(CLIENT, 3, 1, "c", 4, 1);
    cr_assert_eq(tcp_counters(w.tcp)->sent_needlessly, 1);
    world_end(&w);
}

Test(tcp_hole, lost_at_the_end_of_a_burst) {
    world_send(&w, CLIENT, 0, 1, 1, "abc");
    world_send(&w, SERVER, 0, 1, 7, "answer");
    world_heard(&w, "open+ >abc ");
    world_wait(&w, 500);
    world_heard(&w, "open+ >abc >hole:3 <answer ");
    world_end(&w);
}

Test(tcp_hole, only_what_was_acknowledged_is_lost) {
    world_send(&w, CLIENT, 0, 1, 1, "abc");
    world_send(&w, CLIENT, 0, 10, 1, "jkl");
    world_send(&w, SERVER, 0, 1, 7, "");
    world_wait(&w, 500);
    world_wait(&w, 500);
    world_heard(&w, "open+ >abc >hole:3 ");
    world_send(&w, CLIENT, 0, 7, 1, "ghi");
    world_heard(&w, "open+ >abc >hole:3 >ghi >jkl ");
    world_end(&w);
}

Test(tcp_hole, one_direction_only) {
    world_send(&w, SERVER, 0, 1, 4, "one");
    world_send(&w, SERVER, 0, 4, 8, "two");
    world_wait(&w, 500);
    world_wait(&w, 500);
    world_heard(&w, "open+ >hole:3 <one >hole:4 <two ");
    world_end(&w);
}

Test(tcp_hole, segment_cut_by_the_snap_length) {
    world_send_cut(&w, CLIENT, 1, 1, "abc", 5);
    world_send(&w, CLIENT, 0, 9, 1, "ijk");
    world_heard(&w, "open+ >abc >hole:5 >ijk ");
    world_send_cut(&w, CLIENT, 15, 1, "op", 2);
    world_send(&w, CLIENT, 0, 12, 1, "lmn");
    world_heard(&w, "open+ >abc >hole:5 >ijk >lmn >op >hole:2 ");
    cr_assert_eq(tcp_counters(w.tcp)->cut_segments, 2);
    cr_assert_eq(tcp_counters(w.tcp)->hole_bytes, 7);
    world_end(&w);
}

Test(tcp_hole, cut_segments_overlap) {
    world_send_cut(&w, CLIENT, 5, 1, "e", 7);
    world_send(&w, CLIENT, 0, 1, 1, "abcdef");
    world_heard(&w, "open+ >abcd >e >hole:7 ");
    world_send_cut(&w, CLIENT, 10, 1, "jkl", 2);
    world_send(&w, CLIENT, 0, 15, 1, "o");
    world_heard(&w, "open+ >abcd >e >hole:7 >hole:2 >o ");
    world_end(&w);
}

Test(tcp_hole, acknowledgements_that_cannot_be_true_do_not_stop_the_stream) {
    world_send(&w, CLIENT, 0, 1, 4, "abc");
    world_send(&w, SERVER, 0, 1, 4, "xyz");
    world_heard(&w, "");
    world_wait(&w, 500);
    world_heard(&w, "open+ >abc <xyz ");
    world_end(&w);
}

Test(tcp_hole, retransmission_seen_before_its_original_depends_on_less) {
    world_send(&w, CLIENT, 0, 1, 4, "abc");
    world_heard(&w, "");
    world_send(&w, CLIENT, 0, 1, 1, "abc");
    world_heard(&w, "open+ >abc ");
    world_end(&w);
}

Test(tcp_hole, the_end_delivers_what_is_held) {
    world_send(&w, CLIENT, 0, 4, 1, "def");
    world_send(&w, CLIENT, 0, 10, 1, "jkl");
    world_send(&w, SERVER, 0, 1, 20, "answer");
    world_end(&w);
    world_heard(&w, "open+ >hole:3 >def >hole:3 >jkl >hole:7 <answer close:shutdown ");
}

Test(tcp_hole, a_connection_that_holds_too_much_gives_up_its_first_hole) {
    struct tcp_limits limits = tcp_default_limits();
    limits.connection_bytes = 4096;
    world_end(&w);
    world_init(&w, &limits);
    world_shake_hands(&w);
    world_send(&w, CLIENT, 0, 1, 1, "abc");
    char text[1001];
    memset(text, 'x', 1000);
    text[1000] = '\0';
    for (uint32_t i = 0; i < 3; i++)
        world_send(&w, CLIENT, 0, 5 + i * 1000, 1, text);
    world_heard(&w, "open+ >abc ");
    world_send(&w, CLIENT, 0, 3006, 1, text);
    cr_assert_eq(tcp_counters(w.tcp)->holes, 1);
    cr_assert_eq(tcp_counters(w.tcp)->hole_bytes, 1);
    cr_assert_eq(tcp_counters(w.tcp)->given_up, 1);
    cr_assert_gt(strlen(w.heard), 3000, "what was behind it is delivered");
    cr_assert_lt(strlen(w.heard), 3100, "what is behind the next hole isn't");
    world_end(&w);
}

/* A segment with a hole before it, on its own connection; open() is to be heard for `expected`. */
static void hold_on_port(uint16_t port, uint16_t expected, const char *text) {
    w.port[CLIENT] = port;
    w.expected_port = expected;
    world_send(&w, CLIENT, 0, 4, 1, text);
}

Test(tcp_hole, all_together_hold_too_much_and_the_oldest_gives_up) {
    struct tcp_limits limits = tcp_default_limits();
    limits.total_bytes = 3000;
    world_end(&w);
    world_init(&w, &limits);
    char text[801];
    memset(text, 'x', 800);
    text[800] = '\0';
    for (uint16_t port = 40000; port < 40004; port++) {
        w.port[CLIENT] = port;
        world_shake_hands(&w);
    }
    for (uint16_t port = 40000; port < 40003; port++)
        hold_on_port(port, port, text);
    world_heard(&w, "");
    hold_on_port(40003, 40000, text);
    cr_assert_eq(strncmp(w.heard, "open+ >hole:3 >xxx", 18), 0, "%s", w.heard);
    cr_assert_eq(tcp_counters(w.tcp)->holes, 1);
}

Test(tcp_hole, silent_and_waiting_for_too_long) {
    world_send(&w, CLIENT, 0, 4, 1, "def");
    world_wait(&w, 3599000);
    world_heard(&w, "");
    world_wait(&w, 3000);
    world_heard(&w, "open+ >hole:3 >def close:evicted ");
    cr_assert_eq(tcp_counters(w.tcp)->evicted, 1);
    world_end(&w);
}

Test(tcp_hole, silent_and_waiting_for_nothing_is_kept) {
    world_send(&w, CLIENT, 0, 1, 1, "abc");
    world_wait(&w, 24 * 3600000);
    world_send(&w, CLIENT, 0, 4, 1, "def");
    world_heard(&w, "open+ >abc >def ");
    world_end(&w);
}
