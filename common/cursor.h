/*
 * cursor: the one way to read foreign bytes.
 *
 * A read past the end returns 0 (or NULL), moves nothing, and marks the cursor as failed for good,
 * so that a parser can read a whole header and ask once. Children are bounded by what they were
 * given: an inner parser cannot leave its part. No function here allocates.
 */
#ifndef SANREWIND_COMMON_CURSOR_H
#define SANREWIND_COMMON_CURSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct cursor {
    const uint8_t *next;
    const uint8_t *end;
    bool failed;
};

static inline struct cursor cursor_of(const void *data, size_t length) {
    const uint8_t *bytes = data;
    return (struct cursor){bytes, bytes + length, false};
}

static inline size_t cursor_left(const struct cursor *c) {
    return (size_t)(c->end - c->next);
}

static inline bool cursor_ok(const struct cursor *c) {
    return !c->failed;
}

/* `length` bytes, valid as long as the memory under the cursor; NULL when there are fewer. */
static inline const uint8_t *cursor_bytes(struct cursor *c, size_t length) {
    if (c->failed || cursor_left(c) < length) {
        c->failed = true;
        return NULL;
    }
    const uint8_t *bytes = c->next;
    c->next += length;
    return bytes;
}

static inline bool cursor_skip(struct cursor *c, size_t length) {
    return cursor_bytes(c, length) != NULL;
}

/* The next `length` bytes as a cursor of their own; failed when there are fewer. */
static inline struct cursor cursor_child(struct cursor *c, size_t length) {
    const uint8_t *bytes = cursor_bytes(c, length);
    if (bytes == NULL)
        return (struct cursor){c->end, c->end, true};
    return cursor_of(bytes, length);
}

static inline bool cursor_copy(struct cursor *c, void *to, size_t length) {
    const uint8_t *bytes = cursor_bytes(c, length);
    if (bytes == NULL) {
        memset(to, 0, length);
        return false;
    }
    memcpy(to, bytes, length);
    return true;
}

/* Of the odd widths that there are, too. */
static inline uint64_t cursor_be(struct cursor *c, size_t width) {
    const uint8_t *bytes = cursor_bytes(c, width);
    uint64_t value = 0;
    for (size_t i = 0; bytes != NULL && i < width; i++)
        value = value << 8 | bytes[i];
    return value;
}

/* Written out: compilers make one load of each, but not of a loop. */
static inline uint16_t cursor_load_be16(const uint8_t *b) {
    return (uint16_t)(b[0] << 8 | b[1]);
}
static inline uint32_t cursor_load_be32(const uint8_t *b) {
    return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}
static inline uint16_t cursor_load_le16(const uint8_t *b) {
    return (uint16_t)(b[1] << 8 | b[0]);
}
static inline uint32_t cursor_load_le32(const uint8_t *b) {
    return (uint32_t)b[3] << 24 | (uint32_t)b[2] << 16 | (uint32_t)b[1] << 8 | b[0];
}

static inline uint8_t cursor_u8(struct cursor *c) {
    const uint8_t *b = cursor_bytes(c, 1);
    return b != NULL ? b[0] : 0;
}
static inline uint16_t cursor_be16(struct cursor *c) {
    const uint8_t *b = cursor_bytes(c, 2);
    return b != NULL ? cursor_load_be16(b) : 0;
}
static inline uint32_t cursor_be24(struct cursor *c) {
    const uint8_t *b = cursor_bytes(c, 3);
    return b != NULL ? (uint32_t)cursor_load_be16(b) << 8 | b[2] : 0;
}
static inline uint32_t cursor_be32(struct cursor *c) {
    const uint8_t *b = cursor_bytes(c, 4);
    return b != NULL ? cursor_load_be32(b) : 0;
}
static inline uint64_t cursor_be64(struct cursor *c) {
    const uint8_t *b = cursor_bytes(c, 8);
    return b != NULL ? (uint64_t)cursor_load_be32(b) << 32 | cursor_load_be32(b + 4) : 0;
}
static inline uint16_t cursor_le16(struct cursor *c) {
    const uint8_t *b = cursor_bytes(c, 2);
    return b != NULL ? cursor_load_le16(b) : 0;
}
static inline uint32_t cursor_le32(struct cursor *c) {
    const uint8_t *b = cursor_bytes(c, 4);
    return b != NULL ? cursor_load_le32(b) : 0;
}
static inline uint64_t cursor_le64(struct cursor *c) {
    const uint8_t *b = cursor_bytes(c, 8);
    return b != NULL ? (uint64_t)cursor_load_le32(b + 4) << 32 | cursor_load_le32(b) : 0;
}

#endif
