/*
 * What is sent twice need not be the same, and the receiver took one copy. The monitor gives the
 * one that it sees first, and says so when it cannot be sure that it was that one.
 */
#include "common/clock.h"
#include "tap/tcp/passed.h"
#include "tests/unit/tap/tcp_world.h"

#include <string.h>

static struct tcp_world w;

static void start(void) {
    world_init(&w, NULL);
    world_shake_hands(&w);
}

static void stop(void) {
    world_end(&w);
}

TestSuite(tcp_copies, .init = start, .fini = stop);

static void client(uint32_t sequence, const char *text, uint32_t stamp) {
    w.stamp = stamp;
    w.echo = 1;
    world_send(&w, CLIENT, 0, sequence, 1, text);
}

static void server(uint32_t ack, uint32_t echo) {
    w.stamp = 1;
    w.echo = echo;
    world_send(&w, SERVER, 0, 1, ack, "");
}

/* The copy comes first, and an acknowledgement shows that the receiver had the bytes before. */
Test(tcp_copies, one_that_was_not_needed_overtakes_the_first) {
    client(1, "abc", 10);
    client(7, "ghi", 10);
    client(4, "DEF", 30);
    world_heard(&w, "open+ >abc >DEF >ghi ");
    server(10, 31);
    world_heard(&w, "open+ >abc >DEF >ghi ");
    server(7, 10); /* late */
    world_heard(&w, "open+ >abc >DEF >ghi >twice:DEF ");
    client(4, "def", 10);
    world_heard(&w, "open+ >abc >DEF >ghi >twice:DEF ");
}

/* That it is a copy shows when bytes behind it come that were sent earlier. */
Test(tcp_copies, one_that_overtakes_all) {
    client(1, "abc", 10);
    client(4, "DEF", 30);
    server(7, 10);
    world_heard(&w, "open+ >abc >DEF ");
    client(7, "ghi", 10);
    world_heard(&w, "open+ >abc >DEF >twice:DEF >ghi ");
}

Test(tcp_copies, one_that_was_needed_is_believed) {
    client(1, "abc", 10);
    client(7, "ghi", 10);
    client(4, "DEF", 30);
    server(4, 10);
    server(10, 30);
    world_heard(&w, "open+ >abc >DEF >ghi ");
    cr_assert_eq(tcp_counters(w.tcp)->conflicting_bytes, 0);
}

/* It was held, and what tells came meanwhile. */
Test(tcp_copies, one_that_is_held_when_it_turns_out_to_be_late) {
    client(1, "abc", 10);
    client(10, "jkl", 10);
    client(7, "GHI", 30);
    server(10, 10);
    client(4, "def", 10);
    world_heard(&w, "open+ >abc >def >GHI >twice:GHI >jkl ");
}

/* Both directions overtake: the acknowledgement is for the second copy. */
Test(tcp_copies, the_first_was_lost_behind_the_mirror) {
    client(1, "abc", 10);
    client(4, "def", 10);
    server(7, 30);
    client(4, "DEF", 30);
    world_heard(&w, "open+ >abc >def >twice:def ");
}

/* An acknowledgement may wait for a second segment, and echoes the first then. */
Test(tcp_copies, the_last_of_a_burst_may_have_been_lost_behind_the_mirror) {
    client(1, "abc", 10);
    client(4, "def", 10);
    client(4, "DEF", 12);
    server(7, 10);
    world_heard(&w, "open+ >abc >def >twice:def ");
}

Test(tcp_copies, the_first_was_received_long_before) {
    client(1, "abc", 10);
    client(4, "def", 10);
    server(7, 10);
    world_wait(&w, 60);
    client(4, "DEF", 70);
    world_heard(&w, "open+ >abc >def ");
}

Test(tcp_copies, only_the_bytes_of_both_are_in_doubt) {
    client(1, "abcdef", 10);
    client(7, "ghijkl", 10);
    client(4, "DEFGHI", 30);
    world_heard(&w, "open+ >abcdef >ghijkl ");
    server(13, 30);
    world_heard(&w, "open+ >abcdef >ghijkl >twice:defghi ");
}

Test(tcp_copies, nobody_tells_which_of_three) {
    client(1, "abc", 10);
    client(1, "ABC", 20);
    client(1, "aBc", 30);
    world_heard(&w, "open+ >abc >twice:abc ");
    server(4, 10);
    world_heard(&w, "open+ >abc >twice:abc ");
}

Test(tcp_copies, without_timestamps) {
    world_send(&w, CLIENT, 0, 1, 1, "abcdef");
    world_send(&w, SERVER, 0, 1, 7, "");
    world_wait(&w, 10);
    world_send(&w, CLIENT, 0, 1, 1, "ABC");
    world_heard(&w, "open+ >abcdef >twice:abc ");
    world_wait(&w, 60);
    world_send(&w, CLIENT, 0, 4, 1, "DEF"); /* so much later that it was not needed */
    world_heard(&w, "open+ >abcdef >twice:abc ");
}

/* What the consumer has forgotten is in doubt only when the copy can have been taken. */
Test(tcp_copies, forgotten_by_the_consumer) {
    w.forgetful = true;
    client(1, "abc", 10);
    client(1, "abc", 10);
    server(4, 10);
    client(1, "abc", 12);
    world_heard(&w, "open+ >abc ");
    client(4, "def", 14);
    server(7, 20);
    client(4, "def", 20);
    world_heard(&w, "open+ >abc >def >twice:def ");
}

Test(tcp_copies, forgotten_long_ago) {
    w.forgetful = true;
    client(1, "abc", 10);
    server(4, 20);
    world_wait(&w, 501);
    client(1, "abc", 20);
    world_heard(&w, "open+ >abc ");
}

Test(tcp_copies, compared_before_they_were_forgotten) {
    client(1, "abc", 10);
    client(1, "abc", 20);
    server(4, 20);
    w.forgetful = true;
    client(1, "abc", 20); /* a duplicate of the mirror's */
    world_heard(&w, "open+ >abc ");
}

/* However many runs there are, no more are kept than the limit; what is forgotten unsettled is
 * said.
 */
Test(tcp_copies, very_many_runs) {
    client(1, "a", 1);
    client(1, "A", 2);
    for (uint32_t i = 1; i < 3 * PASSED_MOST; i++)
        client(1 + i, "b", 2 + i);
    cr_assert_not_null(strstr(w.heard, ">twice:a "));
    server(2, 1);
    client(3 * PASSED_MOST, "B", 1);
    cr_assert_eq(tcp_counters(w.tcp)->conflicting_bytes, 2);
}
