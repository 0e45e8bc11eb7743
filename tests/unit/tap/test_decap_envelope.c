#include "tests/unit/tap/decap_world.h"

#include <criterion/criterion.h>
#include <string.h>

enum { UDP = 17, GRE = 47 };

TestSuite(envelope, .init = world_start, .fini = world_stop);

static void front(const char *bytes, size_t length) {
    frame_front(&f, bytes, length);
}

/* Any number of bytes, the first of them on the left. */
#define FRONT(literal) front(literal, sizeof(literal) - 1)

static void udp(uint16_t port) {
    size_t length = frame_length(&f) + 8;
    frame_front_be(&f, 0, 2);
    frame_front_be(&f, length, 2);
    frame_front_be(&f, port, 2);
    frame_front_be(&f, 50000, 2);
}

static void in_udp(uint16_t port) {
    udp(port);
    frame_ipv4(&f, UDP, 7, 0);
}

static void in_gre(uint16_t flags, uint16_t protocol) {
    frame_front_be(&f, protocol, 2);
    frame_front_be(&f, flags, 2);
    frame_ipv4(&f, GRE, 7, 0);
}

/* --- below IP --------------------------------------------------------------------------------- */

Test(envelope, snap) {
    hello_ipv4();
    FRONT("\xaa\xaa\3\0\0\0\x08\0");
    frame_ethernet(&f, (uint16_t)frame_length(&f));
    expect_hello(LINK_ETHERNET);
    cut_everywhere(LINK_ETHERNET);
}

Test(envelope, snap_of_another_organisation) {
    hello_ipv4();
    FRONT("\xaa\xaa\3\0\0\x0c\x08\0");
    frame_ethernet(&f, (uint16_t)frame_length(&f));
    expect_drop(LINK_ETHERNET, DECAP_NOT_IP);
}

Test(envelope, length_field_cuts_into_the_ip_header) {
    hello_ipv4();
    FRONT("\xaa\xaa\3\0\0\0\x08\0");
    frame_ethernet(&f, 20);
    expect_drop(LINK_ETHERNET, DECAP_CUT_SHORT);
}

Test(envelope, provider_backbone) {
    hello_ethernet();
    FRONT("\0\x12\x34\x56");
    frame_ethernet(&f, 0x88e7);
    expect_hello(LINK_ETHERNET);
    cut_everywhere(LINK_ETHERNET);
}

Test(envelope, fabricpath) {
    hello_ethernet();
    frame_front_be(&f, 0x0060, 2);
    frame_ethernet(&f, 0x8903);
    expect_hello(LINK_ETHERNET);
    cut_everywhere(LINK_ETHERNET);
}

static void trill(uint16_t first, size_t option_bytes) {
    hello_ethernet();
    front("\0\0\0\0\0\0\0\0", option_bytes);
    frame_front_be(&f, 0x00010002, 4);
    frame_front_be(&f, first, 2);
    frame_ethernet(&f, 0x22f3);
}

Test(envelope, trill) {
    trill(2 << 6 | 9, 8);
    expect_hello(LINK_ETHERNET);
    cut_everywhere(LINK_ETHERNET);
}

Test(envelope, trill_options_longer_than_the_frame) {
    trill(31 << 6 | 9, 0);
    expect_drop(LINK_ETHERNET, DECAP_MALFORMED);
}

Test(envelope, trill_of_another_version) {
    trill(0x4000 | 9, 0);
    expect_drop(LINK_ETHERNET, DECAP_MALFORMED);
}

static void mpls(unsigned label, bool bottom) {
    frame_front_be(&f, label << 12 | bottom << 8 | 64, 4);
}

Test(envelope, mpls_with_ip) {
    hello_ipv6();
    mpls(2, true);
    mpls(17, false);
    mpls(16, false);
    frame_ethernet(&f, 0x8847);
    expect_hello(LINK_ETHERNET);
    cut_everywhere(LINK_ETHERNET);
}

