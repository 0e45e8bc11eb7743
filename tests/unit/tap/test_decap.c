#include "tap/decap/decap.h"
#include "tests/unit/tap/frame_maker.h"

#include <criterion/criterion.h>
#include <string.h>

enum { ETHERNET = 1, TCP = 6 };

static struct made_frame f;
static struct decap *d;
static unsigned segments;
static struct tcp_segment last;
static char text[70000];

static void take(const struct packet *packet) {
    struct decap_result found;
    if (decap_packet(d, packet, &found) != DECAP_TCP)
        return;
    segments++;
    last = found.tcp;
    memcpy(text, last.data, last.data_bytes);
    text[last.data_bytes] = '\0';
}

static void start(void) {
    d = decap_create();
    frame_init(&f);
}

static void stop(void) {
    decap_destroy(d);
}

TestSuite(decap, .init = start, .fini = stop);

static void show_cut(int link_type, size_t captured) {
    struct packet packet = {.data = frame_data(&f),
                            .caplen = (uint32_t)captured,
                            .wire_length = (uint32_t)frame_length(&f),
                            .link_type = link_type};
    take(&packet);
}

static void show(int link_type) {
    show_cut(link_type, frame_length(&f));
}

static uint64_t dropped(void) {
    uint64_t total = 0;
    for (int i = 0; i < DECAP_REASONS; i++)
        total += decap_dropped(d, i);
    return total;
}

static void expect_hello(int link_type) {
    show(link_type);
    cr_assert_eq(segments, 1);
    cr_assert_eq(dropped(), 0);
    cr_assert_str_eq(text, "hello");
    cr_assert_eq(last.wire_bytes, 5);
    cr_assert_eq(last.source_port, 40000);
    cr_assert_eq(last.destination_port, 3260);
    cr_assert_eq(last.sequence, 100);
    cr_assert_eq(last.acknowledgement, 200);
    cr_assert_eq(last.flags, TCP_ACK);
    cr_assert_eq(last.source[last.family == 4 ? 3 : 15], 1);
    cr_assert_eq(last.destination[last.family == 4 ? 3 : 15], 2);
}

static void expect_drop(int link_type, enum decap_drop reason) {
    show(link_type);
    cr_assert_eq(segments, 0);
    cr_assert_eq(dropped(), 1);
    cr_assert_eq(decap_dropped(d, reason), 1, "%s", decap_drop_name(reason));
}

static void hello_ipv4(void) {
    frame_tcp(&f, 4, 12, "hello");
    frame_ipv4(&f, TCP, 1, 0x4000);
}

static void hello_ipv6(void) {
    frame_tcp(&f, 6, 12, "hello");
    frame_ipv6(&f, TCP);
}

Test(decap, ethernet_ipv4) {
    hello_ipv4();
    frame_ethernet(&f, 0x0800);
    expect_hello(ETHERNET);
}

Test(decap, ethernet_ipv6) {
    hello_ipv6();
    frame_ethernet(&f, 0x86dd);
    expect_hello(ETHERNET);
}

Test(decap, padding_is_no_payload) {
    frame_front(&f, "\0\0\0\0\0\0\0\0", 8);
    size_t padding = frame_length(&f);
    hello_ipv4();
    size_t total = frame_length(&f) - padding;
    *frame_at(&f, 2) = (uint8_t)(total >> 8);
    *frame_at(&f, 3) = (uint8_t)total;
    frame_ethernet(&f, 0x0800);
    expect_hello(ETHERNET);
}

Test(decap, tags_in_tags) {
    static const uint16_t tags[] = {0x8100, 0x88a8, 0x9100, 0x8100};
    hello_ipv4();
    uint16_t type = 0x0800;
    for (unsigned i = 0; i < sizeof tags / sizeof *tags; i++) {
        frame_front_be(&f, type, 2);
        frame_front_be(&f, 42, 2);
        type = tags[i];
    }
    frame_ethernet(&f, type);
    expect_hello(ETHERNET);
}

