#include "common/clock.h"
#include "common/stop.h"
#include "tap/capture/capture.h"

#include <archive.h>
#include <archive_entry.h>
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

enum { ETHERNET = 1, FRAME = 60 };

static const uint32_t magic_us = 0xa1b2c3d4;
static const uint32_t magic_ns = 0xa1b23c4d;

static char folder[] = "/tmp/sanrewind-capture-XXXXXX";
static char path[2][64];
static struct capture *c;
static struct capture_options options = {.snap_bytes = 262144};
static struct error err;

/* A capture file being written. */
static uint8_t file[4 << 20];
static size_t length;

static void start(void) {
    cr_assert_not_null(mkdtemp(folder));
    for (unsigned i = 0; i < 2; i++)
        snprintf(path[i], sizeof path[i], "%s/%u.pcap", folder, i);
    c = capture_create(&options);
}

static void stop(void) {
    capture_destroy(c);
    for (unsigned i = 0; i < 2; i++)
        unlink(path[i]);
    rmdir(folder);
}

TestSuite(capture, .init = start, .fini = stop);

static void put(uint64_t value, size_t width, bool big_endian) {
    for (size_t i = 0; i < width; i++)
        file[length + i] = (uint8_t)(value >> 8 * (big_endian ? width - 1 - i : i));
    length += width;
}

static void put_header(uint32_t magic, bool big_endian, uint32_t link_type) {
    length = 0;
    put(magic, 4, big_endian);
    put(2, 2, big_endian);
    put(4, 2, big_endian);
    put(0, 8, big_endian);
    put(262144, 4, big_endian);
    put(link_type, 4, big_endian);
}

/* A frame that is an IPv4 UDP packet to port `port`, so that filters have something to say. */
static void put_frame(uint16_t port) {
    memset(file + length, 0, FRAME);
    file[length + 12] = 8;
    file[length + 14] = 0x45;
    file[length + 17] = 46;
    file[length + 23] = 17;
    file[length + 36] = (uint8_t)(port >> 8);
    file[length + 37] = (uint8_t)port;
    length += FRAME;
}

static void put_packet(uint32_t seconds, uint32_t fraction, uint16_t port, bool big_endian) {
    put(seconds, 4, big_endian);
    put(fraction, 4, big_endian);
    put(FRAME, 4, big_endian);
    put(FRAME + 7, 4, big_endian);
    put_frame(port);
}

static void save(const char *to, size_t bytes) {
    FILE *f = fopen(to, "w");
    cr_assert_not_null(f);
    cr_assert_eq(fwrite(file, 1, bytes, f), bytes);
    fclose(f);
}

static void save_compressed(const char *to, int (*filter)(struct archive *), size_t cut) {
    static uint8_t packed[sizeof file];
    size_t used = 0;
    struct archive *a = archive_write_new();
    struct archive_entry *entry = archive_entry_new();
    archive_entry_set_pathname(entry, "x");
    archive_entry_set_filetype(entry, S_IFREG);
    cr_assert_eq(filter(a), ARCHIVE_OK);
    archive_write_set_format_raw(a);
    archive_write_set_bytes_per_block(a, 0);
    archive_write_open_memory(a, packed, sizeof packed, &used);
    archive_write_header(a, entry);
    archive_write_data(a, file, length);
    archive_entry_free(entry);
    archive_write_free(a);
    memcpy(file, packed, used);
    save(to, used - cut);
}

/* The next packet is the one to `port`. */
static void expect_packet(uint16_t port, uint64_t time_ns) {
    struct packet packet;
    uint64_t quiet = 0;
    cr_assert_eq(capture_next(c, 0, &packet, &quiet, &err), CAPTURE_PACKET, "%s", err.text);
    cr_assert_eq(packet.data[36] << 8 | packet.data[37], port);
    cr_assert_eq(packet.caplen, FRAME);
    cr_assert_eq(packet.wire_length, FRAME + 7);
    cr_assert_eq(packet.link_type, ETHERNET);
    cr_assert_eq(packet.time_ns, time_ns);
}

