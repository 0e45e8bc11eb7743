#include "tap/decap/device_time.h"

#include "common/clock.h"
#include "tests/unit/tap/decap_world.h"

#include <criterion/criterion.h>
#include <string.h>

/* The device's clock is 250 ms ahead of the capture's. */
#define AHEAD_NS (250 * NS_PER_MS)

TestSuite(device_time, .init = world_start, .fini = world_stop);

static uint64_t device_ns(void) {
    return now_ns + AHEAD_NS;
}

static void be(uint8_t *to, uint64_t value, size_t width) {
    for (size_t i = 0; i < width; i++)
        to[i] = (uint8_t)(value >> 8 * (width - 1 - i));
}

/* A hello with `bytes` behind it. */
static void hello_with(const uint8_t *bytes, size_t length) {
    frame_init(&f);
    frame_front(&f, bytes, length);
    frame_tcp(&f, 4, 12, "hello");
    /* The checksum of the made frame covers what is behind it; it is not looked at. */
    frame_ipv4(&f, TCP, 1, 0x4000);
    size_t total = frame_length(&f) - length;
    be(frame_at(&f, 2), total, 2);
    frame_ethernet(&f, 0x0800);
}

static void expect_time(uint64_t time_ns) {
    expect_hello(LINK_ETHERNET);
    cr_assert_eq(last.time_ns, time_ns, "%lld", (long long)(last.time_ns - time_ns));
}

static size_t metamako(uint8_t *to, uint64_t time_ns, uint8_t flags) {
    be(to, 0xdeadbeef, 4);
    be(to + 4, time_ns / NS_PER_SECOND, 4);
    be(to + 8, time_ns % NS_PER_SECOND, 4);
    be(to + 12, flags, 1);
    be(to + 13, 5001, 2);
    be(to + 15, 3, 1);
    return 16;
}

Test(device_time, metamako) {
    uint8_t trailer[20] = {0};
    decap_set_time(d, CLOCK_METAMAKO);
    metamako(trailer, device_ns(), 1);
    hello_with(trailer, 16);
    expect_time(device_ns());
    hello_with(trailer, 20); /* with an FCS behind it */
    expect_time(device_ns());
}

Test(device_time, trailers_mean_nothing_unless_chosen) {
    uint8_t trailer[16];
    metamako(trailer, device_ns(), 0);
    hello_with(trailer, 16);
    expect_time(now_ns);
}

Test(device_time, packets_without_a_stamp_are_on_the_same_time_line) {
    uint8_t trailer[16];
    decap_set_time(d, CLOCK_METAMAKO);
    hello_with((const uint8_t *)"", 0);
    expect_time(now_ns);
    metamako(trailer, device_ns(), 1);
    hello_with(trailer, 16);
    expect_time(device_ns());
    now_ns += NS_PER_SECOND;
    hello_with((const uint8_t *)"", 0);
    expect_time(device_ns());
    cr_assert_eq(decap_time(d, now_ns), device_ns());
}

Test(device_time, metamako_damaged) {
    uint8_t trailer[16];
    decap_set_time(d, CLOCK_METAMAKO);
    metamako(trailer, device_ns(), 0);
    hello_with(trailer, 16);
    expect_drop(LINK_ETHERNET, DECAP_DAMAGED);
}

Test(device_time, metamako_degraded_or_duplicate) {
    uint8_t trailer[16];
    decap_set_time(d, CLOCK_METAMAKO);
    metamako(trailer, device_ns(), 0x15);
    hello_with(trailer, 16);
    expect_time(now_ns);
    cr_assert_eq(decap_times(d).degraded, 1);
    cr_assert_eq(decap_times(d).duplicate, 1);
}

Test(device_time, metamako_extensions_longer_than_the_frame) {
    uint8_t trailer[24] = {0};
    decap_set_time(d, CLOCK_METAMAKO);
    be(trailer, 0x0000ffdf, 4); /* tag 31, 1024 words */
    metamako(trailer + 4, device_ns(), 3);
    memcpy(trailer + 4, trailer, 4);
    hello_with(trailer, 20);
    expect_time(now_ns);
    cr_assert_eq(decap_times(d).stamped, 0);
}

Test(device_time, stamp_that_is_a_week_off) {
    uint8_t trailer[16];
    decap_set_time(d, CLOCK_METAMAKO);
    metamako(trailer, now_ns + 7 * 86400 * NS_PER_SECOND, 1);
    hello_with(trailer, 16);
    expect_time(now_ns);
}

Test(device_time, exablaze) {
    uint8_t trailer[16] = {0};
    decap_set_time(d, CLOCK_EXABLAZE);
    be(trailer + 6, device_ns() / NS_PER_SECOND, 4);
    be(trailer + 10, UINT64_C(1) << 38, 5); /* a quarter of a second */
    hello_with(trailer, 16);
    expect_time(device_ns() / NS_PER_SECOND * NS_PER_SECOND + NS_PER_SECOND / 4);
}