Test(envelope, mpls_without_a_bottom) {
    for (unsigned i = 0; i < 300; i++)
        mpls(17, false);
    frame_ethernet(&f, 0x8847);
    expect_drop(LINK_ETHERNET, DECAP_CUT_SHORT);
}

Test(envelope, pseudowire_with_a_control_word) {
    hello_ethernet();
    frame_front_be(&f, 5, 4);
    mpls(17, true);
    frame_ethernet(&f, 0x8848);
    expect_hello(LINK_ETHERNET);
}

Test(envelope, pseudowire_without_a_control_word) {
    static const uint8_t firsts[] = {0x02, 0x40, 0x60, 0x00};
    for (unsigned i = 0; i < sizeof firsts; i++) {
        frame_init(&f);
        hello_ethernet();
        *frame_at(&f, 0) = firsts[i]; /* a MAC address that looks like IP, or like a control word */
        mpls(17, true);
        frame_ethernet(&f, 0x8847);
        expect_hello(LINK_ETHERNET);
    }
}

Test(envelope, mpls_operations_channel) {
    hello_ipv4();
    mpls(13, true);
    frame_ethernet(&f, 0x8847);
    expect_drop(LINK_ETHERNET, DECAP_NOT_IP);
}

/* --- IP in IP --------------------------------------------------------------------------------- */

Test(envelope, ip_in_ip_in_all_ways) {
    hello_ipv4();
    frame_ipv6(&f, 4);
    frame_ipv6(&f, 41);
    frame_ipv4(&f, 41, 1, 0);
    frame_ipv4(&f, 4, 1, 0);
    expect_hello(LINK_RAW);
    cr_assert_eq(last.family, 4);
    cut_everywhere(LINK_RAW);
}

Test(envelope, ip_in_ip_without_end) {
    hello_ipv4();
    for (unsigned i = 0; i < 30; i++)
        frame_ipv4(&f, 4, 1, 0);
    expect_drop(LINK_RAW, DECAP_TOO_DEEP);
}

Test(envelope, inner_ip_longer_than_the_outer_is_cut) {
    hello_ipv4();
    *frame_at(&f, 2) = 0x05;
    frame_ipv4(&f, 4, 1, 0);
    show(LINK_RAW);
    cr_assert_eq(last.data_bytes, 5);
    cr_assert_eq(last.wire_bytes, 5 + 0x500);
}

Test(envelope, authentication_header) {
    hello_ipv4();
    FRONT("\4\4\0\0\0\0\0\1\0\0\0\2\0\0\0\0\0\0\0\0\0\0\0\0");
    frame_ipv4(&f, 51, 1, 0);
    expect_hello(LINK_RAW);
    cut_everywhere(LINK_RAW);
}

/* --- GRE -------------------------------------------------------------------------------------- */

Test(envelope, gre_plain) {
    hello_ipv6();
    in_gre(0, 0x86dd);
    expect_hello(LINK_RAW);
    cut_everywhere(LINK_RAW);
}

Test(envelope, gre_with_all_fields) {
    hello_ethernet();
    FRONT("\0\0\0\0");           /* ends the routes */
    FRONT("\x08\0\0\4\1\2\3\4"); /* one of 4 bytes */
    FRONT("\0\0\0\7");           /* sequence */
    FRONT("\0\0\0\5");           /* key */
    FRONT("\0\0\0\0");           /* checksum, offset */
    in_gre(0xf000, 0x6558);
    expect_hello(LINK_RAW);
    cut_everywhere(LINK_RAW);
}

Test(envelope, gre_routes_without_an_end) {
    FRONT("\x08\0\0\4\1\2\3\4");
    FRONT("\0\0\0\0");
    in_gre(0x4000, 0x0800);
    expect_drop(LINK_RAW, DECAP_CUT_SHORT);
}

Test(envelope, gre_route_longer_than_the_packet) {
    FRONT("\x08\0\0\xff\1\2\3\4");
    FRONT("\0\0\0\0");
    in_gre(0x4000, 0x0800);
    expect_drop(LINK_RAW, DECAP_CUT_SHORT);
}

