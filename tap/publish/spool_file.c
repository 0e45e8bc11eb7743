#include "tap/publish/spool_file.h"

#include "common/crc32c.h"
#include "common/cursor.h"
#include "proto/limits.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { VERSION = 1, ALIGN = 8, HEAD_SUM_AT = 36 };

static const uint8_t file_magic[4] = {'S', 'R', 'W', 'S'};
static const uint8_t entry_magic[4] = {'S', 'R', 'W', 'E'};

static uint64_t padding(uint64_t bytes) {
    return (ALIGN - bytes % ALIGN) % ALIGN;
}

uint64_t spool_entry_room(uint64_t frame_bytes) {
    return SPOOL_ENTRY_HEAD_BYTES + frame_bytes + padding(frame_bytes);
}

/* --- writing -------------------------------------------------------------------------------------
 */

static void put_le(uint8_t *to, uint64_t value, size_t width) {
    for (size_t i = 0; i < width; i++)
        to[i] = (uint8_t)(value >> (8 * i));
}

/* Both kinds of head have their checksum at the same place. */
static void seal(uint8_t *head) {
    put_le(head + HEAD_SUM_AT, crc32c(0, head, HEAD_SUM_AT), 4);
}

static void advance(struct iovec *parts, int *count, size_t wrote) {
    int left = 0;
    for (int i = 0; i < *count; i++) {
        size_t here = wrote < parts[i].iov_len ? wrote : parts[i].iov_len;
        wrote -= here;
        if (here == parts[i].iov_len)
            continue;
        parts[left++] =
            (struct iovec){(uint8_t *)parts[i].iov_base + here, parts[i].iov_len - here};
    }
    *count = left;
}

static int write_all(int fd, uint64_t at, struct iovec *parts, int count, struct error *err) {
    advance(parts, &count, 0);
    while (count > 0) {
        ssize_t wrote = pwritev(fd, parts, count, (off_t)at);
        if (wrote < 0 && errno != EINTR)
            return error_errno(err, errno, "cannot write to the spool");
        if (wrote < 0)
            continue;
        at += (uint64_t)wrote;
        advance(parts, &count, (size_t)wrote);
    }
    return 0;
}

int spool_file_begin(int fd, const struct spool_file_head *head, struct error *err) {
    uint8_t bytes[SPOOL_FILE_HEAD_BYTES] = {0};
    memcpy(bytes, file_magic, sizeof file_magic);
    put_le(bytes + 4, VERSION, 4);
    put_le(bytes + 8, head->monitor, 8);
    put_le(bytes + 16, head->stream, 8);
    put_le(bytes + 24, head->number, 8);
    seal(bytes);
    return write_all(fd, 0, &(struct iovec){bytes, sizeof bytes}, 1, err);
}

int spool_file_append(int fd, uint64_t at, uint64_t number, const struct spool_entry *entry,
                      const uint8_t *frame, uint64_t *wrote, struct error *err) {
    static const uint8_t zeros[ALIGN];
    uint8_t head[SPOOL_ENTRY_HEAD_BYTES] = {0};
    memcpy(head, entry_magic, sizeof entry_magic);
    put_le(head + 4, entry->bytes, 4);
    put_le(head + 8, entry->first_order, 8);
    put_le(head + 16, entry->end_order, 8);
    put_le(head + 24, crc32c(0, frame, entry->bytes), 4);
    put_le(head + 28, (uint32_t)number, 4);
    seal(head);
    struct iovec parts[] = {{head, sizeof head},
                            {(void *)(uintptr_t)frame, entry->bytes},
                            {(void *)(uintptr_t)zeros, (size_t)padding(entry->bytes)}};
    *wrote = spool_entry_room(entry->bytes);
    return write_all(fd, at, parts, 3, err);
}

/* --- reading -------------------------------------------------------------------------------------
 */

/* How many bytes there were, which may be fewer; or negative. */
static ssize_t read_at(int fd, uint64_t at, void *to, size_t bytes, struct error *err) {
    size_t got = 0;
    while (got < bytes) {
        ssize_t more = pread(fd, (uint8_t *)to + got, bytes - got, (off_t)(at + got));
        if (more < 0 && errno != EINTR)
            return error_errno(err, errno, "cannot read the spool");
        if (more == 0)
            break;
        got += more > 0 ? (size_t)more : 0;
    }
    return (ssize_t)got;
}

