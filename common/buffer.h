/*
 * buffer: bytes being written, with a limit given at init.
 *
 * The mirror image of cursor: a write that would pass the limit (or for which there is no memory)
 * writes nothing and marks the buffer as failed, to be asked once at the end. Not thread-safe.
 */
#ifndef SANREWIND_COMMON_BUFFER_H
#define SANREWIND_COMMON_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buffer {
    uint8_t *data; /* owned */
    size_t length;
    size_t capacity;
    size_t limit;
    bool failed;
};

void buffer_init(struct buffer *b, size_t limit);
void buffer_release(struct buffer *b);
/* Empty, ready to be filled again; keeps the memory. */
void buffer_clear(struct buffer *b);
/* Room for `more` bytes at the end, now; false when the limit or the memory ends. */
bool buffer_reserve(struct buffer *b, size_t more);

void buffer_put(struct buffer *b, const void *data, size_t length);
void buffer_put_zeros(struct buffer *b, size_t length);
void buffer_put_le(struct buffer *b, uint64_t value, size_t width);
void buffer_put_be(struct buffer *b, uint64_t value, size_t width);
/* Overwrite `width` bytes at `at`, which must have been written already. */
void buffer_patch_le(struct buffer *b, size_t at, uint64_t value, size_t width);

static inline void buffer_put_u8(struct buffer *b, uint8_t value) {
    buffer_put_le(b, value, 1);
}
static inline void buffer_put_le16(struct buffer *b, uint16_t value) {
    buffer_put_le(b, value, 2);
}
static inline void buffer_put_le32(struct buffer *b, uint32_t value) {
    buffer_put_le(b, value, 4);
}
static inline void buffer_put_le64(struct buffer *b, uint64_t value) {
    buffer_put_le(b, value, 8);
}

#define AUTO_BUFFER __attribute__((cleanup(buffer_release))) struct buffer

#endif
