/* Where connections begin and end. */
#include "tests/unit/tap/tcp_world.h"

#include <string.h>

static struct tcp_world w;

static void start(void) {
    world_init(&w, NULL);
}

TestSuite(tcp_life, .init = start);

Test(tcp_life, joined_in_the_middle) {
    world_send(&w, CLIENT, 0, 501, 70, "def");
    world_send(&w, SERVER, 0, 70, 504, "answer");
    world_send(&w, CLIENT, 0, 498, 70, "abc");
    world_heard(&w, "");
    world_wait(&w, 500);
    world_heard(&w, "open- >abc >def <answer ");
    world_send(&w, CLIENT, 0, 504, 76, "ghi");
    world_heard(&w, "open- >abc >def <answer >ghi ");
    world_end(&w);
}

Test(tcp_life, joined_in_the_middle_the_smaller_port_is_the_server) {
    world_send(&w, SERVER, 0, 1, 1, "first");
    world_wait(&w, 500);
    world_heard(&w, "open- <first ");
    world_end(&w);
}

Test(tcp_life, loss_right_after_joining_is_seen) {
    world_send(&w, CLIENT, 0, 501, 70, "abc");
    world_wait(&w, 500);
    world_send(&w, CLIENT, 0, 504, 80, "def");
    world_wait(&w, 500);
    world_heard(&w, "open- >abc <hole:10 >def ");
    world_end(&w);
}

Test(tcp_life, data_before_the_syn) {
    world_send(&w, CLIENT, 0, 1, 1, "abc");
    world_send(&w, SERVER, 0, 1, 4, "answer");
    world_send(&w, SERVER, TCP_SYN, 0, 1, "");
    world_send(&w, CLIENT, TCP_SYN, 0, 0, "");
    world_heard(&w, "open+ >abc <answer ");
    world_end(&w);
}

Test(tcp_life, syn_ack_not_seen) {
    world_send(&w, CLIENT, TCP_SYN, 0, 0, "");
    world_send(&w, CLIENT, 0, 1, 1, "abc");
    world_send(&w, SERVER, 0, 1, 4, "answer");
    world_wait(&w, 500);
    world_heard(&w, "open+ >abc <answer ");
    world_end(&w);
}

Test(tcp_life, syn_not_seen) {
    world_send(&w, SERVER, TCP_SYN, 0, 1, "");
    world_send(&w, CLIENT, 0, 1, 1, "abc");
    world_heard(&w, "open+ >abc ");
    world_end(&w);
}

Test(tcp_life, syn_again) {
    world_send(&w, CLIENT, TCP_SYN, 0, 0, "");
    world_wait(&w, 1000);
    world_send(&w, CLIENT, TCP_SYN, 0, 0, "");
    world_send(&w, SERVER, TCP_SYN, 0, 1, "");
    world_send(&w, CLIENT, 0, 1, 1, "abc");
    world_send(&w, SERVER, TCP_SYN, 0, 1, "");
    world_send(&w, CLIENT, TCP_SYN, 0, 0, "");
    world_send(&w, CLIENT, 0, 4, 1, "def");
    world_heard(&w, "open+ >abc >def ");
    world_end(&w);
}

Test(tcp_life, both_open_at_once) {
    world_send(&w, CLIENT, TCP_SYN, 0, 0, "");
    world_send(&w, SERVER, TCP_SYN, 0, 0, "");
    world_send(&w, CLIENT, 0, 1, 1, "abc");
    world_heard(&w, "open+ >abc ");
    world_end(&w);
}

Test(tcp_life, fin_before_the_data_it_follows) {
    world_shake_hands(&w);
    world_send(&w, CLIENT, TCP_FIN, 4, 1, "def");
    world_send(&w, SERVER, TCP_FIN, 1, 8, "");
    world_heard(&w, "");
    world_send(&w, CLIENT, 0, 1, 1, "abc");
    world_heard(&w, "open+ >abc >def close:fin ");
    world_end(&w);
}

Test(tcp_life, half_closed_goes_on) {
    world_shake_hands(&w);
    world_send(&w, CLIENT, TCP_FIN, 1, 1, "abc");
    world_send(&w, SERVER, 0, 1, 5, "one");
    world_send(&w, SERVER, TCP_FIN, 4, 5, "two");
    world_heard(&w, "open+ >abc <one <two close:fin ");
    world_end(&w);
}

