#include "recoveryd/store/segment_file.h"

#include "common/clock.h"
#include "common/crc32c.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static const char magic[8] = {'S', 'R', 'W', 'D', 'S', 'E', 'G', 'M'};

enum { HEAD_FIELD_BYTES = 32 }; /* before the checksum */

static size_t put_le(uint8_t *to, size_t at, uint64_t value, size_t width) {
    for (size_t i = 0; i < width; i++)
        to[at + i] = (uint8_t)(value >> (8 * i));
    return at + width;
}

void segment_head_encode(const struct segment_head *head, uint8_t to[SEGMENT_HEAD_BYTES]) {
    memset(to, 0, SEGMENT_HEAD_BYTES);
    memcpy(to, magic, sizeof magic);
    uint32_t version = head->version != 0 ? head->version : SEGMENT_VERSION;
    size_t at = put_le(to, sizeof magic, version, 4);
    at = put_le(to, at, head->segment, 4);
    at = put_le(to, at, head->store_id, 8);
    at = put_le(to, at, head->made_ns, 8);
    put_le(to, at, crc32c(0, to, HEAD_FIELD_BYTES), 4);
}

int segment_head_decode(struct cursor c, struct segment_head *head, struct error *err) {
    struct cursor fields = cursor_child(&c, HEAD_FIELD_BYTES);
    const uint8_t *start = fields.next;
    uint32_t crc = cursor_le32(&c);
    const uint8_t *mark = cursor_bytes(&fields, sizeof magic);
    if (!cursor_ok(&c) || memcmp(mark, magic, sizeof magic) != 0)
        return error_set(err, ERR_FORMAT, "it does not begin like a segment file");
    uint32_t version = cursor_le32(&fields);
    if (version > SEGMENT_VERSION_PACKED)
        return error_set(err, ERR_VERSION, "it has format version %u, this program reads up to %d",
                         version, SEGMENT_VERSION_PACKED);
    if (crc32c(0, start, HEAD_FIELD_BYTES) != crc)
        return error_set(err, ERR_FORMAT, "the checksum of its head does not match");
    head->version = version;
    head->segment = cursor_le32(&fields);
    head->store_id = cursor_le64(&fields);
    head->made_ns = cursor_le64(&fields);
    return 0;
}

void segment_file_name(uint32_t segment, char name[SEGMENT_NAME_BYTES]) {
    snprintf(name, SEGMENT_NAME_BYTES, "%08" PRIx32 ".seg", segment);
}

uint32_t segment_file_number(const char *name) {
    uint32_t segment = 0;
    char again[SEGMENT_NAME_BYTES];
    if (sscanf(name, "%8" SCNx32, &segment) != 1)
        return 0;
    segment_file_name(segment, again);
    return strcmp(name, again) == 0 ? segment : 0;
}

/* Takes the next number that no process has taken yet: O_EXCL decides. */
static int create_next(struct segments *s, uint32_t *segment, char name[SEGMENT_NAME_BYTES],
                       struct error *err) {
    for (;;) {
        pthread_mutex_lock(&s->lock);
        *segment = s->next_number;
        s->next_number = *segment != 0 ? *segment + 1 : 0;
        pthread_mutex_unlock(&s->lock);
        if (*segment == 0)
            return error_set(err, ERR_FULL, "%s: all segment numbers are used up", s->dir);
        segment_file_name(*segment, name);
        int fd = openat(s->dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
        if (fd >= 0)
            return fd;
        if (errno != EEXIST)
            return error_errno(err, errno, "cannot make the segment file %s/%s", s->dir, name);
    }
}

/*
 * Head and name are made durable once, here, so that later syncs are of the file's data alone
 * and a crash never leaves an extent in a file that has no name.
 */
int segment_file_create(struct segments *s, uint32_t *segment, int *fd, struct error *err) {
    char name[SEGMENT_NAME_BYTES];
    uint8_t head[SEGMENT_HEAD_BYTES];
    AUTO_CLOSE int file = create_next(s, segment, name, err);
    if (file < 0)
        return file;
    if (flock(file, LOCK_SH) != 0) {
        /* Where there are no locks nothing is packed, either. */
    }
    segment_head_encode(&(struct segment_head){.segment = *segment,
                                               .store_id = s->store_id,
                                               .made_ns = clock_wall_ns()},
                        head);
    ssize_t done = pwrite(file, head, sizeof head, 0);
    if (done != (ssize_t)sizeof head || fdatasync(file) != 0 || fsync(s->dir_fd) != 0) {
        int errnum = done >= 0 && done < (ssize_t)sizeof head ? ENOSPC : errno;
        unlinkat(s->dir_fd, name, 0);
        return error_errno(err, errnum, "cannot begin the segment file %s/%s", s->dir, name);
    }
    *fd = take_fd(&file);
    return 0;
}