Test(envelope, gre_of_pptp) {
    hello_ipv4();
    in_gre(0x2001, 0x0800);
    expect_drop(LINK_RAW, DECAP_NOT_IP);
}

/* --- ERSPAN ----------------------------------------------------------------------------------- */

static void erspan2(uint16_t session_word, uint32_t number) {
    frame_front_be(&f, 5, 4);
    frame_front_be(&f, session_word, 2);
    frame_front_be(&f, 0x1007, 2);
    frame_front_be(&f, number, 4);
    in_gre(0x1000, 0x88be);
}

static void erspan3(uint16_t session_word, uint16_t flags) {
    if ((flags & 1) != 0)
        FRONT("\x14\1\0\2\0\0\0\0");
    frame_front_be(&f, flags, 2);
    frame_front_be(&f, 0, 2);
    frame_front_be(&f, 123456, 4);
    frame_front_be(&f, session_word, 2);
    frame_front_be(&f, 0x2007, 2);
    frame_front_be(&f, 9, 4);
    in_gre(0x1000, 0x22eb);
}

Test(envelope, erspan1) {
    hello_ethernet();
    in_gre(0, 0x88be);
    expect_hello(LINK_RAW);
    cr_assert_eq(decap_losses(d).numbered, 0);
}

Test(envelope, erspan2) {
    hello_ethernet();
    erspan2(101, 7);
    expect_hello(LINK_RAW);
    cut_everywhere(LINK_RAW);
}

Test(envelope, erspan2_of_another_version) {
    hello_ethernet();
    erspan2(101, 7);
    *frame_at(&f, 20 + 8) = 0x20;
    expect_drop(LINK_RAW, DECAP_MALFORMED);
}

Test(envelope, erspan3) {
    hello_ethernet();
    erspan3(101, 0x8000);
    expect_hello(LINK_RAW);
    cut_everywhere(LINK_RAW);
}

Test(envelope, erspan3_with_a_subheader) {
    hello_ethernet();
    erspan3(101, 0x8001);
    expect_hello(LINK_RAW);
    cut_everywhere(LINK_RAW);
}

Test(envelope, erspan3_with_ip) {
    hello_ipv6();
    erspan3(101, 2 << 10);
    expect_hello(LINK_RAW);
}

Test(envelope, erspan3_with_something_else) {
    hello_ipv6();
    erspan3(101, 7 << 10);
    expect_drop(LINK_RAW, DECAP_OTHER_MIRROR);
    cr_assert_eq(decap_losses(d).numbered, 1);
}

Test(envelope, erspan3_of_another_version) {
    hello_ethernet();
    erspan3(101, 0);
    *frame_at(&f, 20 + 8) = 0x10;
    expect_drop(LINK_RAW, DECAP_MALFORMED);
}

Test(envelope, frames_that_were_damaged_before_are_not_used) {
    hello_ethernet();
    erspan3(3 << 11 | 101, 0);
    expect_drop(LINK_RAW, DECAP_DAMAGED);
    cr_assert_eq(first_drops, 1);
}

/* The mirror cut the frame and says so; how much is missing, IP says. */
Test(envelope, erspan_truncated) {
    hello_ethernet();
    *frame_at(&f, 14 + 2) = 0x05;
    erspan2(0x0400 | 101, 7);
    show(LINK_RAW);
    cr_assert_eq(last.data_bytes, 5);
    cr_assert_eq(last.wire_bytes, 5 + 0x500);
}

/* A super-frame says no length: that something is missing is all that is known. */
Test(envelope, erspan_truncated_super_frame) {
    hello_ethernet();
    *frame_at(&f, 14 + 2) = 0;
    *frame_at(&f, 14 + 3) = 0;
    erspan2(0x0400 | 101, 7);
    show(LINK_RAW);
    cr_assert_eq(last.data_bytes, 5);
    cr_assert_gt(last.wire_bytes, 5);
}

/* --- what else carries Ethernet in IP --------------------------------------------------------- */

