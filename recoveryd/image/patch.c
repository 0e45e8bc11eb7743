#include "recoveryd/image/patch.h"

#include "common/cleanup.h"
#include "common/stop.h"
#include "recoveryd/image/restore_target.h"
#include "recoveryd/index/index.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

struct patch {
    const struct patch_source *source;
    const char *path;
    char *partial; /* NULL: a device */
    int fd;
    bool away; /* the file is `partial` now */
};

/* --- the file ------------------------------------------------------------------------------------
 */

static int open_image(struct patch *p, const char *path, bool device, struct error *err) {
    p->fd = open(path, O_RDWR | O_CLOEXEC | (device ? O_EXCL : 0));
    if (p->fd < 0)
        return error_errno(err, errno, "cannot open %s", path);
    return device ? 0 : restore_lock(p->fd, path, err);
}

static int open_device(struct patch *p, struct error *err) {
    uint64_t room = 0;
    int code = open_image(p, p->path, true, err);
    if (code == 0 && ioctl(p->fd, BLKGETSIZE64, &room) != 0)
        code = error_errno(err, errno, "cannot get the size of %s", p->path);
    if (code == 0 && (room < p->source->from_bytes || room < p->source->to_bytes))
        code = error_set(err, ERR_USAGE, "%s has %" PRIu64 " bytes: too few for the image", p->path,
                         room);
    return code;
}

/* Under another name it would be seen while it is neither image, and change without a word. */
static int check_names(const struct patch *p, struct error *err) {
    struct stat status;
    if (lstat(p->path, &status) != 0)
        return error_errno(err, errno, "cannot open %s", p->path);
    if (S_ISLNK(status.st_mode))
        return error_set(err, ERR_USAGE, "%s is a symbolic link: name the file itself", p->path);
    if (status.st_nlink > 1)
        return error_set(err, ERR_USAGE,
                         "%s has other names (hard links), under which it would change as well: "
                         "make a copy",
                         p->path);
    return 0;
}

static int check_size(const struct patch *p, struct error *err) {
    struct stat status;
    if (fstat(p->fd, &status) != 0)
        return error_errno(err, errno, "cannot get the size of %s", p->path);
    if ((uint64_t)status.st_size == p->source->from_bytes)
        return 0;
    return error_set(err, ERR_FORMAT,
                     "%s has %" PRIu64 " bytes, the volume had %" PRIu64
                     " at --since: it is not its image of that time",
                     p->path, (uint64_t)status.st_size, p->source->from_bytes);
}

/* From here on the file has not its name. */
static int put_away(struct patch *p, struct error *err) {
    struct restore_state state = {0};
    /* Nobody else begins a restore to this place before the name is taken. */
    AUTO_CLOSE int placeholder = -1;
    int code = restore_partial_open(p->path, true, &placeholder, err);
    if (code == 0)
        code = restore_state_write(p->path, p->source->identity, &state, err);
    if (code != 0)
        return code;
    if (rename(p->path, p->partial) != 0) {
        code = error_errno(err, errno, "cannot rename %s", p->path);
        restore_state_remove(p->path);
        return code;
    }
    p->away = true;
    return restore_target_sync_directory(p->path, err);
}

static int open_file(struct patch *p, struct error *err) {
    int code = open_image(p, p->path, false, err);
    if (code == 0)
        code = check_names(p, err);
    if (code == 0)
        code = check_size(p, err);
    return code == 0 ? put_away(p, err) : code;
}

/* What an interrupted run left. */
static int open_partial(struct patch *p, struct patch_result *result, struct error *err) {
    struct restore_state state;
    int code = restore_state_read(p->path, p->source->identity, &state);
    if (code == 0 && access(p->partial, F_OK) == 0) {
        code = restore_partial_open(p->path, false, &p->fd, err);
        result->resumed = p->away = code == 0;
        return code;
    }
    if (code != ERR_NOT_FOUND && access(p->partial, F_OK) == 0)
        return error_set(err, ERR_NOT_FOUND,
                         "there is no %s; %s is of a restore between other times, or of what the "
                         "store knew before: restore without --since",
                         p->path, p->partial);
    return error_set(err, ERR_NOT_FOUND,
                     "there is no %s: --since needs the image of that time; restore it first",
                     p->path);
}

