#include "recoveryd/store/packed.h"

#include "common/crc32c.h"
#include "common/cursor.h"
#include "recoveryd/store/frame_cache.h"
#include "recoveryd/store/segment_file.h"

#include <errno.h>
#include <lz4.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zstd.h>

static const char footer_magic[8] = {'S', 'R', 'W', 'D', 'P', 'A', 'C', 'K'};

enum { BLOCK_ENTRIES = 256, BLOCK_BYTES = BLOCK_ENTRIES * PACKED_ENTRY_BYTES };

/* The table stays in the file: this is what is kept in memory of so many entries of it. */
struct block {
    uint64_t start;  /* logical offset of its first frame */
    uint32_t crc32c; /* as it was when all of it was found sound: it is read again and again */
};

struct packed {
    int fd; /* borrowed */
    uint32_t frames;
    uint64_t table_at;
    uint64_t logical_bytes;
    uint64_t absent_bytes;
    size_t block_count;
    struct block blocks[];
};

/* --- bytes ---------------------------------------------------------------------------------------
 */

void frame_encode(struct buffer *b, const struct frame *f) {
    buffer_put_le64(b, f->logical);
    buffer_put_le64(b, f->at);
    buffer_put_le32(b, f->length);
    buffer_put_le32(b, f->stored);
    buffer_put_le32(b, f->crc32c);
    buffer_put_u8(b, f->kind);
    buffer_put_zeros(b, 3);
}

static struct frame frame_decode(struct cursor *c) {
    struct frame f;
    f.logical = cursor_le64(c);
    f.at = cursor_le64(c);
    f.length = cursor_le32(c);
    f.stored = cursor_le32(c);
    f.crc32c = cursor_le32(c);
    f.kind = cursor_u8(c);
    cursor_skip(c, 3);
    return f;
}

void packed_footer_encode(struct buffer *b, const struct buffer *table, uint32_t frames,
                          uint64_t table_at, uint64_t logical_bytes) {
    size_t start = b->length;
    buffer_put(b, footer_magic, sizeof footer_magic);
    buffer_put_le32(b, frames);
    buffer_put_le32(b, crc32c(0, table->data, table->length));
    buffer_put_le64(b, table_at);
    buffer_put_le64(b, logical_bytes);
    buffer_put_zeros(b, 12);
    if (!b->failed)
        buffer_put_le32(b, crc32c(0, b->data + start, PACKED_FOOTER_BYTES - 4));
}

static int damaged(struct error *err, const char *what) {
    return error_set(err, ERR_FORMAT, "a packed segment is damaged: %s", what);
}