Test(envelope, etherip) {
    hello_ethernet();
    frame_front_be(&f, 0x3000, 2);
    frame_ipv4(&f, 97, 1, 0);
    expect_hello(LINK_RAW);
    cut_everywhere(LINK_RAW);
    *frame_at(&f, 20) = 0x40;
    expect_drop(LINK_RAW, DECAP_MALFORMED);
}

Test(envelope, l2tp_with_all_lengths_of_cookies) {
    for (unsigned cookie = 0; cookie <= 12; cookie += 4) {
        frame_init(&f);
        hello_ethernet();
        front("\1\2\3\4\5\6\7\x8\x9\xa\xb\xc", cookie);
        frame_front_be(&f, 9, 4);
        frame_ipv4(&f, 115, 1, 0);
        expect_hello(LINK_RAW);
    }
}

Test(envelope, l2tp_control_and_unknown) {
    hello_ethernet();
    frame_front_be(&f, 0, 4);
    frame_ipv4(&f, 115, 1, 0);
    expect_drop(LINK_RAW, DECAP_NOT_IP);
    frame_init(&f);
    hello_ethernet();
    FRONT("\1\2\3\4\5\6\7\x8\x9\xa\xb\xc\xd\xe\xf\0");
    frame_front_be(&f, 9, 4);
    frame_ipv4(&f, 115, 1, 0);
    expect_drop(LINK_RAW, DECAP_NOT_IP);
}

Test(envelope, l2tp_in_udp) {
    hello_ethernet();
    frame_front_be(&f, 9, 4);
    frame_front_be(&f, 3 << 16, 4);
    in_udp(1701);
    expect_hello(LINK_RAW);
    *frame_at(&f, 28) = 0x80;
    expect_drop(LINK_RAW, DECAP_NOT_IP);
}

/* --- UDP -------------------------------------------------------------------------------------- */

static void vxlan(void) {
    FRONT("\x08\0\0\0\0\0\x2a\0");
}

Test(envelope, vxlan) {
    hello_ethernet();
    vxlan();
    in_udp(4789);
    expect_hello(LINK_RAW);
    cut_everywhere(LINK_RAW);
    *frame_at(&f, 28) = 0;
    expect_drop(LINK_RAW, DECAP_NOT_TCP);
}

Test(envelope, udp_length_below_its_header) {
    hello_ethernet();
    vxlan();
    in_udp(4789);
    *frame_at(&f, 24) = 0;
    *frame_at(&f, 25) = 7;
    expect_drop(LINK_RAW, DECAP_MALFORMED);
}

Test(envelope, udp_length_cuts_into_what_it_carries) {
    hello_ethernet();
    vxlan();
    in_udp(4789);
    *frame_at(&f, 24) = 0;
    *frame_at(&f, 25) = 8 + 8 + 14 + 10;
    expect_drop(LINK_RAW, DECAP_CUT_SHORT);
}

Test(envelope, udp_without_a_length) {
    hello_ethernet();
    vxlan();
    in_udp(8472);
    *frame_at(&f, 24) = 0;
    *frame_at(&f, 25) = 0;
    expect_hello(LINK_RAW);
}

Test(envelope, vxlan_gpe) {
    static const uint8_t follows[] = {1, 2, 3};
    for (unsigned i = 0; i < sizeof follows; i++) {
        frame_init(&f);
        if (follows[i] == 2)
            hello_ipv6();
        else
            hello_ipv4();
        if (follows[i] == 3)
            frame_ethernet(&f, 0x0800);
        frame_front_be(&f, 42 << 8, 4);
        frame_front_be(&f, 0x0c000000 | follows[i], 4);
        in_udp(4790);
        expect_hello(LINK_RAW);
    }
    *frame_at(&f, 31) = 99;
    expect_drop(LINK_RAW, DECAP_NOT_IP);
}

static void nsh(unsigned words, uint8_t protocol) {
    frame_front_be(&f, 9 << 8 | 255, 4);
    frame_front_be(&f, protocol, 1);
    frame_front_be(&f, 1, 1);
    frame_front_be(&f, 63 << 6 | words, 2);
}