Test(decap, too_many_tags) {
    hello_ipv4();
    for (unsigned i = 0; i < 20; i++) {
        frame_front_be(&f, i == 0 ? 0x0800 : 0x8100, 2);
        frame_front_be(&f, 42, 2);
    }
    frame_ethernet(&f, 0x8100);
    expect_drop(ETHERNET, DECAP_TOO_DEEP);
}

Test(decap, linux_cooked) {
    hello_ipv4();
    frame_front_be(&f, 0x0800, 2);
    frame_front(&f, "\0\0\0\1\0\6\2\0\0\0\0\1\0\0", 14);
    expect_hello(113);
}

Test(decap, linux_cooked_2) {
    hello_ipv6();
    frame_front(&f, "\0\0\0\0\0\2\0\1\0\6\2\0\0\0\0\1\0\0", 18);
    frame_front_be(&f, 0x86dd, 2);
    expect_hello(276);
}

Test(decap, bsd_loopback_of_little_endian_hosts) {
    hello_ipv6();
    frame_front(&f, "\30\0\0\0", 4);
    expect_hello(0);
}

Test(decap, openbsd_loopback) {
    hello_ipv4();
    frame_front_be(&f, 2, 4);
    expect_hello(108);
}

Test(decap, loopback_with_something_else) {
    hello_ipv4();
    frame_front_be(&f, 7, 4);
    expect_drop(0, DECAP_NOT_IP);
}

Test(decap, raw_ip_tells_its_version) {
    hello_ipv4();
    expect_hello(101);
    segments = 0;
    frame_init(&f);
    hello_ipv6();
    expect_hello(12);
}

Test(decap, raw_ip_of_one_version) {
    hello_ipv4();
    expect_hello(228);
    segments = 0;
    frame_init(&f);
    hello_ipv6();
    expect_hello(229);
    show(228);
    cr_assert_eq(decap_dropped(d, DECAP_MALFORMED), 1);
}

Test(decap, extension_headers) {
    frame_tcp(&f, 6, 0, "hello");
    frame_front(&f, "\6\0\1\4\0\0\0\0", 8);                           /* destination options */
    frame_front(&f, "\74\2\0\0\0\0\0\1\0\0\0\2\0\0\0\0\0\0\0\0", 16); /* AH, 16 bytes */
    frame_front(&f, "\63\2\0\0\0\0\0\0\1\1\1\1\1\1\1\1\2\2\2\2\2\2\2\2", 24); /* routing */
    frame_front(&f, "\53\0\1\4\0\0\0\0", 8);                                  /* hop by hop */
    frame_ipv6(&f, 0);
    expect_hello(101);
}

Test(decap, extension_headers_belong_to_ipv6) {
    frame_tcp(&f, 4, 0, "hello");
    frame_front(&f, "\6\0\1\4\0\0\0\0", 8);
    frame_ipv4(&f, 0, 1, 0);
    expect_drop(101, DECAP_NOT_TCP);
}

Test(decap, extension_header_longer_than_the_packet) {
    frame_tcp(&f, 6, 0, "hello");
    frame_front(&f, "\6\200\1\4\0\0\0\0", 8);
    frame_ipv6(&f, 60);
    expect_drop(101, DECAP_MALFORMED);
}

Test(decap, authentication_header_longer_than_the_packet) {
    frame_tcp(&f, 4, 0, "hello");
    frame_front(&f, "\6\100\0\0\0\0\0\1\0\0\0\2", 12);
    frame_ipv4(&f, 51, 1, 0);
    expect_drop(101, DECAP_MALFORMED);
}

static char large[66001];

static void expect_large(void) {
    show(ETHERNET);
    cr_assert_eq(segments, 1);
    cr_assert_eq(last.wire_bytes, 66000);
    cr_assert_str_eq(text, large);
}

Test(decap, super_frame_without_a_length_ipv4) {
    memset(large, 'x', 66000);
    frame_tcp(&f, 4, 0, large);
    frame_ipv4(&f, TCP, 1, 0);
    frame_ethernet(&f, 0x0800);
    expect_large();
}

Test(decap, super_frame_without_a_length_ipv6) {
    memset(large, 'x', 66000);
    frame_tcp(&f, 6, 0, large);
    frame_ipv6(&f, TCP);
    frame_ethernet(&f, 0x86dd);
    expect_large();
}