static int read_at(int fd, uint64_t offset, uint8_t *to, size_t bytes, struct error *err) {
    while (bytes > 0) {
        ssize_t got = pread(fd, to, bytes, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return error_errno(err, errno, "cannot read a packed segment");
        if (got == 0)
            return damaged(err, "it ends early");
        to += got;
        offset += (uint64_t)got;
        bytes -= (size_t)got;
    }
    return 0;
}

/* --- opening -------------------------------------------------------------------------------------
 */

struct footer {
    uint32_t frames;
    uint32_t table_crc;
    uint64_t table_at;
    uint64_t logical_bytes;
};

static int read_footer(int fd, uint64_t file_bytes, struct footer *f, struct error *err) {
    uint8_t bytes[PACKED_FOOTER_BYTES];
    if (file_bytes < SEGMENT_HEAD_BYTES + PACKED_FOOTER_BYTES || file_bytes > INT64_MAX)
        return damaged(err, "it is too short");
    int code = read_at(fd, file_bytes - sizeof bytes, bytes, sizeof bytes, err);
    if (code != 0)
        return code;
    struct cursor c = cursor_of(bytes, sizeof bytes);
    const uint8_t *magic = cursor_bytes(&c, sizeof footer_magic);
    f->frames = cursor_le32(&c);
    f->table_crc = cursor_le32(&c);
    f->table_at = cursor_le64(&c);
    f->logical_bytes = cursor_le64(&c);
    cursor_skip(&c, 12);
    if (memcmp(magic, footer_magic, sizeof footer_magic) != 0 ||
        cursor_le32(&c) != crc32c(0, bytes, sizeof bytes - 4))
        return damaged(err, "its footer");
    uint64_t table_end = file_bytes - PACKED_FOOTER_BYTES;
    if (f->table_at < SEGMENT_HEAD_BYTES || f->table_at > table_end ||
        table_end - f->table_at != (uint64_t)f->frames * PACKED_ENTRY_BYTES ||
        f->logical_bytes < SEGMENT_HEAD_BYTES || f->logical_bytes > INT64_MAX)
        return damaged(err, "impossible numbers in its footer");
    return 0;
}

static bool is_sound(const struct frame *f, uint64_t logical, uint64_t table_at) {
    if (f->logical != logical || f->length == 0 || f->kind >= FRAME_KINDS)
        return false;
    if (f->kind == FRAME_ABSENT)
        return f->stored == 0 && f->at == 0;
    return f->length <= PACKED_FRAME_BYTES && f->stored > 0 && f->stored <= f->length &&
           (f->kind != FRAME_RAW || f->stored == f->length) && f->at >= SEGMENT_HEAD_BYTES &&
           f->at <= table_at && f->stored <= table_at - f->at;
}

/* One frame after the other, without a hole. */
static bool take_block(struct packed *p, struct cursor c, uint64_t *logical) {
    while (cursor_left(&c) > 0) {
        struct frame f = frame_decode(&c);
        if (!is_sound(&f, *logical, p->table_at))
            return false;
        *logical += f.length;
        p->absent_bytes += f.kind == FRAME_ABSENT ? f.length : 0;
    }
    return true;
}

static int read_table(struct packed *p, uint32_t wanted_crc, struct error *err) {
    uint8_t block[BLOCK_BYTES];
    uint64_t logical = SEGMENT_HEAD_BYTES;
    uint64_t left = (uint64_t)p->frames * PACKED_ENTRY_BYTES;
    uint32_t crc = 0;
    for (size_t i = 0; i < p->block_count; i++) {
        size_t bytes = left < BLOCK_BYTES ? (size_t)left : BLOCK_BYTES;
        int code = read_at(p->fd, p->table_at + i * BLOCK_BYTES, block, bytes, err);
        if (code != 0)
            return code;
        crc = crc32c(crc, block, bytes);
        p->blocks[i] = (struct block){logical, crc32c(0, block, bytes)};
        if (!take_block(p, cursor_of(block, bytes), &logical))
            return damaged(err, "its table of frames");
        left -= bytes;
    }
    if (crc != wanted_crc || logical != p->logical_bytes)
        return damaged(err, "the checksum or the end of its table");
    return 0;
}

int packed_open(int fd, uint64_t file_bytes, struct packed **out, struct error *err) {
    struct footer f = {0};
    int code = read_footer(fd, file_bytes, &f, err);
    if (code != 0)
        return code;
    size_t blocks = ((size_t)f.frames + BLOCK_ENTRIES - 1) / BLOCK_ENTRIES;
    AUTO(packed) p = calloc(1, sizeof *p + blocks * sizeof p->blocks[0]);
    if (p == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    p->fd = fd;
    p->frames = f.frames;
    p->table_at = f.table_at;
    p->logical_bytes = f.logical_bytes;
    p->block_count = blocks;
    code = read_table(p, f.table_crc, err);
    if (code == 0)
        *out = take_pointer(&p);
    return code;
}

void packed_close(struct packed *p) {
    free(p);
}

uint64_t packed_logical_bytes(const struct packed *p) {
    return p->logical_bytes;
}

uint64_t packed_absent_bytes(const struct packed *p) {
    return p->absent_bytes;
}

/* --- reading -------------------------------------------------------------------------------------
 */

int frame_unpack(const struct frame *f, const uint8_t *stored, uint8_t *to, struct error *err) {
    bool whole = false;
    if (crc32c(0, stored, f->stored) != f->crc32c)
        return damaged(err, "the checksum of a frame");
    if (f->kind == FRAME_LZ4)
        whole = LZ4_decompress_safe((const char *)stored, (char *)to, (int)f->stored,
                                    (int)f->length) == (int)f->length;
    else if (f->kind == FRAME_ZSTD)
        whole = ZSTD_decompress(to, f->length, stored, f->stored) == f->length;
    else if (f->kind == FRAME_RAW) {
        memcpy(to, stored, f->length);
        whole = true;
    }
    return whole ? 0 : damaged(err, "a frame cannot be unpacked");
}

static int read_unpacked(struct packed *p, uint32_t segment, struct frame_cache *cache,
                         const struct frame *f, size_t skip, uint8_t *to, size_t bytes,
                         struct error *err) {
    if (frame_cache_get(cache, segment, f->logical, skip, to, bytes))
        return 0;
    AUTO_FREE uint8_t *stored = malloc(f->stored);
    AUTO_FREE uint8_t *data = malloc(f->length);
    if (stored == NULL || data == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    int code = read_at(p->fd, f->at, stored, f->stored, err);
    if (code == 0)
        code = frame_unpack(f, stored, data, err);
    if (code != 0)
        return code;
    frame_cache_put(cache, segment, f->logical, data, f->length);
    memcpy(to, data + skip, bytes);
    return 0;
}

/* A part of one frame. Of a raw one just that part is read: its payloads have checksums. */
static int read_frame(struct packed *p, uint32_t segment, struct frame_cache *cache,
                      const struct frame *f, size_t skip, uint8_t *to, size_t bytes,
                      struct rangeset *absent, struct error *err) {
    if (f->kind == FRAME_RAW)
        return read_at(p->fd, f->at + skip, to, bytes, err);
    if (f->kind != FRAME_ABSENT)
        return read_unpacked(p, segment, cache, f, skip, to, bytes, err);
    if (absent == NULL)
        return error_set(
            err, ERR_FORMAT,
            "segment %08x, offset %llu: these bytes were reclaimed, as nothing pointed "
            "at them",
            segment, (unsigned long long)(f->logical + skip));
    memset(to, 0, bytes);
    return rangeset_add(absent, f->logical + skip, f->logical + skip + bytes)
               ? 0
               : error_set(err, ERR_NOMEM, "out of memory");
}

/* The last block that begins at or before the offset. */
static size_t find_block(const struct packed *p, uint64_t offset) {
    size_t low = 0;
    size_t high = p->block_count;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (p->blocks[middle].start <= offset)
            low = middle;
        else
            high = middle;
    }
    return low;
}

int packed_read(struct packed *p, uint32_t segment, struct frame_cache *cache, uint64_t offset,
                uint8_t *to, size_t bytes, struct rangeset *absent, struct error *err) {
    uint8_t entries[BLOCK_BYTES];
    uint64_t end = offset + bytes;
    if (offset < SEGMENT_HEAD_BYTES || bytes > p->logical_bytes ||
        offset > p->logical_bytes - bytes)
        return error_set(err, ERR_FORMAT, "segment %08x ends before what the index knows of it",
                         segment);
    int code = 0;
    for (size_t block = find_block(p, offset); code == 0 && offset < end; block++) {
        uint64_t first = (uint64_t)block * BLOCK_ENTRIES;
        size_t count =
            p->frames - first < BLOCK_ENTRIES ? (size_t)(p->frames - first) : (size_t)BLOCK_ENTRIES;
        code = read_at(p->fd, p->table_at + first * PACKED_ENTRY_BYTES, entries,
                       count * PACKED_ENTRY_BYTES, err);
        if (code == 0 && crc32c(0, entries, count * PACKED_ENTRY_BYTES) != p->blocks[block].crc32c)
            code = damaged(err, "its table of frames");
        struct cursor c = cursor_of(entries, count * PACKED_ENTRY_BYTES);
        while (code == 0 && offset < end && cursor_left(&c) > 0) {
            struct frame f = frame_decode(&c);
            if (f.logical + f.length <= offset)
                continue;
            size_t skip = (size_t)(offset - f.logical);
            size_t some = f.length - skip < end - offset ? f.length - skip : (size_t)(end - offset);
            code = read_frame(p, segment, cache, &f, skip, to, some, absent, err);
            to += some;
            offset += some;
        }
    }
    return code;
}