Test(tcp_life, both_close_at_once) {
    world_shake_hands(&w);
    world_send(&w, CLIENT, TCP_FIN, 1, 1, "abc");
    world_send(&w, SERVER, TCP_FIN, 1, 1, "xyz");
    world_send(&w, CLIENT, 0, 5, 5, "");
    world_send(&w, SERVER, 0, 5, 5, "");
    world_heard(&w, "open+ >abc <xyz close:fin ");
    world_end(&w);
}

Test(tcp_life, late_copies_after_the_end_are_nothing_new) {
    world_shake_hands(&w);
    world_send(&w, CLIENT, TCP_FIN, 1, 1, "abc");
    world_send(&w, SERVER, TCP_FIN, 1, 5, "xyz");
    world_send(&w, CLIENT, TCP_FIN, 1, 1, "abc");
    world_wait(&w, 2000);
    world_send(&w, SERVER, TCP_FIN, 1, 5, "xyz");
    world_wait(&w, 2000);
    world_end(&w);
    world_heard(&w, "open+ >abc <xyz close:fin ");
}

Test(tcp_life, bytes_behind_a_fin_that_was_none) {
    world_shake_hands(&w);
    world_send(&w, CLIENT, TCP_FIN, 1, 1, "abc");
    world_send(&w, CLIENT, 0, 4, 1, "def");
    world_heard(&w, "open+ >abc >hole:1 >ef ");
    world_end(&w);
}

Test(tcp_life, fin_in_the_middle_of_what_is_held_is_none) {
    world_shake_hands(&w);
    world_send(&w, CLIENT, TCP_FIN, 4, 1, "");
    world_send(&w, CLIENT, 0, 4, 1, "def");
    world_send(&w, CLIENT, 0, 1, 1, "abc");
    world_heard(&w, "open+ >abc >def ");
    world_end(&w);
}

Test(tcp_life, fin_before_what_is_held_is_none) {
    world_shake_hands(&w);
    world_send(&w, CLIENT, 0, 4, 1, "def");
    world_send(&w, CLIENT, TCP_FIN, 4, 1, "");
    world_send(&w, CLIENT, 0, 1, 1, "abc");
    world_heard(&w, "open+ >abc >def ");
    world_send(&w, CLIENT, TCP_FIN, 7, 1, "");
    world_send(&w, SERVER, TCP_FIN, 1, 8, "");
    world_heard(&w, "open+ >abc >def close:fin ");
    world_end(&w);
}

Test(tcp_life, reset_lets_what_was_under_way_come_in) {
    world_shake_hands(&w);
    world_send(&w, CLIENT, 0, 1, 1, "abc");
    world_send(&w, CLIENT, TCP_RST, 7, 0, "");
    world_send(&w, CLIENT, 0, 4, 1, "def");
    world_send(&w, SERVER, 0, 1, 7, "answer");
    world_heard(&w, "open+ >abc >def <answer ");
    world_wait(&w, 500);
    world_heard(&w, "open+ >abc >def <answer close:reset ");
    world_end(&w);
}

Test(tcp_life, reset_with_bytes_still_missing) {
    world_shake_hands(&w);
    world_send(&w, CLIENT, 0, 4, 1, "def");
    world_send(&w, CLIENT, TCP_RST, 7, 0, "why it was reset");
    world_wait(&w, 500);
    world_heard(&w, "open+ >hole:3 >def close:reset ");
    world_end(&w);
}

Test(tcp_life, reset_at_the_end_of_the_capture) {
    world_shake_hands(&w);
    world_send(&w, CLIENT, 0, 1, 1, "abc");
    world_send(&w, SERVER, TCP_RST, 1, 4, "");
    world_end(&w);
    world_heard(&w, "open+ >abc close:reset ");
}

Test(tcp_life, stale_reset_is_ignored) {
    world_shake_hands(&w);
    world_send(&w, CLIENT, 0, 1, 1, "abc");
    world_send(&w, SERVER, 0, 1, 4, "");
    world_send(&w, CLIENT, TCP_RST, 2, 0, "");
    world_wait(&w, 1000);
    world_send(&w, CLIENT, 0, 4, 1, "def");
    world_heard(&w, "open+ >abc >def ");
    world_end(&w);
}