static int open_target(struct patch *p, struct patch_result *result, struct error *err) {
    struct stat status;
    bool exists = stat(p->path, &status) == 0;
    if (!exists && errno != ENOENT)
        return error_errno(err, errno, "cannot open %s", p->path);
    if (exists && S_ISBLK(status.st_mode))
        return open_device(p, err);
    if (exists && !S_ISREG(status.st_mode))
        return error_set(err, ERR_USAGE, "%s is neither a file nor a block device", p->path);
    p->partial = restore_partial_path(p->path);
    if (p->partial == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    return exists ? open_file(p, err) : open_partial(p, result, err);
}

/* --- its bytes -----------------------------------------------------------------------------------
 */

static int write_all(const struct patch *p, uint64_t offset, const uint8_t *data, uint64_t bytes,
                     struct error *err) {
    while (bytes > 0) {
        ssize_t done = pwrite(p->fd, data, bytes, (off_t)offset);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return error_errno(err, done < 0 ? errno : ENOSPC, "cannot write %s", p->path);
        data += done;
        offset += (uint64_t)done;
        bytes -= (uint64_t)done;
    }
    return 0;
}

static int write_range(struct patch *p, struct range range, uint8_t *room,
                       struct patch_result *result, struct error *err) {
    int code = 0;
    while (code == 0 && range.start < range.end) {
        uint64_t end = (range.start / INDEX_CHUNK_BYTES + 1) * INDEX_CHUNK_BYTES;
        uint64_t bytes = (end < range.end ? end : range.end) - range.start;
        if (stop_requested())
            return error_set(err, ERR_STOPPED, "stopped before it was done");
        code = p->source->read(p->source->context, range.start, bytes, room, err);
        if (code == 0) {
            result->written_bytes += bytes; /* of a write that fails, some may be there */
            code = write_all(p, range.start, room, bytes, err);
        }
        range.start += bytes;
    }
    return code;
}

static uint64_t total_of(const struct patch_source *s) {
    uint64_t total = 0;
    for (size_t i = 0; i < s->range_count; i++)
        total += s->ranges[i].end - s->ranges[i].start;
    return total;
}

static int write_ranges(struct patch *p, const struct patch_options *o, struct patch_result *result,
                        struct error *err) {
    AUTO_FREE uint8_t *room = malloc(INDEX_CHUNK_BYTES);
    uint64_t total = total_of(p->source);
    int code = room != NULL ? 0 : error_set(err, ERR_NOMEM, "out of memory");
    for (size_t i = 0; code == 0 && i < p->source->range_count; i++) {
        code = write_range(p, p->source->ranges[i], room, result, err);
        if (code == 0 && o->progress != NULL)
            o->progress(o->progress_context, result->written_bytes, total);
    }
    return code;
}

static int finish(struct patch *p, struct error *err) {
    if (p->partial != NULL && ftruncate(p->fd, (off_t)p->source->to_bytes) != 0)
        return error_errno(err, errno, "cannot set the size of %s", p->partial);
    if (fsync(p->fd) != 0)
        return error_errno(err, errno, "cannot write %s", p->path);
    if (p->partial == NULL)
        return 0;
    if (rename(p->partial, p->path) != 0)
        return error_errno(err, errno, "cannot give %s its name", p->path);
    p->away = false;
    restore_state_remove(p->path);
    return restore_target_sync_directory(p->path, err);
}

/* Nothing was written: the file is what it was. Otherwise it is neither, and must not look right.
 */
static void give_up(const struct patch *p, const struct patch_result *result, struct error *err) {
    if (!p->away)
        return;
    if (result->written_bytes == 0 && !result->resumed && rename(p->partial, p->path) == 0) {
        restore_state_remove(p->path);
        return;
    }
    struct error why = {0};
    if (err == NULL)
        return;
    why = *err;
    error_set(err, why.code, "%.300s; %s is now neither image: the same command goes on with it",
              why.text, p->partial);
}

int patch_file(const struct patch_source *source, const char *path,
               const struct patch_options *options, struct patch_result *result,
               struct error *err) {
    struct patch p = {.source = source, .path = path, .fd = -1};
    *result = (struct patch_result){0};
    int code = open_target(&p, result, err);
    if (code == 0)
        code = write_ranges(&p, options, result, err);
    if (code == 0)
        code = finish(&p, err);
    if (code != 0)
        give_up(&p, result, err);
    if (p.fd >= 0)
        close(p.fd);
    free(p.partial);
    return code;
}
