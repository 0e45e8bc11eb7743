#include "common/crc32.h"
#include "tests/unit/tap/decap_world.h"

#include <criterion/criterion.h>
#include <string.h>

enum { HEADER_BYTES = 24, CRC_BYTES = 4, VSAN = 77 };

TestSuite(decap_cisco, .init = world_start, .fini = world_stop);

/* An FC frame with `payload_bytes`, and its CRC. */
static void fc(size_t payload_bytes) {
    static uint8_t frame[4096];
    memset(frame, 0x5a, sizeof frame);
    frame[0] = 0x01;
    size_t bytes = HEADER_BYTES + payload_bytes;
    uint32_t crc = crc32_frame(0, frame, bytes);
    for (unsigned i = 0; i < 4; i++)
        frame[bytes + i] = (uint8_t)(crc >> 8 * i);
    frame_init(&f);
    frame_front(&f, frame, bytes + CRC_BYTES);
}

static size_t behind(const uint8_t *bytes, size_t length) {
    memmove(f.bytes + f.start - length, f.bytes + f.start, frame_length(&f));
    memcpy(f.bytes + sizeof f.bytes - length, bytes, length);
    f.start -= length;
    return length;
}

/* SOFi3, EOFt. */
static void paa(size_t payload_bytes, uint16_t count, uint8_t errors, uint32_t words) {
    uint8_t tail[8] = {(uint8_t)(words >> 24),
                       (uint8_t)(words >> 16),
                       (uint8_t)(words >> 8),
                       (uint8_t)words,
                       (uint8_t)(count >> 8),
                       (uint8_t)count,
                       errors,
                       1};
    fc(payload_bytes);
    bool has_length = (errors & 1) != 0;
    behind(has_length ? tail : tail + 4, has_length ? 8 : 4);
    frame_front_be(&f, 6 << 12 | VSAN, 2);
    frame_ethernet(&f, 0x88ae);
}

static void expect_fc(size_t payload_bytes) {
    unsigned before = fc_frames;
    show(LINK_ETHERNET);
    cr_assert_eq(fc_frames, before + 1);
    cr_assert_eq(last_fc.bytes, HEADER_BYTES + payload_bytes + CRC_BYTES);
    cr_assert_eq(last_fc.wire_bytes, last_fc.bytes);
    cr_assert(last_fc.has_crc);
    cr_assert_not(last_fc.bad);
    cr_assert_eq(last_fc.sof, FC_SOF_I3);
    cr_assert_eq(last_fc.eof, FC_EOF_T);
    cr_assert_eq(last_fc.vsan, VSAN);
}

Test(decap_cisco, adapter) {
    paa(64, 1, 0, 0);
    expect_fc(64);
    paa(64, 2, 1, (HEADER_BYTES + 64 + CRC_BYTES) / 4);
    expect_fc(64);
}

Test(decap_cisco, adapter_pads_short_frames) {
    fc(0);
    behind((const uint8_t *)"\0\0\0\0\0\0\0\0\0\0\0\0", 12);
    behind((const uint8_t *)"\0\1\0\1", 4);
    frame_front_be(&f, 6 << 12 | VSAN, 2);
    frame_ethernet(&f, 0x88ae);
    expect_fc(0);
}

Test(decap_cisco, adapter_says_that_a_frame_is_bad) {
    static const uint8_t flags[] = {0x10, 0x40, 0x80};
    for (unsigned i = 0; i < sizeof flags; i++) {
        paa(64, (uint16_t)i, flags[i], 0);
        show(LINK_ETHERNET);
        cr_assert_eq(fc_frames, i + 1);
        cr_assert(last_fc.bad);
    }
    paa(64, 3, 0, 0);
    *frame_at(&f, frame_length(&f) - 1) = 4; /* EOFa */
    show(LINK_ETHERNET);
    cr_assert(last_fc.bad);
}

Test(decap_cisco, adapter_truncates) {
    paa(64, 1, 0x08, 0);
    show(LINK_ETHERNET);
    cr_assert_eq(last_fc.bytes, HEADER_BYTES + 64 + CRC_BYTES);
    cr_assert_gt(last_fc.wire_bytes, last_fc.bytes);
    cr_assert_not(last_fc.has_crc);
    paa(64, 2, 0x05, (HEADER_BYTES + 2048 + CRC_BYTES) / 4);
    show(LINK_ETHERNET);
    cr_assert_eq(last_fc.wire_bytes, HEADER_BYTES + 2048);
}

Test(decap_cisco, adapter_without_a_frame) {
    paa(64, 1, 0x02, 0);
    expect_drop(LINK_ETHERNET, DECAP_DAMAGED);
}