Test(tcp_life, reset_of_a_side_that_goes_on_was_none) {
    world_shake_hands(&w);
    world_send(&w, CLIENT, 0, 1, 1, "abc");
    world_send(&w, CLIENT, TCP_RST, 4, 0, "");
    world_send(&w, CLIENT, 0, 4, 1, "def");
    world_wait(&w, 1000);
    world_send(&w, CLIENT, 0, 7, 1, "ghi");
    world_heard(&w, "open+ >abc >def >ghi ");
    world_end(&w);
}

Test(tcp_life, refused_and_tried_again) {
    world_send(&w, CLIENT, TCP_SYN, 0, 0, "");
    w.initial[SERVER] = 0;
    world_send(&w, SERVER, TCP_RST, 0, 1, "");
    w.initial[CLIENT] = 77777;
    w.initial[SERVER] = 88888;
    world_shake_hands(&w);
    world_send(&w, CLIENT, 0, 1, 1, "abc");
    world_heard(&w, "open+ >abc ");
    world_end(&w);
}

Test(tcp_life, ports_used_again_at_once) {
    world_shake_hands(&w);
    world_send(&w, CLIENT, 0, 1, 1, "old");
    world_send(&w, CLIENT, 0, 7, 1, "held");
    w.initial[CLIENT] = 3000000000;
    w.initial[SERVER] = 2000000000;
    world_shake_hands(&w);
    world_heard(&w, "open+ >old >hole:3 >held close:replaced ");
    world_send(&w, CLIENT, 0, 1, 1, "new");
    world_heard(&w, "open+ >old >hole:3 >held close:replaced open+ >new ");
    world_end(&w);
}

Test(tcp_life, ports_used_again_after_an_orderly_end) {
    world_shake_hands(&w);
    world_send(&w, CLIENT, TCP_FIN, 1, 1, "old");
    world_send(&w, SERVER, TCP_FIN, 1, 5, "");
    w.initial[CLIENT] += 500000;
    w.initial[SERVER] += 500000;
    world_shake_hands(&w);
    world_send(&w, CLIENT, 0, 1, 1, "new");
    world_heard(&w, "open+ >old close:fin open+ >new ");
    world_end(&w);
}

Test(tcp_life, late_segments_of_the_former_connection_are_dropped) {
    world_shake_hands(&w);
    world_send(&w, CLIENT, 0, 1, 1, "old");
    uint32_t former = w.initial[CLIENT];
    w.initial[CLIENT] = former + 3000000000;
    world_shake_hands(&w);
    w.initial[CLIENT] = former;
    world_send(&w, CLIENT, 0, 4, 1, "late");
    w.initial[CLIENT] = former + 3000000000;
    world_send(&w, CLIENT, 0, 1, 1, "new");
    world_heard(&w, "open+ >old close:replaced open+ >new ");
    cr_assert_eq(tcp_counters(w.tcp)->outside_window, 1);
    world_end(&w);
}

Test(tcp_life, ports_used_again_and_the_handshake_missed) {
    world_shake_hands(&w);
    world_send(&w, CLIENT, 0, 1, 1, "old");
    w.initial[CLIENT] += 3000000000;
    w.initial[SERVER] += 3000000000;
    world_send(&w, CLIENT, 0, 1, 1, "lost?");
    world_wait(&w, 1000);
    world_send(&w, CLIENT, 0, 6, 1, "new");
    world_wait(&w, 500);
    world_heard(&w, "open+ >old close:replaced open- >new ");
    world_end(&w);
}

Test(tcp_life, handshake_missed_after_an_orderly_end) {
    world_shake_hands(&w);
    world_send(&w, CLIENT, TCP_FIN, 1, 1, "old");
    world_send(&w, SERVER, TCP_FIN, 1, 5, "");
    world_wait(&w, 1000);
    world_send(&w, CLIENT, 0, 100, 300, "new");
    world_wait(&w, 500);
    world_heard(&w, "open+ >old close:fin open- >new ");
    world_end(&w);
}

Test(tcp_life, what_was_under_way_when_it_ended_begins_nothing) {
    world_shake_hands(&w);
    world_send(&w, CLIENT, TCP_FIN, 1, 1, "abc");
    world_send(&w, SERVER, TCP_FIN, 1, 5, "");
    world_wait(&w, 400);
    world_send(&w, SERVER, 0, 50, 5, "stray");
    world_wait(&w, 2000);
    world_end(&w);
    world_heard(&w, "open+ >abc close:fin ");
}