static int next(void) {
    struct packet packet;
    uint64_t quiet = 0;
    return capture_next(c, 0, &packet, &quiet, &err);
}

static void expect_end(void) {
    cr_assert_eq(next(), CAPTURE_END);
    cr_assert_eq(next(), CAPTURE_END);
}

static void add(unsigned which) {
    cr_assert_eq(capture_add_file(c, path[which], &err), 0, "%s", err.text);
}

static void expect_refusal(int code, const char *words) {
    err = (struct error){0};
    cr_assert_eq(capture_add_file(c, path[0], &err), code, "%d: %s", err.code, err.text);
    cr_assert_eq(err.code, code);
    cr_assert_not_null(strstr(err.text, words), "%s", err.text);
    cr_assert_eq(capture_add_file(c, path[0], NULL), code);
}

static const uint64_t base_ns = UINT64_C(1700000000) * NS_PER_SECOND;

static void two_packets(void) {
    put_header(magic_ns, false, ETHERNET);
    put_packet(1700000000, 123456789, 1, false);
    put_packet(1700000001, 1, 2, false);
}

static void expect_two_packets(void) {
    add(0);
    expect_packet(1, base_ns + 123456789);
    expect_packet(2, base_ns + NS_PER_SECOND + 1);
    expect_end();
}

Test(capture, nanoseconds) {
    two_packets();
    save(path[0], length);
    expect_two_packets();
    cr_assert_eq(capture_stats(c).packets, 2);
    cr_assert_eq(capture_stats(c).bytes, 2 * FRAME);
    cr_assert_eq(capture_stats(c).dropped, 0);
}

Test(capture, microseconds_of_a_big_endian_host) {
    put_header(magic_us, true, ETHERNET);
    put_packet(1700000000, 123456, 1, true);
    save(path[0], length);
    add(0);
    expect_packet(1, base_ns + 123456000);
    expect_end();
}

Test(capture, pcapng) {
    length = 0;
    put(0x0a0d0d0a, 4, false); /* section header block */
    put(28, 4, false);
    put(0x1a2b3c4d, 4, false);
    put(1, 4, false);
    put(UINT64_MAX, 8, false);
    put(28, 4, false);
    put(1, 4, false); /* interface description block, if_tsresol 9 */
    put(32, 4, false);
    put(ETHERNET, 4, false);
    put(262144, 4, false);
    put(9 | 1 << 16, 4, false);
    put(9, 4, false);
    put(0, 4, false);
    put(32, 4, false);
    uint64_t time_ns = base_ns + 123456789;
    put(6, 4, false); /* enhanced packet block */
    put(32 + FRAME, 4, false);
    put(0, 4, false);
    put(time_ns >> 32, 4, false);
    put(time_ns & UINT32_MAX, 4, false);
    put(FRAME, 4, false);
    put(FRAME + 7, 4, false);
    put_frame(1);
    put(32 + FRAME, 4, false);
    save(path[0], length);
    add(0);
    expect_packet(1, time_ns);
    expect_end();
}

Test(capture, xz) {
    two_packets();
    save_compressed(path[0], archive_write_add_filter_xz, 0);
    expect_two_packets();
}

Test(capture, zstd) {
    two_packets();
    save_compressed(path[0], archive_write_add_filter_zstd, 0);
    expect_two_packets();
}

Test(capture, gzip) {
    two_packets();
    save_compressed(path[0], archive_write_add_filter_gzip, 0);
    expect_two_packets();
}

Test(capture, several_files_are_merged_by_time) {
    put_header(magic_ns, false, ETHERNET);
    put_packet(1700000000, 10, 1, false);
    put_packet(1700000000, 30, 3, false);
    put_packet(1700000000, 30, 4, false);
    save(path[0], length);
    put_header(magic_us, true, ETHERNET);
    put_packet(1700000000, 0, 0, true);
    put_packet(1700000000, 1, 5, true);
    save(path[1], length);
    add(0);
    add(1);
    expect_packet(0, base_ns);
    expect_packet(1, base_ns + 10);
    expect_packet(3, base_ns + 30);
    expect_packet(4, base_ns + 30);
    expect_packet(5, base_ns + 1000);
    expect_end();
}

