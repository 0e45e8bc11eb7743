#include "tests/unit/tap/frame_maker.h"

#include <criterion/criterion.h>
#include <string.h>

static const uint8_t ipv4[2][4] = {{10, 0, 0, 1}, {10, 0, 0, 2}};
static const uint8_t ipv6[2][16] = {{0xfd, [15] = 1}, {0xfd, [15] = 2}};

void frame_init(struct made_frame *f) {
    f->start = sizeof f->bytes;
}

void frame_front(struct made_frame *f, const void *bytes, size_t length) {
    cr_assert_leq(length, f->start);
    f->start -= length;
    memcpy(f->bytes + f->start, bytes, length);
}

void frame_front_be(struct made_frame *f, uint64_t value, size_t width) {
    for (; width > 0; width--) {
        uint8_t byte = (uint8_t)value;
        frame_front(f, &byte, 1);
        value >>= 8;
    }
}

static uint32_t sum(const uint8_t *bytes, size_t length) {
    uint32_t total = 0;
    for (size_t i = 0; i < length; i++)
        total += (uint32_t)bytes[i] << (i % 2 == 0 ? 8 : 0);
    return total;
}

void frame_tcp(struct made_frame *f, int family, size_t option_bytes, const char *text) {
    static const uint8_t no_operation[40] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    frame_front(f, text, strlen(text));
    frame_front(f, no_operation, option_bytes);
    frame_front_be(f, 0, 6); /* window, checksum, urgent pointer */
    frame_front_be(f, 0x10, 1);
    frame_front_be(f, (20 + option_bytes) / 4 << 4, 1);
    frame_front_be(f, 200, 4);
    frame_front_be(f, 100, 4);
    frame_front_be(f, 3260, 2);
    frame_front_be(f, 40000, 2);
    size_t length = 20 + option_bytes + strlen(text);
    uint32_t total = 6 + (uint32_t)length + sum(frame_data(f), length);
    for (int i = 0; i < 2; i++)
        total += family == 4 ? sum(ipv4[i], 4) : sum(ipv6[i], 16);
    while (total > 0xffff)
        total = (total & 0xffff) + (total >> 16);
    *frame_at(f, 16) = (uint8_t)(~total >> 8);
    *frame_at(f, 17) = (uint8_t)~total;
}

void frame_ipv4(struct made_frame *f, uint8_t protocol, uint16_t id, uint16_t flags_offset) {
    size_t total = frame_length(f) + 20;
    frame_front(f, ipv4[1], 4);
    frame_front(f, ipv4[0], 4);
    frame_front_be(f, 0, 2);
    frame_front_be(f, protocol, 1);
    frame_front_be(f, 64, 1);
    frame_front_be(f, flags_offset, 2);
    frame_front_be(f, id, 2);
    frame_front_be(f, total <= 0xffff ? total : 0, 2);
    frame_front_be(f, 0x4500, 2);
}

void frame_ipv6(struct made_frame *f, uint8_t next_header) {
    size_t payload = frame_length(f);
    frame_front(f, ipv6[1], 16);
    frame_front(f, ipv6[0], 16);
    frame_front_be(f, 64, 1);
    frame_front_be(f, next_header, 1);
    frame_front_be(f, payload <= 0xffff ? payload : 0, 2);
    frame_front_be(f, 0x60000000, 4);
}

void frame_ethernet(struct made_frame *f, uint16_t ethertype) {
    frame_front_be(f, ethertype, 2);
    frame_front(f, "\2\0\0\0\0\1\2\0\0\0\0\2", 12);
}