Test(device_time, vss) {
    uint8_t trailer[10] = {0};
    decap_set_time(d, CLOCK_VSS);
    be(trailer, device_ns() / NS_PER_SECOND, 4);
    be(trailer + 4, UINT64_C(2) << 30 | device_ns() % NS_PER_SECOND, 4);
    for (size_t port_bytes = 0; port_bytes <= 2; port_bytes++) {
        hello_with(trailer, 8 + port_bytes);
        expect_time(device_ns());
    }
    be(trailer + 4, device_ns() % NS_PER_SECOND, 4); /* not synchronised */
    hello_with(trailer, 8);
    expect_time(decap_time(d, now_ns));
    cr_assert_eq(decap_times(d).degraded, 1);
}

static void arista(uint16_t version) {
    frame_init(&f);
    hello_ipv4();
    frame_front_be(&f, 0x0800, 2);
    uint64_t seconds = device_ns() / NS_PER_SECOND + (version >> 8 == 0 ? 37 : 0);
    frame_front_be(&f, device_ns() % NS_PER_SECOND, 4);
    frame_front_be(&f, seconds, (version >> 4 & 15) == 1 ? 4 : 2);
    frame_front_be(&f, version, 2);
    frame_front_be(&f, 1, 2);
    frame_ethernet(&f, 0xd28b);
}

Test(device_time, arista_header) {
    static const uint16_t versions[] = {0x0010, 0x0110, 0x0020, 0x0120};
    decap_set_time(d, CLOCK_ARISTA);
    for (unsigned i = 0; i < 4; i++) {
        now_ns += 40000 * NS_PER_SECOND; /* 16 bits of seconds wrap within 18 h */
        arista(versions[i]);
        expect_time(device_ns());
    }
    cut_everywhere(LINK_ETHERNET);
}

Test(device_time, arista_header_of_other_hardware_gives_no_time) {
    decap_set_time(d, CLOCK_ARISTA);
    arista(0x0111);
    expect_time(now_ns);
}

Test(device_time, arista_header_of_another_kind) {
    arista(0x0030);
    expect_drop(LINK_ETHERNET, DECAP_NOT_IP);
}

/* --- ticks with keyframes --------------------------------------------------------------------- */

static uint64_t ticks_at(uint64_t time_ns) {
    return time_ns / 20 * 7;
}

static void exalink_keyframe(void) {
    uint8_t keyframe[40] = "EXKF\1";
    be(keyframe + 8, device_ns(), 8);
    be(keyframe + 16, ticks_at(device_ns()), 8);
    be(keyframe + 24, 350000000, 8);
    frame_init(&f);
    frame_front(&f, keyframe, sizeof keyframe);
    frame_ethernet(&f, 0x88b5);
    expect_drop(LINK_ETHERNET, DECAP_NOT_IP);
}

Test(device_time, exalink) {
    uint8_t trailer[4];
    decap_set_time(d, CLOCK_EXALINK);
    exalink_keyframe();
    for (unsigned i = 0; i < 30; i++) {
        now_ns += 700 * NS_PER_MS; /* the ticks wrap every 12 s */
        be(trailer, ticks_at(device_ns()), 4);
        hello_with(trailer, 4);
        expect_time(device_ns());
    }
    cr_assert_eq(decap_times(d).stamped, 30);
    cr_assert_eq(decap_times(d).keyframes, 1);
}

Test(device_time, ticks_before_a_keyframe) {
    uint8_t trailer[4] = {1, 2, 3, 4};
    decap_set_time(d, CLOCK_EXALINK);
    hello_with(trailer, 4);
    expect_time(now_ns);
}

Test(device_time, arista7150) {
    uint8_t keyframe[46] = {0};
    uint8_t trailer[4];
    decap_set_time(d, CLOCK_ARISTA7150);
    be(keyframe, ticks_at(device_ns()), 8);
    be(keyframe + 8, device_ns(), 8);
    frame_init(&f);
    frame_front(&f, keyframe, sizeof keyframe);
    frame_ipv4(&f, 253, 1, 0);
    frame_ethernet(&f, 0x0800);
    expect_drop(LINK_ETHERNET, DECAP_NOT_TCP);
    for (unsigned i = 0; i < 30; i++) {
        now_ns += 700 * NS_PER_MS;
        uint64_t ticks = ticks_at(device_ns());
        be(trailer, (ticks << 1 & 0xffffff00) | (ticks & 0x7f), 4);
        hello_with(trailer, 4);
        expect_time(device_ns());
    }
}

/* --- ERSPAN III ------------------------------------------------------------------------------- */

