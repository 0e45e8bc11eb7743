/* Bytes exactly once, in order, and never before what they answer. */
#include "common/clock.h"
#include "tests/unit/tap/tcp_world.h"

#include <stdlib.h>
#include <string.h>

static struct tcp_world w;

static void start(void) {
    world_init(&w, NULL);
    world_shake_hands(&w);
}

TestSuite(tcp_order, .init = start);

Test(tcp_order, both_directions_and_an_orderly_end) {
    world_send(&w, CLIENT, 0, 1, 1, "question");
    world_send(&w, SERVER, 0, 1, 9, "answer");
    world_send(&w, CLIENT, TCP_FIN, 9, 7, "");
    world_heard(&w, "open+ >question <answer ");
    world_send(&w, SERVER, TCP_FIN, 7, 10, "bye");
    world_heard(&w, "open+ >question <answer <bye close:fin ");
    world_send(&w, CLIENT, 0, 10, 11, "");
    world_end(&w);
    world_heard(&w, "open+ >question <answer <bye close:fin ");
}

Test(tcp_order, a_connection_without_data_is_nobody_s_business) {
    world_send(&w, CLIENT, TCP_FIN, 1, 1, "");
    world_send(&w, SERVER, TCP_FIN, 1, 2, "");
    world_end(&w);
    world_heard(&w, "");
}

Test(tcp_order, answer_seen_before_the_question_waits) {
    world_send(&w, SERVER, 0, 1, 9, "answer");
    world_heard(&w, "");
    w.ms += 7;
    world_send(&w, CLIENT, 0, 1, 1, "question");
    world_heard(&w, "open+ >question <answer ");
    cr_assert_eq(w.data_time_ms, w.ms - 7, "its own time");
    world_end(&w);
}

Test(tcp_order, stamps_that_step_back_do_not_make_data_older) {
    w.ms += 20;
    world_send(&w, SERVER, 0, 1, 9, "answer");
    w.ms -= 15;
    world_send(&w, CLIENT, 0, 1, 1, "question");
    world_heard(&w, "open+ >question <answer ");
    cr_assert_eq(w.data_time_ms, w.ms + 15, "its own time is the later one");
    world_end(&w);
}

Test(tcp_order, segments_out_of_order) {
    world_send(&w, CLIENT, 0, 7, 1, "ghi");
    world_send(&w, CLIENT, 0, 4, 1, "def");
    world_heard(&w, "");
    world_send(&w, CLIENT, 0, 1, 1, "abc");
    world_heard(&w, "open+ >abc >def >ghi ");
    cr_assert_eq(tcp_counters(w.tcp)->out_of_order, 2);
    world_end(&w);
}

Test(tcp_order, copies_of_the_mirror_count_once) {
    world_send(&w, CLIENT, 0, 1, 1, "abc");
    world_send(&w, CLIENT, 0, 1, 1, "abc");
    world_send(&w, CLIENT, 0, 7, 1, "ghi");
    world_send(&w, CLIENT, 0, 7, 1, "ghi");
    world_send(&w, CLIENT, 0, 4, 1, "def");
    world_heard(&w, "open+ >abc >def >ghi ");
    cr_assert_eq(tcp_counters(w.tcp)->duplicate_bytes, 6);
    cr_assert_eq(tcp_counters(w.tcp)->conflicting_bytes, 0);
    world_end(&w);
}

Test(tcp_order, retransmission_with_other_boundaries) {
    world_send(&w, CLIENT, 0, 1, 1, "abcd");
    world_send(&w, CLIENT, 0, 3, 1, "cdefgh");
    world_heard(&w, "open+ >abcd >efgh ");
    world_send(&w, CLIENT, 0, 11, 1, "kl");
    world_send(&w, CLIENT, 0, 14, 1, "n");
    world_send(&w, CLIENT, 0, 8, 1, "hijklmnop");
    world_heard(&w, "open+ >abcd >efgh >ij >kl >m >n >op ");
    world_end(&w);
}

/* Nobody knows which copy the receiver took. */
Test(tcp_order, what_two_copies_say_differently_is_a_hole) {
    world_send(&w, CLIENT, 0, 4, 1, "def");
    world_send(&w, CLIENT, 0, 1, 1, "abcDeFghi");
    world_heard(&w, "open+ >abc >hole:3 >ghi ");
    cr_assert_eq(tcp_counters(w.tcp)->conflicting_bytes, 2);
    cr_assert_eq(tcp_counters(w.tcp)->hole_bytes, 3);
    world_end(&w);
}

Test(tcp_order, keep_alives_carry_nothing) {
    world_send(&w, CLIENT, 0, 1, 1, "abc");
    world_send(&w, CLIENT, 0, 3, 1, "?");
    world_send(&w, CLIENT, 0, 3, 1, "");
    world_send(&w, CLIENT, 0, 4, 1, "def");
    world_heard(&w, "open+ >abc >def ");
    world_end(&w);
}