Test(tcp_life, everything_in_the_wrong_order) {
    world_send(&w, SERVER, TCP_FIN, 7, 5, "");
    world_send(&w, CLIENT, TCP_FIN, 4, 1, "");
    world_send(&w, SERVER, 0, 1, 4, "answer");
    world_send(&w, CLIENT, 0, 1, 1, "abc");
    world_send(&w, SERVER, TCP_SYN, 0, 1, "");
    world_heard(&w, "open+ >abc <answer close:fin ");
    world_send(&w, CLIENT, TCP_SYN, 0, 0, "");
    world_end(&w);
    world_heard(&w, "open+ >abc <answer close:fin ");
}

Test(tcp_life, refused_by_the_consumer) {
    w.refuse_open = true;
    world_shake_hands(&w);
    world_send(&w, CLIENT, 0, 1, 1, "abc");
    world_send(&w, CLIENT, 0, 7, 1, "ghi");
    world_send(&w, SERVER, TCP_RST, 1, 4, "");
    world_end(&w);
    world_heard(&w, "open+ ");
}

Test(tcp_life, given_up_by_the_consumer) {
    w.accept = 2;
    world_shake_hands(&w);
    world_send(&w, CLIENT, 0, 4, 1, "def");
    world_send(&w, CLIENT, 0, 7, 1, "ghi");
    world_send(&w, CLIENT, 0, 1, 1, "abc");
    world_send(&w, CLIENT, 0, 10, 1, "jkl");
    world_heard(&w, "open+ >abc >def ");
    w.accept = 0;
    w.initial[CLIENT] += 1000000;
    world_shake_hands(&w);
    world_send(&w, CLIENT, 0, 1, 1, "new");
    world_heard(&w, "open+ >abc >def open+ >new ");
    world_end(&w);
}

Test(tcp_life, ignored_connection_that_ends_and_lives_again_unseen) {
    w.refuse_open = true;
    world_shake_hands(&w);
    world_send(&w, CLIENT, TCP_FIN, 1, 1, "abc");
    world_send(&w, SERVER, TCP_FIN, 1, 5, "");
    world_heard(&w, "open+ ");
    w.refuse_open = false;
    world_wait(&w, 1000);
    world_send(&w, CLIENT, 0, 100, 100, "new");
    world_wait(&w, 500);
    world_heard(&w, "open+ open- >new ");
    world_end(&w);
}

static void flood(uint16_t first_port, unsigned count) {
    uint16_t port = w.port[CLIENT];
    for (unsigned i = 0; i < count; i++) {
        w.port[CLIENT] = (uint16_t)(first_port + i);
        world_send(&w, CLIENT, TCP_SYN, 0, 0, "");
    }
    w.port[CLIENT] = port;
}

Test(tcp_life, a_flood_of_syns_pushes_out_half_open_ones_only) {
    struct tcp_limits limits = tcp_default_limits();
    limits.connections = 100;
    world_end(&w);
    world_init(&w, &limits);
    world_shake_hands(&w);
    world_send(&w, CLIENT, 0, 1, 1, "abc");
    flood(1, 10000);
    cr_assert_eq(tcp_counters(w.tcp)->evicted, 10000 - 99);
    world_send(&w, CLIENT, 0, 4, 1, "def");
    world_heard(&w, "open+ >abc >def ");
    world_end(&w);
}

Test(tcp_life, too_many_connections_the_most_silent_one_goes) {
    struct tcp_limits limits = tcp_default_limits();
    limits.connections = 2;
    world_end(&w);
    world_init(&w, &limits);
    world_shake_hands(&w);
    world_send(&w, CLIENT, 0, 1, 1, "one");
    w.port[CLIENT] = 40001;
    world_shake_hands(&w);
    world_send(&w, CLIENT, 0, 1, 1, "two");
    w.port[CLIENT] = 40000;
    world_send(&w, CLIENT, 0, 4, 1, "one");
    w.port[CLIENT] = 40002;
    world_shake_hands(&w);
    world_send(&w, CLIENT, 0, 1, 1, "three");
    world_heard(&w, "open+ >one open+ >two >one close:evicted open+ >three ");
    w.port[CLIENT] = 40000;
    world_send(&w, CLIENT, 0, 7, 1, "one");
    world_heard(&w, "open+ >one open+ >two >one close:evicted open+ >three >one ");
    world_end(&w);
}
