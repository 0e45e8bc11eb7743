/*
 * A packed segment whose table of frames says anything, with checksums that match, so that what is
 * behind them is reached: opening and reading it ends, and gives what was asked for or an error.
 *
 * Input: frames u8 | logical bytes u32, beyond the head | frames x 32 bytes | stored bytes.
 */
#include "common/crc32c.h"
#include "common/cursor.h"
#include "recoveryd/store/frame_cache.h"
#include "recoveryd/store/packed.h"
#include "recoveryd/store/segment_file.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ENTRY_AT = 8, ENTRY_STORED = 20, ENTRY_CRC = 24, READS = 8 };

static uint64_t le(const uint8_t *from, size_t width) {
    uint64_t value = 0;
    for (size_t i = 0; i < width; i++)
        value |= (uint64_t)from[i] << (8 * i);
    return value;
}

/* The checksum that the stored bytes of each frame have. */
static void match(uint8_t *table, size_t frames, const struct buffer *file) {
    for (size_t i = 0; i < frames; i++) {
        uint8_t *entry = table + i * PACKED_ENTRY_BYTES;
        uint64_t at = le(entry + ENTRY_AT, 8);
        uint64_t stored = le(entry + ENTRY_STORED, 4);
        if (at > file->length || stored > file->length - at)
            continue;
        uint32_t crc = crc32c(0, file->data + at, stored);
        for (size_t k = 0; k < 4; k++)
            entry[ENTRY_CRC + k] = (uint8_t)(crc >> (8 * k));
    }
}

static void read_all(struct packed *p, const uint8_t *data, size_t size) {
    static uint8_t to[1 << 16];
    struct frame_cache *cache = frame_cache_create();
    uint64_t end = packed_logical_bytes(p);
    for (uint64_t i = 0; cache != NULL && i < READS; i++) {
        struct rangeset absent;
        uint64_t at = end / READS * i + (size > 0 ? data[i % size] : 0);
        size_t bytes = at < end ? (size_t)(end - at < sizeof to ? end - at : sizeof to) : 1;
        rangeset_init(&absent, 1 << 16);
        int with = packed_read(p, 1, cache, at, to, bytes, &absent, NULL);
        int without = packed_read(p, 1, cache, at, to, bytes, NULL, NULL);
        if (without == 0 && (with != 0 || absent.count > 0))
            abort(); /* nothing is absent for one of them only */
        rangeset_release(&absent);
    }
    frame_cache_destroy(cache);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct cursor c = cursor_of(data, size);
    size_t frames = cursor_u8(&c);
    uint64_t logical = SEGMENT_HEAD_BYTES + (uint64_t)cursor_le32(&c);
    const uint8_t *table = cursor_bytes(&c, frames * PACKED_ENTRY_BYTES);
    if (!cursor_ok(&c))
        return 0;
    AUTO_BUFFER file;
    AUTO_BUFFER entries;
    buffer_init(&file, 1 << 22);
    buffer_init(&entries, 1 << 16);
    buffer_put_zeros(&file, SEGMENT_HEAD_BYTES);
    buffer_put(&file, c.next, cursor_left(&c));
    buffer_put(&entries, table, frames * PACKED_ENTRY_BYTES);
    if (file.failed || entries.failed)
        return 0;
    match(entries.data, frames, &file);
    uint64_t table_at = file.length;
    buffer_put(&file, entries.data, entries.length);
    packed_footer_encode(&file, &entries, (uint32_t)frames, table_at, logical);
    AUTO_CLOSE int fd = memfd_create("packed", MFD_CLOEXEC);
    if (file.failed || fd < 0 || write(fd, file.data, file.length) != (ssize_t)file.length)
        return 0;
    AUTO(packed) p = NULL;
    if (packed_open(fd, file.length, &p, NULL) == 0)
        read_all(p, data, size);
    return 0;
}
