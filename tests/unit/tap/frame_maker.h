/*
 * frame_maker: frames for tests, built from the inside out, so that every length is right unless a
 * test breaks it on purpose afterwards.
 */
#ifndef SANREWIND_TESTS_FRAME_MAKER_H
#define SANREWIND_TESTS_FRAME_MAKER_H

#include <stddef.h>
#include <stdint.h>

struct made_frame {
    uint8_t bytes[80000]; /* the frame ends at the end of it */
    size_t start;
};

static inline const uint8_t *frame_data(const struct made_frame *f) {
    return f->bytes + f->start;
}
static inline uint8_t *frame_at(struct made_frame *f, size_t offset) {
    return f->bytes + f->start + offset;
}
static inline size_t frame_length(const struct made_frame *f) {
    return sizeof f->bytes - f->start;
}

/* An empty frame; what is put in front of it comes first on the wire. */
void frame_init(struct made_frame *f);
void frame_front(struct made_frame *f, const void *bytes, size_t length);
void frame_front_be(struct made_frame *f, uint64_t value, size_t width);

/* TCP from port 40000 to 3260, sequence 100, acknowledging 200; the checksum is right for `family`.
 */
void frame_tcp(struct made_frame *f, int family, size_t option_bytes, const char *text);
/* From 10.0.0.1 to 10.0.0.2, or from fd00::1 to fd00::2. */
void frame_ipv4(struct made_frame *f, uint8_t protocol, uint16_t id, uint16_t flags_offset);
void frame_ipv6(struct made_frame *f, uint8_t next_header);
void frame_ethernet(struct made_frame *f, uint16_t ethertype);

#endif
