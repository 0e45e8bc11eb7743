#include "recoveryd/image/restore_target.h"

#include "common/zero.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

/* Zeros of this length, aligned, become holes: the block of nearly every file system. */
enum { HOLE_BYTES = 4096 };

struct restore_target {
    char *path;
    char *aside; /* NULL: a device, written in place */
    int fd;
    bool device;
    bool finished;
};

static int put_failed(const struct restore_target *t, int errnum, struct error *err) {
    if (errnum == ENOSPC || errnum == EDQUOT)
        return error_errno(err, errnum, "no room for %s: free some space or name another place",
                           t->path);
    return error_errno(err, errnum, "cannot write %s", t->aside != NULL ? t->aside : t->path);
}

static int open_device(struct restore_target *t, uint64_t size_bytes, struct error *err) {
    uint64_t room = 0;
    /* Exclusively: a device that is mounted, or part of something else, refuses. */
    t->fd = open(t->path, O_RDWR | O_EXCL | O_CLOEXEC);
    if (t->fd < 0)
        return error_errno(err, errno, "cannot open the device %s for itself alone", t->path);
    if (ioctl(t->fd, BLKGETSIZE64, &room) != 0)
        return error_errno(err, errno, "cannot get the size of %s", t->path);
    if (room < size_bytes)
        return error_set(err, ERR_USAGE,
                         "%s has %" PRIu64 " bytes, the image %" PRIu64 ": name a larger device",
                         t->path, room, size_bytes);
    t->device = true;
    return 0;
}

static int open_file(struct restore_target *t, uint64_t size_bytes, struct error *err) {
    if (asprintf(&t->aside, "%s.partial-%ld", t->path, (long)getpid()) < 0) {
        t->aside = NULL;
        return error_set(err, ERR_NOMEM, "out of memory");
    }
    t->fd = open(t->aside, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (t->fd < 0) {
        int code = error_errno(err, errno, "cannot make %s", t->aside);
        free(take_pointer(&t->aside)); /* not ours to remove */
        return code;
    }
    if (ftruncate(t->fd, (off_t)size_bytes) != 0)
        return put_failed(t, errno, err);
    return 0;
}

int restore_target_open(const char *path, uint64_t size_bytes, struct restore_target **out,
                        struct error *err) {
    AUTO(restore_target) t = calloc(1, sizeof *t);
    if (t == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    t->fd = -1;
    t->path = strdup(path);
    if (t->path == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    struct stat status = {0};
    bool exists = stat(path, &status) == 0;
    if (!exists && errno != ENOENT)
        return error_errno(err, errno, "cannot write %s", path);
    if (exists && !S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode))
        return error_set(err, ERR_USAGE, "%s is neither a file nor a block device", path);
    int code = exists && S_ISBLK(status.st_mode) ? open_device(t, size_bytes, err)
                                                 : open_file(t, size_bytes, err);
    if (code == 0)
        *out = take_pointer(&t);
    return code;
}

void restore_target_close(struct restore_target *t) {
    if (t == NULL)
        return;
    if (t->fd >= 0)
        close(t->fd);
    if (t->aside != NULL && !t->finished)
        unlink(t->aside);
    free(t->aside);
    free(t->path);
    free(t);
}

static int write_all(const struct restore_target *t, uint64_t offset, const uint8_t *data,
                     size_t bytes, struct error *err) {
    while (bytes > 0) {
        ssize_t done = pwrite(t->fd, data, bytes, (off_t)offset);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return put_failed(t, done < 0 ? errno : ENOSPC, err);
        data += done;
        offset += (uint64_t)done;
        bytes -= (size_t)done;
    }
    return 0;
}

/* The length of the stretch at `data` whose blocks are all of one kind. */
static size_t stretch(const uint8_t *data, size_t bytes, bool *zero) {
    size_t at = 0;
    while (at < bytes) {
        size_t block = bytes - at < HOLE_BYTES ? bytes - at : HOLE_BYTES;
        bool this_zero = zero_all(data + at, block);
        if (at > 0 && this_zero != *zero)
            break;
        *zero = this_zero;
        at += block;
    }
    return at;
}

int restore_target_put(struct restore_target *t, uint64_t offset, const uint8_t *data, size_t bytes,
                       bool all_zero, uint64_t *written, struct error *err) {
    *written = 0;
    if (t->device) {
        *written = bytes;
        return write_all(t, offset, data, bytes, err);
    }
    for (size_t at = 0; !all_zero && at < bytes;) {
        bool zero = false;
        size_t length = stretch(data + at, bytes - at, &zero);
        int code = zero ? 0 : write_all(t, offset + at, data + at, length, err);
        if (code != 0)
            return code;
        *written += zero ? 0 : length;
        at += length;
    }
    /* Begin to write it out now: the sync at the end then waits for little. */
    if (*written > 0)
        sync_file_range(t->fd, (off_t)offset, (off_t)bytes, SYNC_FILE_RANGE_WRITE);
    return 0;
}

int restore_target_sync_directory(const char *path, struct error *err) {
    char copy[PATH_MAX];
    snprintf(copy, sizeof copy, "%s", path);
    AUTO_CLOSE int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0 && fsync(fd) == 0)
        return 0;
    return error_errno(err, errno, "cannot sync the directory of %s", path);
}

int restore_target_finish(struct restore_target *t, struct error *err) {
    if (fsync(t->fd) != 0)
        return put_failed(t, errno, err);
    if (t->aside == NULL)
        return 0;
    if (rename(t->aside, t->path) != 0)
        return error_errno(err, errno, "cannot give %s its name", t->path);
    t->finished = true;
    return restore_target_sync_directory(t->path, err);
}