static bool is_sealed(const uint8_t *head, const uint8_t *magic) {
    return memcmp(head, magic, 4) == 0 &&
           cursor_load_le32(head + HEAD_SUM_AT) == crc32c(0, head, HEAD_SUM_AT);
}

int spool_file_head(int fd, struct spool_file_head *head, struct error *err) {
    uint8_t bytes[SPOOL_FILE_HEAD_BYTES];
    ssize_t got = read_at(fd, 0, bytes, sizeof bytes, err);
    if (got < 0)
        return (int)got;
    if ((size_t)got < sizeof bytes || !is_sealed(bytes, file_magic))
        return error_set(err, ERR_FORMAT, "not the beginning of a spool file");
    struct cursor c = cursor_of(bytes + 4, sizeof bytes - 4);
    uint32_t version = cursor_le32(&c);
    if (version != VERSION)
        return error_set(err, ERR_VERSION, "a spool file of version %u: this program knows %d",
                         version, VERSION);
    head->monitor = cursor_le64(&c);
    head->stream = cursor_le64(&c);
    head->number = cursor_le64(&c);
    return 0;
}

int spool_file_entry(int fd, uint64_t at, uint64_t end, uint64_t number, struct spool_entry *entry,
                     struct error *err) {
    uint8_t bytes[SPOOL_ENTRY_HEAD_BYTES];
    if (at >= end)
        return error_set(err, ERR_NOT_FOUND, "the file ends here");
    ssize_t got = read_at(fd, at, bytes, sizeof bytes, err);
    if (got < 0)
        return (int)got;
    if ((size_t)got < sizeof bytes || !is_sealed(bytes, entry_magic))
        return error_set(err, ERR_FORMAT, "a damaged entry in the spool");
    struct cursor c = cursor_of(bytes + 4, sizeof bytes - 4);
    entry->bytes = cursor_le32(&c);
    entry->first_order = cursor_le64(&c);
    entry->end_order = cursor_le64(&c);
    entry->crc32c = cursor_le32(&c);
    uint32_t file = cursor_le32(&c);
    if (file != (uint32_t)number || entry->first_order >= entry->end_order || entry->bytes == 0 ||
        entry->bytes > LIMIT_BATCH_BYTES || spool_entry_room(entry->bytes) > end - at)
        return error_set(err, ERR_FORMAT, "an impossible entry in the spool");
    return 0;
}

int spool_file_frame(int fd, uint64_t at, const struct spool_entry *entry, struct buffer *frame,
                     struct error *err) {
    buffer_clear(frame);
    if (!buffer_reserve(frame, entry->bytes))
        return error_set(err, ERR_NOMEM, "out of memory");
    ssize_t got = read_at(fd, at + SPOOL_ENTRY_HEAD_BYTES, frame->data, entry->bytes, err);
    if (got < 0)
        return (int)got;
    if ((size_t)got < entry->bytes || crc32c(0, frame->data, entry->bytes) != entry->crc32c)
        return error_set(err, ERR_FORMAT, "a damaged batch in the spool");
    frame->length = entry->bytes;
    return 0;
}

static int check_frame(int fd, uint64_t at, const struct spool_entry *entry, bool thorough,
                       struct buffer *frame, struct error *err) {
    return thorough ? spool_file_frame(fd, at, entry, frame, err) : 0;
}

int spool_file_scan(int fd, const struct spool_file_head *head, bool thorough,
                    struct spool_extent *extent, struct error *err) {
    AUTO_BUFFER frame;
    struct stat status;
    struct spool_entry entry;
    buffer_init(&frame, LIMIT_BATCH_BYTES);
    *extent = (struct spool_extent){.bytes = SPOOL_FILE_HEAD_BYTES};
    if (fstat(fd, &status) != 0)
        return error_errno(err, errno, "cannot read the spool");
    uint64_t end = (uint64_t)status.st_size;
    for (bool first = true;; first = false) {
        int code = spool_file_entry(fd, extent->bytes, end, head->number, &entry, err);
        if (code == 0)
            code = check_frame(fd, extent->bytes, &entry, thorough, &frame, err);
        if (code == ERR_NOT_FOUND || code == ERR_FORMAT)
            return 0;
        if (code < 0)
            return code;
        if (!first && entry.first_order != extent->end_order)
            return 0;
        if (first)
            extent->first_order = entry.first_order;
        extent->end_order = entry.end_order;
        extent->bytes += spool_entry_room(entry.bytes);
    }
}