Test(decap, jumbogram) {
    memset(large, 'x', 66000);
    frame_tcp(&f, 6, 0, large);
    frame_front_be(&f, 66028, 4);
    frame_front(&f, "\6\0\302\4", 4);
    frame_ipv6(&f, 0);
    frame_ethernet(&f, 0x86dd);
    expect_large();
}

Test(decap, snap_length_cuts_the_payload) {
    hello_ipv4();
    frame_ethernet(&f, 0x0800);
    show_cut(ETHERNET, frame_length(&f) - 3);
    cr_assert_str_eq(text, "he");
    cr_assert_eq(last.data_bytes, 2);
    cr_assert_eq(last.wire_bytes, 5);
}

Test(decap, mirror_that_truncates_leaves_the_ip_length) {
    hello_ipv4();
    *frame_at(&f, 2) = 0x05; /* 1280 bytes and more, of which the frame has 57 */
    frame_ethernet(&f, 0x0800);
    show(ETHERNET);
    cr_assert_eq(last.data_bytes, 5);
    cr_assert_eq(last.wire_bytes, 5 + 0x500);
}

/* Whatever length is left: a segment, or a drop with a reason, and no more than one of them. */
static void cut_everywhere(int link_type) {
    size_t whole = frame_length(&f);
    for (size_t captured = 0; captured < whole; captured++) {
        uint64_t before = dropped();
        segments = 0;
        uint8_t *exact = malloc(captured + 1); /* so that a sanitizer sees what lies behind */
        memcpy(exact, frame_data(&f), captured);
        struct packet packet = {.data = exact,
                                .caplen = (uint32_t)captured,
                                .wire_length = (uint32_t)whole,
                                .link_type = link_type};
        take(&packet);
        cr_assert_eq(segments + dropped() - before, 1, "at %zu", captured);
        cr_assert_eq(segments, captured + 5 >= whole, "at %zu", captured);
        free(exact);
    }
    cr_assert_eq(decap_dropped(d, DECAP_CUT_SHORT), dropped());
}

Test(decap, headers_cut_anywhere_ipv4) {
    hello_ipv4();
    frame_front_be(&f, 0x0800, 2);
    frame_front_be(&f, 42, 2);
    frame_ethernet(&f, 0x8100);
    cut_everywhere(ETHERNET);
}

Test(decap, headers_cut_anywhere_ipv6) {
    frame_tcp(&f, 6, 8, "hello");
    frame_front(&f, "\6\4\0\0\0\0\0\1\0\0\0\2\0\0\0\0\0\0\0\0\0\0\0\0", 24);
    frame_front(&f, "\63\0\1\4\0\0\0\0", 8);
    frame_ipv6(&f, 0);
    frame_front(&f, "\0\0\0\1\0\6\2\0\0\0\0\1\0\0\x86\xdd", 16);
    cut_everywhere(113);
}

Test(decap, other_frames_are_counted_by_reason) {
    hello_ipv4();
    expect_drop(147, DECAP_UNKNOWN_LINK);
    cr_assert_not(decap_knows_link(147));
    cr_assert_not(decap_knows_link(-1));
    cr_assert(decap_knows_link(ETHERNET));
}

Test(decap, arp) {
    hello_ipv4();
    frame_ethernet(&f, 0x0806);
    expect_drop(ETHERNET, DECAP_NOT_IP);
}

Test(decap, llc) {
    hello_ipv4();
    frame_ethernet(&f, 0x0040);
    expect_drop(ETHERNET, DECAP_NOT_IP);
}

Test(decap, udp) {
    frame_tcp(&f, 4, 0, "hello");
    frame_ipv4(&f, 17, 1, 0);
    expect_drop(101, DECAP_NOT_TCP);
}

Test(decap, ipv4_header_too_short) {
    hello_ipv4();
    *frame_at(&f, 0) = 0x44;
    expect_drop(101, DECAP_MALFORMED);
}

