#include "common/clock.h"
#include "tap/decap/decap.h"
#include "tests/unit/tap/frame_maker.h"

#include <criterion/criterion.h>
#include <string.h>

enum { RAW = 101, TCP = 6, IPV4_MORE = 0x2000 };

static struct decap *d;
static unsigned segments;
static char text[70000];
static uint64_t now_ns = UINT64_C(1700000000) * NS_PER_SECOND;

/* The datagram to be sent in pieces. */
static struct made_frame whole;
static const char *const hello =
    "hello, this is one datagram in several pieces, of which each is needed";

static void start(void) {
    d = decap_create();
    frame_init(&whole);
    frame_tcp(&whole, 4, 0, hello);
}

static void stop(void) {
    decap_destroy(d);
}

TestSuite(fragment, .init = start, .fini = stop);

static void show(struct made_frame *f, size_t cut) {
    struct packet packet = {.data = frame_data(f),
                            .caplen = (uint32_t)(frame_length(f) - cut),
                            .wire_length = (uint32_t)frame_length(f),
                            .link_type = RAW,
                            .time_ns = now_ns};
    struct decap_result found;
    if (decap_packet(d, &packet, &found) != DECAP_TCP)
        return;
    segments++;
    cr_assert_eq(found.tcp.data_bytes, found.tcp.wire_bytes);
    memcpy(text, found.tcp.data, found.tcp.data_bytes);
    text[found.tcp.data_bytes] = '\0';
}

/* Bytes [start, end) of the datagram, all that are there when end is 0. */
static void send_piece(uint16_t id, size_t start, size_t end) {
    static struct made_frame f;
    bool last = end == 0;
    frame_init(&f);
    frame_front(&f, frame_at(&whole, start), (last ? frame_length(&whole) : end) - start);
    frame_ipv4(&f, TCP, id, (uint16_t)(start / 8 | (last ? 0 : IPV4_MORE)));
    show(&f, 0);
}

static void expect_hello(unsigned times) {
    cr_assert_eq(segments, times);
    if (times > 0)
        cr_assert_str_eq(text, hello);
}

Test(fragment, in_order) {
    send_piece(1, 0, 24);
    send_piece(1, 24, 48);
    expect_hello(0);
    send_piece(1, 48, 0);
    expect_hello(1);
    cr_assert_eq(decap_dropped(d, DECAP_FRAGMENT_LOST), 0);
}

Test(fragment, backwards) {
    send_piece(1, 48, 0);
    send_piece(1, 24, 48);
    send_piece(1, 0, 24);
    expect_hello(1);
}

Test(fragment, two_datagrams_at_once) {
    send_piece(1, 0, 24);
    send_piece(2, 0, 48);
    send_piece(1, 24, 0);
    expect_hello(1);
    send_piece(2, 48, 0);
    expect_hello(2);
}

Test(fragment, copies_of_the_mirror) {
    for (unsigned i = 0; i < 2; i++)
        send_piece(1, 0, 24);
    for (unsigned i = 0; i < 2; i++)
        send_piece(1, 24, 0);
    expect_hello(1);
    now_ns += 40 * NS_PER_SECOND;
    send_piece(2, 0, 24);
    cr_assert_eq(decap_dropped(d, DECAP_FRAGMENT_LOST), 0, "the copies wait for nothing");
}

Test(fragment, first_copy_of_overlapping_bytes_wins) {
    send_piece(1, 24, 48);
    *frame_at(&whole, 30) ^= 0xff;
    send_piece(1, 16, 40);
    *frame_at(&whole, 30) ^= 0xff;
    send_piece(1, 40, 0);
    send_piece(1, 0, 16);
    expect_hello(1);
}

Test(fragment, wrong_bytes_first_are_no_segment) {
    *frame_at(&whole, 30) ^= 0xff;
    send_piece(1, 24, 48);
    *frame_at(&whole, 30) ^= 0xff;
    send_piece(1, 0, 24);
    send_piece(1, 48, 0);
    expect_hello(0);
    cr_assert_eq(decap_dropped(d, DECAP_FRAGMENT_LOST), 1);
}

Test(fragment, identification_is_used_again) {
    send_piece(1, 0, 24);
    send_piece(1, 24, 0);
    now_ns += NS_PER_SECOND;
    send_piece(1, 0, 24);
    send_piece(1, 24, 0);
    expect_hello(2);
}

Test(fragment, one_that_never_comes) {
    send_piece(1, 0, 24);
    now_ns += 31 * NS_PER_SECOND;
    send_piece(2, 0, 24);
    cr_assert_eq(decap_dropped(d, DECAP_FRAGMENT_LOST), 1);
    send_piece(1, 24, 0);
    expect_hello(0);
}

Test(fragment, number_of_datagrams_is_limited) {
    for (uint16_t id = 1; id <= 3000; id++)
        send_piece(id, 0, 24);
    cr_assert_eq(decap_dropped(d, DECAP_FRAGMENT_LOST), 3000 - 1024);
    send_piece(3000, 24, 0);
    expect_hello(1);
    send_piece(1, 24, 0);
    expect_hello(1);
}

Test(fragment, length_that_cannot_meet_the_next) {
    send_piece(1, 0, 23);
    send_piece(1, 16, 0);
    expect_hello(0);
}