Test(envelope, service_header) {
    hello_ipv4();
    FRONT("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    nsh(6, 1);
    frame_ethernet(&f, 0x894f);
    expect_hello(LINK_ETHERNET);
    cut_everywhere(LINK_ETHERNET);
}

Test(envelope, service_header_too_short) {
    hello_ipv4();
    nsh(1, 1);
    frame_ethernet(&f, 0x894f);
    expect_drop(LINK_ETHERNET, DECAP_MALFORMED);
}

Test(envelope, service_header_longer_than_the_frame) {
    hello_ipv4();
    nsh(63, 1);
    frame_ethernet(&f, 0x894f);
    expect_drop(LINK_ETHERNET, DECAP_MALFORMED);
}

static void geneve(unsigned words, uint16_t protocol) {
    frame_front_be(&f, 42 << 8, 4);
    frame_front_be(&f, protocol, 2);
    frame_front_be(&f, words << 8, 2);
    in_udp(6081);
}

Test(envelope, geneve) {
    hello_ethernet();
    FRONT("\1\2\3\1\0\0\0\7");
    geneve(2, 0x6558);
    expect_hello(LINK_RAW);
    cut_everywhere(LINK_RAW);
}

Test(envelope, geneve_options_longer_than_the_packet) {
    hello_ethernet();
    geneve(63, 0x6558);
    expect_drop(LINK_RAW, DECAP_MALFORMED);
}

Test(envelope, geneve_of_another_version) {
    hello_ethernet();
    geneve(0x40, 0x6558);
    expect_drop(LINK_RAW, DECAP_MALFORMED);
}

Test(envelope, remote_mirror_of_hp) {
    hello_ethernet();
    FRONT("\0\0\0\0\0\0\0\0\0\x40\x0a\0");
    in_udp(7932);
    expect_hello(LINK_RAW);
    cut_everywhere(LINK_RAW);
}

static void tzsp(const char *tags, size_t length) {
    front(tags, length);
    frame_front_be(&f, 0x01000001, 4);
    in_udp(37008);
}

Test(envelope, tzsp) {
    hello_ethernet();
    tzsp("\0\x0a\2\1\2\0\1", 7);
    expect_hello(LINK_RAW);
    cut_everywhere(LINK_RAW);
}

Test(envelope, tzsp_tag_longer_than_the_packet) {
    hello_ethernet();
    tzsp("\x0a\xff", 2);
    expect_drop(LINK_RAW, DECAP_CUT_SHORT);
}

Test(envelope, tzsp_tags_without_an_end) {
    tzsp("\0\0\0\0", 4);
    expect_drop(LINK_RAW, DECAP_CUT_SHORT);
}

Test(envelope, tzsp_with_another_link) {
    hello_ethernet();
    tzsp("\1", 1);
    *frame_at(&f, 31) = 18;
    expect_drop(LINK_RAW, DECAP_NOT_IP);
    *frame_at(&f, 31) = 1;
    *frame_at(&f, 28) = 2;
    expect_drop(LINK_RAW, DECAP_MALFORMED);
}

/* --- recognised, not decoded ------------------------------------------------------------------ */

Test(envelope, storage_that_is_not_decoded_is_told_once) {
    for (unsigned i = 0; i < 2; i++) {
        frame_init(&f);
        hello_ipv4();
        in_udp(4791);
        expect_drop(LINK_RAW, DECAP_ROCE);
        frame_init(&f);
        hello_ipv4();
        frame_ethernet(&f, 0x88a2);
        expect_drop(LINK_ETHERNET, DECAP_AOE);
        frame_init(&f);
        hello_ipv4();
        frame_ipv4(&f, 50, 1, 0);
        expect_drop(LINK_RAW, DECAP_ESP);
        frame_init(&f);
        FRONT("\0\0\0\7\0\0\0\1");
        in_udp(4500);
        expect_drop(LINK_RAW, DECAP_ESP);
    }
    cr_assert_eq(first_drops, 3);
}

Test(envelope, keys_of_ipsec_are_no_payload) {
    FRONT("\0\0\0\0\0\0\0\1");
    in_udp(4500);
    expect_drop(LINK_RAW, DECAP_NOT_TCP);
}
