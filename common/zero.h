/*
 * zero: is a stretch of memory all zeros? As fast as memcmp(). Any thread.
 */
#ifndef SANREWIND_COMMON_ZERO_H
#define SANREWIND_COMMON_ZERO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline bool zero_all(const uint8_t *data, size_t bytes) {
    /* Equal to itself one byte on, and the first is zero. */
    return bytes == 0 || (data[0] == 0 && memcmp(data, data + 1, bytes - 1) == 0);
}

#endif