Test(tcp_order, zero_window_probe_and_the_same_byte_again) {
    world_send(&w, CLIENT, 0, 1, 1, "abc");
    world_send(&w, CLIENT, 0, 4, 1, "d");
    world_send(&w, CLIENT, 0, 4, 1, "def");
    world_heard(&w, "open+ >abc >d >ef ");
    world_end(&w);
}

Test(tcp_order, data_in_the_syn) {
    world_end(&w);
    world_init(&w, NULL);
    world_send(&w, CLIENT, TCP_SYN, 0, 0, "fast");
    world_send(&w, SERVER, TCP_SYN, 0, 5, "open");
    world_heard(&w, "open+ >fast <open ");
    world_end(&w);
}

Test(tcp_order, sequence_numbers_wrap) {
    world_end(&w);
    world_init(&w, NULL);
    w.initial[CLIENT] = UINT32_MAX - 4;
    w.initial[SERVER] = UINT32_MAX;
    world_shake_hands(&w);
    world_send(&w, CLIENT, 0, 4, 1, "defghi");
    world_send(&w, SERVER, 0, 1, 10, "answer");
    world_send(&w, CLIENT, 0, 1, 1, "abc");
    world_heard(&w, "open+ >abc >defghi <answer ");
    world_end(&w);
}

static uint64_t counted;

static void *count_open(void *context, const struct tcp_endpoints *endpoints, bool from_start,
                        uint64_t time_ns) {
    (void)endpoints;
    (void)from_start;
    (void)time_ns;
    return context;
}

static bool count_data(void *connection, enum tcp_direction direction, const uint8_t *data,
                       size_t bytes, uint64_t time_ns) {
    (void)direction;
    (void)time_ns;
    cr_assert_eq(data, connection, "in order, straight from the packet, without a copy");
    counted += bytes;
    return true;
}

static bool count_hole(void *connection, enum tcp_direction direction, uint64_t bytes,
                       uint64_t time_ns) {
    (void)connection;
    (void)direction;
    (void)bytes;
    (void)time_ns;
    cr_assert(false, "nothing is missing");
    return false;
}

static void count_close(void *connection, enum tcp_end why, uint64_t time_ns) {
    (void)connection;
    (void)why;
    (void)time_ns;
}

Test(tcp_order, six_gigabytes_in_one_connection) {
    enum { SEGMENT = 1 << 20, SEGMENTS = 6000 };
    static uint8_t payload[SEGMENT];
    struct tcp_consumer consumer = {.context = payload,
                                    .open = count_open,
                                    .data = count_data,
                                    .hole = count_hole,
                                    .close = count_close};
    struct tcp_limits limits = tcp_default_limits();
    struct tcp *tcp = tcp_create(&consumer, &limits);
    struct tcp_segment segment = {.family = 4,
                                  .source = (const uint8_t[]){10, 0, 0, 1},
                                  .destination = (const uint8_t[]){10, 0, 0, 2},
                                  .source_port = 40000,
                                  .destination_port = 3260,
                                  .sequence = 77,
                                  .flags = TCP_SYN,
                                  .data = payload};
    struct tcp_segment answer = {.family = 4,
                                 .source = segment.destination,
                                 .destination = segment.source,
                                 .source_port = 3260,
                                 .destination_port = 40000,
                                 .acknowledgement = 78,
                                 .flags = TCP_SYN | TCP_ACK,
                                 .data = payload};
    tcp_segment(tcp, &segment);
    tcp_segment(tcp, &answer);
    segment.flags = 0;
    segment.sequence++;
    segment.data_bytes = SEGMENT;
    segment.wire_bytes = SEGMENT;
    for (unsigned i = 0; i < SEGMENTS; i++) {
        tcp_segment(tcp, &segment);
        segment.sequence += SEGMENT;
    }
    tcp_destroy(tcp);
    cr_assert_eq(counted, (uint64_t)SEGMENTS * SEGMENT);
    world_end(&w);
}

Test(tcp_order, ipv6_and_ipv4_are_different_connections) {
    uint8_t a[16] = {10, 0, 0, 1};
    uint8_t b[16] = {10, 0, 0, 2};
    struct tcp_segment segment = {.family = 6,
                                  .source = a,
                                  .destination = b,
                                  .source_port = w.port[CLIENT],
                                  .destination_port = w.port[SERVER],
                                  .sequence = w.initial[CLIENT] + 1,
                                  .data = (const uint8_t *)"six",
                                  .data_bytes = 3,
                                  .wire_bytes = 3,
                                  .time_ns = w.ms * NS_PER_MS};
    tcp_segment(w.tcp, &segment);
    world_send(&w, CLIENT, 0, 1, 1, "four");
    world_heard(&w, "open+ >four ");
    world_end(&w);
}