Test(decap_cisco, adapter_lengths) {
    paa(64, 1, 1, UINT32_MAX);
    show(LINK_ETHERNET); /* longer than what is there: not believed */
    cr_assert_eq(last_fc.bytes, HEADER_BYTES + 64 + CRC_BYTES);
    frame_init(&f);
    frame_front(&f, "\0\1\0\1", 4);
    frame_front_be(&f, 6 << 12, 2);
    frame_ethernet(&f, 0x88ae);
    expect_drop(LINK_ETHERNET, DECAP_MALFORMED);
    frame_init(&f);
    frame_front_be(&f, 6 << 12, 2);
    frame_ethernet(&f, 0x88ae);
    expect_drop(LINK_ETHERNET, DECAP_MALFORMED);
}

Test(decap_cisco, adapter_frames_cut_by_the_capture) {
    paa(64, 1, 0, 0);
    size_t whole = frame_length(&f);
    for (size_t captured = 0; captured < whole; captured++) {
        unsigned frames = fc_frames;
        uint64_t drops = dropped();
        show_cut(LINK_ETHERNET, captured);
        cr_assert_eq(fc_frames - frames + dropped() - drops, 1, "at %zu", captured);
        cr_assert_eq(fc_frames - frames, captured >= 14 + 2 + HEADER_BYTES, "at %zu", captured);
        if (fc_frames > frames) {
            cr_assert_not(last_fc.has_crc);
            cr_assert_geq(last_fc.wire_bytes, last_fc.bytes);
        }
    }
}

Test(decap_cisco, adapter_counts) {
    for (uint16_t i = 0; i < 10; i++) {
        paa(64, (uint16_t)(65530 + i), 0, 0);
        expect_fc(64);
    }
    uint64_t right_ns = now_ns;
    now_ns += 5;
    paa(64, 4 + 3, 0, 0);
    expect_fc(64);
    decap_finish(d);
    cr_assert_eq(losses, 1);
    cr_assert_eq(loss_ns, right_ns);
    cr_assert_not_null(strstr(loss_text, "3 frames of the port analyser adapter"));
}

/* Three that hold prove that the CRC is there: then one that does not is broken, not absent. */
Test(decap_cisco, adapter_frame_whose_crc_does_not_hold) {
    paa(64, 0, 0, 0);
    *frame_at(&f, 40) ^= 1;
    show(LINK_ETHERNET);
    cr_assert_not(last_fc.has_crc);
    for (uint16_t i = 1; i < 4; i++) {
        paa(64, i, 0, 0);
        expect_fc(64);
    }
    paa(64, 4, 0, 0);
    *frame_at(&f, 40) ^= 1;
    show(LINK_ETHERNET);
    cr_assert(last_fc.has_crc);
}

static void mds(size_t payload_bytes, size_t length, uint16_t ethertype) {
    fc(payload_bytes);
    uint8_t tail[6] = {3};
    memcpy(tail + 2, f.bytes + sizeof f.bytes - 4, 4);
    behind(tail + 4, 2); /* the CRC makes way for EOF and a byte */
    memcpy(f.bytes + sizeof f.bytes - 6, tail, 6);
    frame_front_be(&f, VSAN << 8, 3);
    frame_front(&f, "\0\0\0\0\0\0\0\0\0", 9);
    frame_front_be(&f, length, 2);
    frame_front_be(&f, 6, 2);
    frame_ethernet(&f, ethertype);
}

static void expect_mds(size_t payload_bytes) {
    unsigned before = fc_frames;
    show(LINK_ETHERNET);
    cr_assert_eq(fc_frames, before + 1);
    cr_assert_eq(last_fc.bytes, HEADER_BYTES + payload_bytes);
    cr_assert_eq(last_fc.wire_bytes, last_fc.bytes);
    cr_assert_not(last_fc.has_crc);
    cr_assert_eq(last_fc.sof, FC_SOF_I3);
    cr_assert_eq(last_fc.eof, FC_EOF_N);
    cr_assert_eq(last_fc.vsan, VSAN);
}

Test(decap_cisco, switch_header) {
    mds(64, HEADER_BYTES + 64 + 6, 0xfcfc);
    expect_mds(64);
    mds(0, HEADER_BYTES + 6, 0);
    expect_mds(0);
}

Test(decap_cisco, switch_header_lengths) {
    mds(64, HEADER_BYTES + 5, 0xfcfc);
    expect_drop(LINK_ETHERNET, DECAP_MALFORMED);
    mds(64, HEADER_BYTES + 64 + 7, 0xfcfc);
    expect_drop(LINK_ETHERNET, DECAP_MALFORMED);
    mds(64, 0x1fff, 0); /* zero is not a number of anything, either */
    expect_drop(LINK_ETHERNET, DECAP_NOT_IP);
}

Test(decap_cisco, switch_header_cut_by_the_capture) {
    mds(64, HEADER_BYTES + 64 + 6, 0xfcfc);
    size_t whole = frame_length(&f);
    for (size_t captured = 0; captured < whole; captured++) {
        unsigned frames = fc_frames;
        show_cut(LINK_ETHERNET, captured);
        cr_assert_eq(fc_frames - frames, captured >= 14 + 16, "at %zu", captured);
        if (fc_frames > frames)
            cr_assert_eq(last_fc.wire_bytes, HEADER_BYTES + 64);
    }
}
