#include "tap/checkpoint.h"

#include "common/cleanup.h"
#include "common/crc32c.h"
#include "common/version.h"
#include "proto/limits.h"
#include "tap/save.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { VERSION = 1, LENGTH_AT = 8, CRC_AT = 16, HEAD_BYTES = 20, FILE_PATH_BYTES = 4096 };
#define MOST_BYTES ((size_t)512 << 20)

static const uint8_t magic[4] = {'S', 'R', 'W', 'C'};

void checkpoint_begin(struct buffer *b, const struct checkpoint *cp) {
    buffer_init(b, MOST_BYTES);
    buffer_put(b, magic, sizeof magic);
    buffer_put_le32(b, VERSION);
    buffer_put_zeros(b, HEAD_BYTES - LENGTH_AT);
    save_text(b, SANREWIND_VERSION);
    save_text(b, cp->monitor);
    buffer_put_le64(b, cp->stream);
    buffer_put_le64(b, cp->next_order);
    buffer_put_le64(b, cp->promised_ns);
    buffer_put_le64(b, cp->newest_ns);
}

void checkpoint_set_end(struct buffer *b, uint64_t next_order, uint64_t promised_ns) {
    struct cursor c = cursor_of(b->data, b->length);
    cursor_skip(&c, HEAD_BYTES);
    cursor_skip(&c, cursor_le16(&c)); /* version */
    cursor_skip(&c, cursor_le16(&c)); /* monitor */
    size_t stream_at = b->length - cursor_left(&c);
    buffer_patch_le(b, stream_at + 8, next_order, 8);
    buffer_patch_le(b, stream_at + 16, promised_ns, 8);
}

static int write_all(int fd, const uint8_t *data, size_t bytes, const char *path,
                     struct error *err) {
    while (bytes > 0) {
        ssize_t wrote = write(fd, data, bytes);
        if (wrote < 0 && errno != EINTR)
            return error_errno(err, errno, "cannot write %s", path);
        if (wrote <= 0)
            continue;
        data += wrote;
        bytes -= (size_t)wrote;
    }
    return 0;
}

static int sync_dir(const char *dir, struct error *err) {
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int failed = fd < 0 || fsync(fd) != 0 ? errno : 0;
    if (fd >= 0)
        close(fd);
    return failed == 0 ? 0 : error_errno(err, failed, "cannot sync %s", dir);
}

int checkpoint_write(const char *dir, struct buffer *b, bool synced, struct error *err) {
    char path[FILE_PATH_BYTES];
    char aside[FILE_PATH_BYTES];
    if (b->failed)
        return error_set(err, ERR_NOMEM, "the state of the sessions is too large to be saved");
    buffer_patch_le(b, LENGTH_AT, b->length - HEAD_BYTES, 8);
    buffer_patch_le(b, CRC_AT, crc32c(0, b->data + HEAD_BYTES, b->length - HEAD_BYTES), 4);
    snprintf(path, sizeof path, "%s/sessions", dir);
    snprintf(aside, sizeof aside, "%s/sessions.new", dir);
    int fd = open(aside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return error_errno(err, errno, "cannot write %s", aside);
    int code = write_all(fd, b->data, b->length, aside, err);
    if (code == 0 && synced && fsync(fd) != 0)
        code = error_errno(err, errno, "cannot sync %s", aside);
    close(fd);
    if (code == 0 && rename(aside, path) != 0)
        code = error_errno(err, errno, "cannot replace %s", path);
    return code == 0 && synced ? sync_dir(dir, err) : code;
}

static int read_all(int fd, size_t bytes, struct buffer *b, const char *path, struct error *err) {
    buffer_init(b, MOST_BYTES);
    if (bytes > MOST_BYTES || !buffer_reserve(b, bytes))
        return error_set(err, ERR_FORMAT, "%s is too large", path);
    while (b->length < bytes) {
        ssize_t got = read(fd, b->data + b->length, bytes - b->length);
        if (got < 0 && errno != EINTR)
            return error_errno(err, errno, "cannot read %s", path);
        if (got == 0)
            return error_set(err, ERR_FORMAT, "%s became shorter while it was read", path);
        b->length += got > 0 ? (size_t)got : 0;
    }
    return 0;
}

static int check(struct cursor *c, const struct buffer *b, const char *path, struct error *err) {
    const uint8_t *start = cursor_bytes(c, sizeof magic);
    uint32_t version = cursor_le32(c);
    uint64_t length = cursor_le64(c);
    uint32_t crc = cursor_le32(c);
    if (!cursor_ok(c) || memcmp(start, magic, sizeof magic) != 0 || length != cursor_left(c) ||
        crc != crc32c(0, b->data + HEAD_BYTES, cursor_left(c)))
        return error_set(err, ERR_FORMAT, "%s is damaged", path);
    if (version != VERSION)
        return error_set(err, ERR_FORMAT, "%s is of another version", path);
    return 0;
}

int checkpoint_read(const char *dir, const char *monitor, struct buffer *b, struct checkpoint *cp,
                    struct cursor *rest, struct error *err) {
    char path[FILE_PATH_BYTES];
    char version[32];
    char name[LIMIT_NAME_BYTES + 1];
    struct stat status;
    snprintf(path, sizeof path, "%s/sessions", dir);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? error_set(err, ERR_NOT_FOUND, "%s is not there", path)
                               : error_errno(err, errno, "cannot open %s", path);
    int code = fstat(fd, &status) == 0 ? read_all(fd, (size_t)status.st_size, b, path, err)
                                       : error_errno(err, errno, "cannot read %s", path);
    close(fd);
    if (code != 0)
        return code;
    *rest = cursor_of(b->data, b->length);
    code = check(rest, b, path, err);
    if (code != 0)
        return code;
    load_text(rest, version, sizeof version);
    load_text(rest, name, sizeof name);
    *cp = (struct checkpoint){.monitor = monitor, .stream = cursor_le64(rest)};
    cp->next_order = cursor_le64(rest);
    cp->promised_ns = cursor_le64(rest);
    cp->newest_ns = cursor_le64(rest);
    if (!cursor_ok(rest) || strcmp(version, SANREWIND_VERSION) != 0 || strcmp(name, monitor) != 0)
        return error_set(err, ERR_FORMAT, "%s is of another version or monitor", path);
    return 0;
}
