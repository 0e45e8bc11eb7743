#include "common/buffer.h"

#include <stdlib.h>
#include <string.h>

enum { BUFFER_FIRST_CAPACITY = 256 };

void buffer_init(struct buffer *b, size_t limit) {
    *b = (struct buffer){.limit = limit};
}

void buffer_release(struct buffer *b) {
    free(b->data);
    *b = (struct buffer){0};
}

void buffer_clear(struct buffer *b) {
    b->length = 0;
    b->failed = false;
}

bool buffer_reserve(struct buffer *b, size_t more) {
    if (b->failed)
        return false;
    if (more > b->limit - b->length) {
        b->failed = true;
        return false;
    }
    size_t need = b->length + more;
    if (need <= b->capacity)
        return true;
    size_t capacity = b->capacity > 0 ? b->capacity : BUFFER_FIRST_CAPACITY;
    while (capacity < need)
        capacity *= 2;
    if (capacity > b->limit)
        capacity = b->limit;
    uint8_t *data = realloc(b->data, capacity);
    if (data == NULL) {
        b->failed = true;
        return false;
    }
    b->data = data;
    b->capacity = capacity;
    return true;
}

void buffer_put(struct buffer *b, const void *data, size_t length) {
    if (length == 0 || !buffer_reserve(b, length))
        return;
    memcpy(b->data + b->length, data, length);
    b->length += length;
}

void buffer_put_zeros(struct buffer *b, size_t length) {
    if (length == 0 || !buffer_reserve(b, length))
        return;
    memset(b->data + b->length, 0, length);
    b->length += length;
}

/* Written out: compilers make one store of it, but not of a loop. */
static void store_le32(uint8_t *to, uint64_t value) {
    to[0] = (uint8_t)value;
    to[1] = (uint8_t)(value >> 8);
    to[2] = (uint8_t)(value >> 16);
    to[3] = (uint8_t)(value >> 24);
}

static void store_le(uint8_t *to, uint64_t value, size_t width) {
    if (width == 8)
        store_le32(to + 4, value >> 32);
    if (width == 8 || width == 4) {
        store_le32(to, value);
        return;
    }
    for (size_t i = 0; i < width; i++)
        to[i] = (uint8_t)(value >> (8 * i));
}

void buffer_put_le(struct buffer *b, uint64_t value, size_t width) {
    if (!buffer_reserve(b, width))
        return;
    store_le(b->data + b->length, value, width);
    b->length += width;
}

void buffer_put_be(struct buffer *b, uint64_t value, size_t width) {
    uint8_t bytes[8];
    for (size_t i = 0; i < width; i++)
        bytes[i] = (uint8_t)(value >> (8 * (width - 1 - i)));
    buffer_put(b, bytes, width);
}

void buffer_patch_le(struct buffer *b, size_t at, uint64_t value, size_t width) {
    if (b->failed || at + width > b->length)
        return;
    store_le(b->data + at, value, width);
}