Test(capture, equal_times_keep_the_order_of_the_files) {
    put_header(magic_ns, false, ETHERNET);
    put_packet(1700000000, 10, 1, false);
    put_packet(1700000000, 10, 2, false);
    save(path[0], length);
    file[length - FRAME + 37] = 4;
    file[24 + 16 + 37] = 3;
    save(path[1], length);
    add(0);
    add(1);
    for (uint16_t port = 1; port <= 4; port++)
        expect_packet(port, base_ns + 10);
    expect_end();
}

Test(capture, cut_file_gives_what_it_has_and_then_says_so_once) {
    two_packets();
    for (size_t cut = 1; cut < FRAME + 16; cut++) {
        save(path[0], length - cut);
        add(0);
        expect_packet(1, base_ns + 123456789);
        cr_assert_eq(next(), ERR_FORMAT);
        cr_assert_not_null(strstr(err.text, "cut short"), "%s", err.text);
        cr_assert_not_null(strstr(err.text, path[0]), "%s", err.text);
        expect_end();
        capture_destroy(c);
        c = capture_create(&options);
    }
}

Test(capture, cut_file_does_not_hide_the_others) {
    two_packets();
    save(path[0], length - 20);
    put_header(magic_ns, false, ETHERNET);
    put_packet(1700000009, 0, 9, false);
    save(path[1], length);
    add(0);
    add(1);
    expect_packet(1, base_ns + 123456789);
    expect_packet(9, base_ns + 9 * NS_PER_SECOND);
    cr_assert_eq(next(), ERR_FORMAT);
    expect_end();
}

Test(capture, damaged_compressed_data) {
    put_header(magic_ns, false, ETHERNET);
    unsigned seed = 7;
    for (uint32_t i = 0; i < 40000; i++) {
        put_packet(1700000000, i, 1, false);
        for (size_t at = length - 20; at < length; at++)
            file[at] = (uint8_t)rand_r(&seed);
    }
    save_compressed(path[0], archive_write_add_filter_zstd, 1000);
    add(0);
    int outcome = CAPTURE_PACKET;
    while (outcome == CAPTURE_PACKET)
        outcome = next();
    cr_assert_eq(outcome, ERR_FORMAT);
    cr_assert_gt(capture_stats(c).packets, 1000, "what could be read was given");
    expect_end();
}

Test(capture, no_such_file) {
    expect_refusal(ERR_NOT_FOUND, "No such file");
}

Test(capture, a_directory) {
    mkdir(path[0], 0700);
    expect_refusal(ERR_FORMAT, "directory");
    rmdir(path[0]);
}

Test(capture, an_empty_file) {
    save(path[0], 0);
    expect_refusal(ERR_FORMAT, "empty");
}

Test(capture, a_foreign_file) {
    memcpy(file, "This is a letter, not a capture of packets.", 43);
    save(path[0], 43);
    expect_refusal(ERR_FORMAT, "not a capture file");
}

Test(capture, a_foreign_file_compressed) {
    memcpy(file, "This is a letter, not a capture of packets.", 43);
    length = 43;
    save_compressed(path[0], archive_write_add_filter_zstd, 0);
    expect_refusal(ERR_FORMAT, "not a capture file");
}

Test(capture, a_header_cut_anywhere) {
    two_packets();
    for (size_t bytes = 1; bytes < 24; bytes++) {
        save(path[0], bytes);
        expect_refusal(ERR_FORMAT, "not a capture file");
    }
}

Test(capture, a_compressed_header_cut_anywhere) {
    two_packets();
    save_compressed(path[0], archive_write_add_filter_xz, 0);
    for (size_t bytes = 6; bytes < 30; bytes++) {
        save(path[0], bytes);
        expect_refusal(ERR_FORMAT, path[0]);
    }
}