Test(fragment, datagram_longer_than_there_can_be) {
    static struct made_frame f;
    static const uint8_t payload[64] = {0};
    frame_init(&f);
    frame_front(&f, payload, sizeof payload);
    frame_ipv4(&f, TCP, 1, 0x1fff);
    show(&f, 0);
    expect_hello(0);
}

Test(fragment, cut_by_the_snap_length) {
    static struct made_frame f;
    frame_init(&f);
    frame_front(&f, frame_at(&whole, 0), 24);
    frame_ipv4(&f, TCP, 1, IPV4_MORE);
    show(&f, 5);
    send_piece(1, 24, 0);
    expect_hello(0);
    send_piece(1, 0, 24);
    expect_hello(1);
}

Test(fragment, last_one_cut_by_the_snap_length_does_not_tell_the_length) {
    static struct made_frame f;
    frame_init(&f);
    frame_front(&f, frame_at(&whole, 24), frame_length(&whole) - 24);
    frame_ipv4(&f, TCP, 1, 3);
    send_piece(1, 0, 24);
    show(&f, 5);
    expect_hello(0);
    send_piece(1, 24, 0);
    expect_hello(1);
}

static void send_ipv6_piece(size_t start, size_t end, uint16_t more, uint32_t id) {
    static struct made_frame f;
    frame_init(&f);
    frame_front(&f, frame_at(&whole, start), end - start);
    frame_front_be(&f, id, 4);
    frame_front_be(&f, start | more, 2);
    frame_front_be(&f, TCP << 8, 2);
    frame_ipv6(&f, 44);
    show(&f, 0);
}

Test(fragment, ipv6) {
    frame_init(&whole);
    frame_tcp(&whole, 6, 0, hello);
    send_ipv6_piece(40, frame_length(&whole), 0, 70000);
    expect_hello(0);
    send_ipv6_piece(0, 40, 1, 70000);
    expect_hello(1);
}

Test(fragment, ipv6_that_is_all_of_it) {
    frame_init(&whole);
    frame_tcp(&whole, 6, 0, hello);
    send_ipv6_piece(0, frame_length(&whole), 0, 70000);
    expect_hello(1);
}

/* A tunnel that was cut, which carries a piece of a datagram that was cut before. */
Test(fragment, fragments_of_fragments) {
    frame_init(&whole);
    frame_tcp(&whole, 6, 0, hello);
    static struct made_frame f;
    for (unsigned i = 0; i < 2; i++) {
        static struct made_frame piece;
        frame_init(&piece);
        frame_front(&piece, frame_at(&whole, i * 40), i == 0 ? 40 : frame_length(&whole) - 40);
        frame_front_be(&piece, 7, 4);
        frame_front_be(&piece, i == 0 ? 1 : 40, 2);
        frame_front_be(&piece, TCP << 8, 2);
        frame_ipv6(&piece, 44);
        for (unsigned k = 0; k < 2; k++) {
            frame_init(&f);
            frame_front(&f, frame_at(&piece, k * 48), k == 0 ? 48 : frame_length(&piece) - 48);
            frame_front_be(&f, 9 + i, 4);
            frame_front_be(&f, k == 0 ? 1 : 48, 2);
            frame_front_be(&f, 41 << 8, 2);
            frame_ipv6(&f, 44);
            show(&f, 0);
        }
    }
    expect_hello(1);
    cr_assert_eq(decap_dropped(d, DECAP_MALFORMED), 0);
}

/* Each stands for itself, and another follows. */
Test(fragment, layers_of_fragments_end) {
    static struct made_frame f;
    frame_init(&f);
    for (unsigned i = 0; i < 30; i++) {
        frame_front_be(&f, i, 4);
        frame_front_be(&f, 0, 2);
        frame_front_be(&f, 44 << 8, 2);
    }
    frame_ipv6(&f, 44);
    show(&f, 0);
    cr_assert_eq(decap_dropped(d, DECAP_TOO_DEEP), 1);
}

/* The checksum as a host leaves it to its network card: the sum of the pseudo-header. */
static void leave_checksum_to_the_card(void) {
    uint32_t sum = 2 * 0x0a00 + 1 + 2 + TCP + (uint32_t)frame_length(&whole);
    *frame_at(&whole, 16) = (uint8_t)(sum >> 8);
    *frame_at(&whole, 17) = (uint8_t)sum;
}

Test(fragment, without_a_checksum_and_together) {
    leave_checksum_to_the_card();
    send_piece(1, 0, 24);
    now_ns += 20 * NS_PER_MS;
    send_piece(1, 24, 0);
    expect_hello(1);
}

/* Long enough for the identification to be used again: nothing tells that they belong together. */
Test(fragment, without_a_checksum_and_apart) {
    leave_checksum_to_the_card();
    send_piece(1, 0, 24);
    now_ns += 20 * NS_PER_MS + 1;
    send_piece(1, 24, 0);
    expect_hello(0);
    cr_assert_eq(decap_dropped(d, DECAP_FRAGMENT_LOST), 1);
}

Test(fragment, with_a_wrong_checksum) {
    *frame_at(&whole, 17) ^= 1;
    send_piece(1, 0, 24);
    send_piece(1, 24, 0);
    expect_hello(0);
    cr_assert_eq(decap_dropped(d, DECAP_FRAGMENT_LOST), 1);
}