Test(decap, ipv4_total_length_below_its_header) {
    hello_ipv4();
    *frame_at(&f, 2) = 0;
    *frame_at(&f, 3) = 19;
    expect_drop(101, DECAP_MALFORMED);
}

Test(decap, ipv4_with_another_version) {
    hello_ipv4();
    *frame_at(&f, 0) = 0x65;
    frame_ethernet(&f, 0x0800);
    expect_drop(ETHERNET, DECAP_MALFORMED);
}

Test(decap, ipv6_payload_length_cuts_into_the_tcp_header) {
    hello_ipv6();
    *frame_at(&f, 5) = 10;
    expect_drop(101, DECAP_CUT_SHORT);
}

Test(decap, tcp_header_too_short) {
    hello_ipv4();
    *frame_at(&f, 20 + 12) = 0x40;
    expect_drop(101, DECAP_MALFORMED);
}

Test(decap, tcp_header_longer_than_the_packet) {
    hello_ipv4();
    *frame_at(&f, 20 + 12) = 0xf0;
    expect_drop(101, DECAP_MALFORMED);
}

/* `bytes` of options (RFC 9293, 3.1) before "hello"; the rest is NOPs. */
static void show_options(const void *bytes, size_t length) {
    frame_init(&f);
    segments = 0;
    frame_tcp(&f, 4, 12, "hello");
    memcpy(frame_at(&f, 20), bytes, length);
    frame_ipv4(&f, TCP, 1, 0);
    frame_ethernet(&f, 0x0800);
    expect_hello(ETHERNET);
}

Test(decap, timestamps) {
    static const char usual[] = "\1\1\10\12\1\2\3\4\5\6\7\10";
    static const char last_place[] = "\1\2\10\12\1\2\3\4\5\6\7\10";
    static const char behind_end[] = "\0\0\10\12\1\2\3\4\5\6\7\10";
    show_options(usual, 12);
    cr_assert(last.stamped);
    cr_assert_eq(last.stamp, 0x01020304);
    cr_assert_eq(last.echo, 0x05060708);
    show_options(last_place, 12); /* an option of 8 bytes, of which the kind is 2 */
    cr_assert_not(last.stamped);
    show_options(behind_end, 12);
    cr_assert_not(last.stamped);
    show_options("\1\1\1\1\1\1\1\1\1\1\1\1", 12);
    cr_assert_not(last.stamped);
}

Test(decap, options_whose_length_cannot_be) {
    static const char *const wrong[] = {
        "\10\0\1\2\3\4\5\6\7\10\1\1",  /* none at all */
        "\10\1\1\2\3\4\5\6\7\10\1\1",  /* not even itself */
        "\10\13\1\2\3\4\5\6\7\10\1\1", /* one too many */
        "\10\11\1\2\3\4\5\6\7\1\1\1",  /* one too few */
        "\1\1\1\10\12\1\2\3\4\5\6\7",  /* cut by the end of the header */
        "\1\1\1\1\1\1\1\1\1\1\1\10",   /* a kind, and no length */
        "\5\377\1\1\1\1\1\1\1\1\1\1",  /* SACK, far too long */
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        show_options(wrong[i], 12);
        cr_assert_not(last.stamped, "%zu", i);
    }
}

/* Names that FIP tells are those of the ports of its VLAN. */
Test(decap, fip_in_a_vlan) {
    uint8_t bytes[12 + 4 + 2 + 10] = {1, 1, 1, 1,    1, 1,    2, 2,    2,
                                      2, 2, 2, 0x81, 0, 0x60, 7, 0x89, 0x14};
    struct packet packet = {.data = bytes,
                            .caplen = sizeof bytes,
                            .wire_length = sizeof bytes,
                            .link_type = ETHERNET,
                            .time_ns = 5};
    struct decap_result found;
    cr_assert_eq(decap_packet(d, &packet, &found), DECAP_FIP);
    cr_assert_eq(found.fip.vsan, 7);
    cr_assert_eq(found.fip.bytes, 10);
    cr_assert_eq(found.fip.source[0], 2);
    cr_assert_eq(found.fip.destination[0], 1);
    cr_assert_eq(found.fip.time_ns, 5);
}
