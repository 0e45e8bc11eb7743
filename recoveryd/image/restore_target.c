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
    char *identity; /* NULL: not to be resumed */
    uint64_t size_bytes;
    struct restore_state begun;
    bool was_other;
    bool device;
    bool finished;
    bool kept;
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
    free(take_pointer(&t->identity)); /* nothing says later how far it came */
    return 0;
}

int restore_target_rewind(struct restore_target *t, uint64_t done_bytes, struct error *err) {
    /* Twice: zeros are holes, and a hole is where nothing was written. */
    if (ftruncate(t->fd, (off_t)done_bytes) != 0 || ftruncate(t->fd, (off_t)t->size_bytes) != 0)
        return put_failed(t, errno, err);
    return 0;
}

static int open_resumable(struct restore_target *t, struct error *err) {
    int code = restore_partial_open(t->path, true, &t->fd, err);
    struct stat status = {0};
    if (code != 0)
        return code;
    t->aside = restore_partial_path(t->path);
    if (t->aside == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    int begun = restore_state_read(t->path, t->identity, &t->begun);
    bool is_whole = fstat(t->fd, &status) == 0 && (uint64_t)status.st_size == t->size_bytes;
    t->was_other = status.st_size > 0 && begun == ERR_FORMAT;
    if (begun == 0 && is_whole && t->begun.done_bytes > 0 && t->begun.done_bytes <= t->size_bytes)
        return 0;
    /* The state first: whatever is in the file afterwards is of this restore. */
    t->begun = (struct restore_state){0};
    code = restore_state_write(t->path, t->identity, &t->begun, err);
    return code == 0 ? restore_target_rewind(t, 0, err) : code;
}

static int open_file(struct restore_target *t, uint64_t size_bytes, struct error *err) {
    if (t->identity != NULL)
        return open_resumable(t, err);
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

int restore_target_open(const char *path, uint64_t size_bytes, const char *identity,
                        struct restore_target **out, struct error *err) {
    AUTO(restore_target) t = calloc(1, sizeof *t);
    if (t == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    t->fd = -1;
    t->size_bytes = size_bytes;
    t->path = strdup(path);
    t->identity = identity != NULL ? strdup(identity) : NULL;
    if (t->path == NULL || (identity != NULL && t->identity == NULL))
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
    bool remove = t->aside != NULL && !t->finished && !t->kept;
    if (remove)
        unlink(t->aside);
    if (remove && t->identity != NULL)
        restore_state_remove(t->path);
    if (t->fd >= 0)
        close(t->fd); /* with the lock */
    free(t->aside);
    free(t->identity);
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

/* --- to be resumed -------------------------------------------------------------------------------
 */

const struct restore_state *restore_target_begun(const struct restore_target *t) {
    return &t->begun;
}

bool restore_target_was_other(const struct restore_target *t) {
    return t->was_other;
}

const char *restore_target_partial(const struct restore_target *t) {
    return t->identity != NULL ? t->aside : NULL;
}

int restore_target_read(struct restore_target *t, uint64_t offset, uint8_t *to, size_t bytes,
                        struct error *err) {
    while (bytes > 0) {
        ssize_t got = pread(t->fd, to, bytes, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return error_errno(err, got < 0 ? errno : EIO, "cannot read %s", t->aside);
        to += got;
        offset += (uint64_t)got;
        bytes -= (size_t)got;
    }
    return 0;
}

int restore_target_checkpoint(struct restore_target *t, const struct restore_state *state,
                              struct error *err) {
    if (fdatasync(t->fd) != 0)
        return put_failed(t, errno, err);
    return restore_state_write(t->path, t->identity, state, err);
}

void restore_target_keep(struct restore_target *t) {
    t->kept = true;
}

/* --- the end -------------------------------------------------------------------------------------
 */

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
    if (t->identity != NULL)
        restore_state_remove(t->path);
    return restore_target_sync_directory(t->path, err);
}