static void erspan3(uint32_t ticks, unsigned granularity, uint32_t seconds) {
    frame_init(&f);
    hello_ethernet();
    if (seconds > 0) {
        frame_front_be(&f, seconds, 4);
        frame_front_be(&f, UINT64_C(5) << 26, 4);
    }
    frame_front_be(&f, 0x8000 | granularity << 1 | (seconds > 0), 2);
    frame_front_be(&f, 0, 2);
    frame_front_be(&f, ticks, 4);
    frame_front_be(&f, 0x20000065, 4);
    frame_front_be(&f, 0x22eb, 4);
    frame_ipv4(&f, 47, 7, 0);
    frame_ethernet(&f, 0x0800);
}

Test(device_time, erspan_of_ieee_1588) {
    decap_set_time(d, CLOCK_ERSPAN);
    erspan3((uint32_t)(device_ns() % NS_PER_SECOND), 2, (uint32_t)(device_ns() / NS_PER_SECOND));
    expect_time(device_ns());
    now_ns += 900 * NS_PER_MS;
    erspan3((uint32_t)(device_ns() % NS_PER_SECOND), 2, 0); /* the second by the capture's clock */
    expect_time(device_ns());
    erspan3(1000000000, 2, 0);
    expect_time(device_ns());
    cr_assert_eq(decap_times(d).refused, 1);
}

/* Ticks without a wall time: distances are the device's, the time of day is the capture's. */
Test(device_time, erspan_ticks) {
    decap_set_time(d, CLOCK_ERSPAN);
    uint32_t ticks = UINT32_MAX - 5000;
    erspan3(ticks, 1, 0);
    expect_time(now_ns);
    uint64_t first_ns = now_ns;
    now_ns += 3 * NS_PER_MS; /* captured 2 ms late */
    erspan3(ticks + 10000, 1, 0);
    expect_time(first_ns + NS_PER_MS);
    now_ns += 1000 * NS_PER_SECOND; /* more than two times round */
    erspan3(ticks + 10000 + (uint32_t)(1000 * UINT64_C(10000000)), 1, 0);
    expect_hello(LINK_ETHERNET);
    cr_assert_lt(now_ns - last.time_ns, 3 * NS_PER_MS);
}

Test(device_time, erspan_clock_that_was_set) {
    decap_set_time(d, CLOCK_ERSPAN);
    erspan3(5, 0, 0);
    expect_time(now_ns);
    now_ns += NS_PER_MS;
    erspan3(5000000, 0, 0);
    expect_time(now_ns);
}

static void marker(uint64_t long_ticks, uint64_t wall_ns) {
    uint8_t bytes[58] = {0};
    be(bytes + 2, 0x22eb, 2);
    be(bytes + 20, 0xffff, 2);
    be(bytes + 22, 0x0114, 2);
    be(bytes + 24, 0x0425, 2);
    be(bytes + 26, long_ticks, 8);
    be(bytes + 34, wall_ns / NS_PER_SECOND + 37, 4);
    be(bytes + 38, wall_ns % NS_PER_SECOND, 4);
    be(bytes + 54, 0xa5a5a5a5, 4);
    frame_init(&f);
    frame_front(&f, bytes, sizeof bytes);
    frame_front_be(&f, 0, 2);
    frame_front_be(&f, 66, 2);
    frame_front_be(&f, UINT64_C(61556) << 16 | 8880, 4);
    frame_ipv4(&f, 17, 7, 0);
    frame_ethernet(&f, 0x0800);
    expect_drop(LINK_ETHERNET, DECAP_NOT_TCP);
}

Test(device_time, erspan_with_markers) {
    uint64_t boot_ns = now_ns - 45474 * NS_PER_SECOND;
    decap_set_time(d, CLOCK_ERSPAN);
    marker(now_ns - boot_ns, device_ns());
    erspan3((uint32_t)(now_ns - boot_ns), 3, 0);
    expect_time(now_ns); /* one marker does not tell how long a tick is */
    for (unsigned i = 0; i < 10; i++) {
        now_ns += NS_PER_SECOND;
        marker(now_ns - boot_ns, device_ns());
        now_ns += 300 * NS_PER_MS;
        erspan3((uint32_t)(now_ns - boot_ns), 3, 0);
        expect_time(device_ns());
    }
    cr_assert_eq(decap_times(d).keyframes, 11);
}

Test(device_time, marker_of_a_device_without_ticks) {
    decap_set_time(d, CLOCK_ERSPAN);
    for (unsigned i = 0; i < 3; i++) {
        marker(0, device_ns());
        now_ns += NS_PER_SECOND;
    }
    erspan3(7, 3, 0);
    expect_time(now_ns);
    cr_assert_eq(decap_times(d).keyframes, 3);
}