Test(capture, filter) {
    capture_destroy(c);
    c = capture_create(&(struct capture_options){.filter = "udp port 2"});
    two_packets();
    save(path[0], length);
    add(0);
    expect_packet(2, base_ns + NS_PER_SECOND + 1);
    expect_end();
}

Test(capture, filter_with_a_mistake) {
    capture_destroy(c);
    c = capture_create(&(struct capture_options){.filter = "udp prot 2"});
    two_packets();
    save(path[0], length);
    expect_refusal(ERR_USAGE, "\"udp prot 2\"");
}

static bool knows_ethernet(int link_type) {
    return link_type == ETHERNET;
}

Test(capture, link_type_that_nobody_reads) {
    capture_destroy(c);
    c = capture_create(&(struct capture_options){.knows_link = knows_ethernet});
    put_header(magic_ns, false, 147);
    save(path[0], length);
    expect_refusal(ERR_FORMAT, "147");
    two_packets();
    save(path[0], length);
    expect_two_packets();
}

Test(capture, too_many_files) {
    two_packets();
    save(path[0], length);
    for (unsigned i = 0; i < 64; i++)
        add(0);
    expect_refusal(ERR_USAGE, "more than 64");
}

Test(capture, no_such_interface) {
    cr_assert_eq(capture_add_interface(c, "nonesuch0", &err), ERR_IO);
    cr_assert_not_null(strstr(err.text, "nonesuch0"), "%s", err.text);
}

static void send_to(uint16_t port, uint8_t byte) {
    int s = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    cr_assert_eq(sendto(s, &byte, 1, 0, (struct sockaddr *)&to, sizeof to), 1);
    close(s);
}

/* Live capture of the loopback interface, where the rights for it are at hand. */
static void go_live(void) {
    capture_destroy(c);
    c = capture_create(
        &(struct capture_options){.snap_bytes = 262144, .filter = "udp dst port 47111"});
    if (capture_add_interface(c, "lo", &err) != 0) {
        cr_assert_not_null(strstr(err.text, "CAP_NET_RAW"), "%s", err.text);
        cr_skip("no right to capture");
    }
    cr_assert_eq(stop_install(&err), 0);
}

Test(capture, live) {
    go_live();
    uint64_t before_ns = clock_wall_ns();
    send_to(47111, 42);
    struct packet packet;
    uint64_t quiet_ns = 0;
    int outcome = CAPTURE_IDLE;
    struct mono began = clock_mono();
    while (outcome == CAPTURE_IDLE && clock_since_ns(began) < 10 * NS_PER_SECOND) {
        outcome = capture_next(c, 50 * NS_PER_MS, &packet, &quiet_ns, &err);
        cr_assert(outcome != CAPTURE_IDLE || quiet_ns < clock_wall_ns());
    }
    cr_assert_eq(outcome, CAPTURE_PACKET, "%s", err.text);
    cr_assert_eq(packet.data[packet.caplen - 1], 42);
    cr_assert_geq(packet.time_ns, before_ns);
    cr_assert_lt(quiet_ns, packet.time_ns, "nothing was promised that came later");
}

Test(capture, stop_gives_what_was_captured_before) {
    go_live();
    send_to(47111, 1);
    stop_request();
    unsigned packets = 0;
    int outcome;
    while ((outcome = next()) == CAPTURE_PACKET)
        packets++;
    cr_assert_eq(outcome, CAPTURE_END);
    cr_assert_geq(packets, 1);
}

Test(capture, stop_ends_the_waiting) {
    go_live();
    stop_request();
    struct packet packet;
    uint64_t quiet_ns = 0;
    struct mono began = clock_mono();
    cr_assert_eq(capture_next(c, 30 * NS_PER_SECOND, &packet, &quiet_ns, &err), CAPTURE_END);
    cr_assert_lt(clock_since_ns(began), 10 * NS_PER_SECOND);
}
