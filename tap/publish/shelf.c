#include "tap/publish/shelf.h"

#include "common/log.h"
#include "proto/limits.h"
#include "tap/publish/thin.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { NAME_BYTES = 32, TORN_FILES = 2 };

static const char thinned_name[] = "thinned";

static void name_of(uint64_t number, char name[NAME_BYTES]) {
    snprintf(name, NAME_BYTES, "%016" PRIx64 ".spool", number);
}

static bool number_of(const char *name, uint64_t *number) {
    char again[NAME_BYTES];
    *number = strtoull(name, NULL, 16);
    name_of(*number, again);
    return strcmp(name, again) == 0;
}

void shelf_hold(struct shelf_file *file) {
    file->references++;
}

bool shelf_let_go(struct shelf_file *file) {
    return --file->references == 0;
}

void shelf_close_file(struct shelf_file *file) {
    close(file->fd);
    free(file);
}

static struct shelf_file *make_file(struct shelf *s, int fd, const struct spool_file_head *head) {
    struct shelf_file *file = calloc(1, sizeof *file);
    if (file == NULL) {
        close(fd);
        return NULL;
    }
    file->id = ++s->next_id;
    file->head = *head;
    file->extent.bytes = file->synced_bytes = SPOOL_FILE_HEAD_BYTES;
    file->fd = fd;
    file->references = 1;
    return file;
}

static void add_last(struct shelf *s, struct shelf_file *file) {
    if (s->last != NULL)
        s->last->next = file;
    else
        s->first = file;
    s->last = file;
    s->bytes += file->extent.bytes;
    if (file->head.number >= s->next_number)
        s->next_number = file->head.number + 1;
}

int shelf_sync_names(struct shelf *s, struct error *err) {
    return fsync(s->dir_fd) == 0 ? 0 : error_errno(err, errno, "cannot sync %s", s->dir);
}

/* --- opening -------------------------------------------------------------------------------------
 */

/* Not to be read, but not thrown away either. */
static int put_aside(struct shelf *s, const char *name, const struct error *why,
                     struct error *err) {
    char aside[NAME_BYTES + sizeof ".damaged"];
    snprintf(aside, sizeof aside, "%s.damaged", name);
    log_warning("%s/%s: %s: it is put aside, and what was in it is not sent", s->dir, name,
                why->text);
    if (renameat(s->dir_fd, name, s->dir_fd, aside) != 0)
        return error_errno(err, errno, "cannot rename %s/%s", s->dir, name);
    return 0;
}

static int check_head(struct shelf *s, const char *name, uint64_t number,
                      const struct spool_file_head *head, struct error *err) {
    if (head->monitor != s->monitor)
        return error_set(err, ERR_USAGE,
                         "%s is the spool of another monitor: give each --monitor its own --spool",
                         s->dir);
    if (head->number != number)
        return error_set(err, ERR_FORMAT, "%s/%s has been renamed", s->dir, name);
    return 0;
}

/* What a start left that ended before the first batch was in its file. */
static bool is_unborn(int fd) {
    return lseek(fd, 0, SEEK_END) <= SPOOL_FILE_HEAD_BYTES;
}

static int load_file(struct shelf *s, uint64_t number, struct error *err) {
    char name[NAME_BYTES];
    struct spool_file_head head;
    struct error why;
    name_of(number, name);
    int fd = openat(s->dir_fd, name, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return error_errno(err, errno, "cannot open %s/%s", s->dir, name);
    int code = spool_file_head(fd, &head, &why);
    if (code == 0)
        code = check_head(s, name, number, &head, &why);
    if (code == 0 || code == ERR_FORMAT) {
        if (is_unborn(fd)) {
            close(fd);
            unlinkat(s->dir_fd, name, 0);
            return 0;
        }
    }
    if (code == 0) {
        struct shelf_file *file = make_file(s, fd, &head);
        if (file == NULL)
            return error_set(err, ERR_NOMEM, "out of memory");
        add_last(s, file);
        return 0;
    }
    close(fd);
    if (code == ERR_FORMAT)
        return put_aside(s, name, &why, err);
    return error_set(err, code, "%s/%s: %s", s->dir, name, why.text);
}

static int compare_numbers(const void *a, const void *b) {
    uint64_t left = *(const uint64_t *)a;
    uint64_t right = *(const uint64_t *)b;
    return left < right ? -1 : left > right;
}

static int list_numbers(struct shelf *s, uint64_t **numbers, size_t *count, struct error *err) {
    DIR *dir = opendir(s->dir);
    size_t capacity = 0;
    uint64_t number;
    if (dir == NULL)
        return error_errno(err, errno, "cannot read %s", s->dir);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        if (!number_of(entry->d_name, &number))
            continue;
        if (*count == capacity) {
            capacity = capacity > 0 ? 2 * capacity : 64;
            uint64_t *more = realloc(*numbers, capacity * sizeof *more);
            if (more == NULL) {
                closedir(dir);
                return error_set(err, ERR_NOMEM, "out of memory");
            }
            *numbers = more;
        }
        (*numbers)[(*count)++] = number;
    }
    closedir(dir);
    if (*count > 0)
        qsort(*numbers, *count, sizeof **numbers, compare_numbers);
    return 0;
}

/* A file is synced before the second one behind it is begun: only the last two of a stream may be
 * torn. */
static bool may_be_torn(const struct shelf_file *file) {
    const struct shelf_file *later = file;
    for (int i = 0; i < TORN_FILES && later != NULL; i++)
        later = later->next;
    return later == NULL || later->head.stream != file->head.stream;
}

static int scan_file(struct shelf *s, struct shelf_file *file, struct error *err) {
    int code = spool_file_scan(file->fd, &file->head, may_be_torn(file), &file->extent, err);
    if (code < 0)
        return error_prefix(err, "%s", s->dir);
    uint64_t end = (uint64_t)lseek(file->fd, 0, SEEK_END);
    if (end > file->extent.bytes) {
        log_warning("%s: the last %" PRIu64 " bytes of file %" PRIx64
                    " are no whole batch and were cut",
                    s->dir, end - file->extent.bytes, file->head.number);
        if (ftruncate(file->fd, (off_t)file->extent.bytes) != 0)
            return error_errno(err, errno, "cannot cut a file of %s", s->dir);
    }
    file->synced_bytes = file->extent.bytes;
    file->synced_order = file->extent.end_order;
    s->bytes += file->extent.bytes - SPOOL_FILE_HEAD_BYTES;
    return 0;
}

static int load_files(struct shelf *s, struct error *err) {
    AUTO_FREE uint64_t *numbers = NULL;
    size_t count = 0;
    int code = list_numbers(s, &numbers, &count, err);
    for (size_t i = 0; i < count && code == 0; i++)
        code = load_file(s, numbers[i], err);
    for (struct shelf_file *file = s->first; file != NULL && code == 0; file = file->next)
        code = scan_file(s, file, err);
    return code;
}

int shelf_open(const char *dir, uint64_t monitor, struct shelf **out, struct error *err) {
    AUTO(shelf) s = calloc(1, sizeof *s);
    if (s == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    s->lock_fd = s->dir_fd = -1;
    s->monitor = monitor;
    s->next_number = 1;
    s->dir = strdup(dir);
    if (s->dir == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    s->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s->dir_fd < 0)
        return error_errno(err, errno, "cannot open %s", dir);
    s->lock_fd = openat(s->dir_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (s->lock_fd < 0)
        return error_errno(err, errno, "cannot open %s/lock", dir);
    if (flock(s->lock_fd, LOCK_EX | LOCK_NB) != 0)
        return error_set(err, ERR_BUSY, "another tapd uses the spool %s", dir);
    unlinkat(s->dir_fd, thinned_name, 0);
    int code = load_files(s, err);
    if (code == 0)
        *out = take_pointer(&s);
    return code;
}

void shelf_close(struct shelf *s) {
    if (s == NULL)
        return;
    while (s->first != NULL) {
        struct shelf_file *file = s->first;
        s->first = file->next;
        shelf_close_file(file);
    }
    if (s->dir_fd >= 0)
        close(s->dir_fd);
    if (s->lock_fd >= 0)
        close(s->lock_fd);
    free(s->dir);
    free(s);
}

/* --- writing -------------------------------------------------------------------------------------
 */

static struct shelf_file *create_file(struct shelf *s, const char *name,
                                      const struct spool_file_head *head, struct error *err) {
    int fd = openat(s->dir_fd, name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) {
        error_errno(err, errno, "cannot create %s/%s", s->dir, name);
        return NULL;
    }
    if (spool_file_begin(fd, head, err) < 0) {
        close(fd);
        unlinkat(s->dir_fd, name, 0);
        return NULL;
    }
    struct shelf_file *file = make_file(s, fd, head);
    if (file == NULL) {
        unlinkat(s->dir_fd, name, 0);
        error_set(err, ERR_NOMEM, "out of memory");
    }
    return file;
}

void shelf_room(const struct shelf *s, uint64_t *total, uint64_t *left) {
    struct statvfs status;
    *total = *left = UINT64_MAX;
    if (fstatvfs(s->dir_fd, &status) != 0 || status.f_blocks == 0)
        return;
    *total = (uint64_t)status.f_blocks * status.f_frsize;
    *left = (uint64_t)status.f_bavail * status.f_frsize;
}

struct shelf_file *shelf_make(struct shelf *s, uint64_t stream, struct error *err) {
    char name[NAME_BYTES];
    struct spool_file_head head = {s->monitor, stream, s->next_number};
    name_of(head.number, name);
    struct shelf_file *file = create_file(s, name, &head, err);
    if (file != NULL)
        s->next_number++;
    return file;
}

void shelf_add(struct shelf *s, struct shelf_file *file) {
    add_last(s, file);
    file->synced_bytes = 0; /* not even its head */
    s->open = file;
}

void shelf_end(struct shelf *s) {
    s->open = NULL;
}

void shelf_grow(struct shelf *s, const struct spool_entry *entry, uint64_t bytes) {
    struct spool_extent *extent = &s->open->extent;
    if (extent->first_order == extent->end_order)
        extent->first_order = s->open->synced_order = entry->first_order;
    extent->end_order = entry->end_order;
    extent->bytes += bytes;
    s->bytes += bytes;
}

struct shelf_file *shelf_take_first(struct shelf *s) {
    struct shelf_file *file = s->first;
    s->first = file->next;
    if (s->last == file)
        s->last = NULL;
    if (s->open == file)
        s->open = NULL;
    s->bytes -= file->extent.bytes;
    return file;
}

void shelf_unlink(struct shelf *s, const struct shelf_file *file) {
    char name[NAME_BYTES];
    name_of(file->head.number, name);
    unlinkat(s->dir_fd, name, 0);
}

void shelf_distrust(struct shelf *s, struct shelf_file *file) {
    uint64_t good =
        file->synced_bytes > SPOOL_FILE_HEAD_BYTES ? file->synced_bytes : SPOOL_FILE_HEAD_BYTES;
    s->bytes -= file->extent.bytes - good;
    file->extent.bytes = file->synced_bytes = good;
    file->extent.end_order = file->synced_order;
    if (s->open == file)
        s->open = NULL;
    if (ftruncate(file->fd, (off_t)good) != 0)
        log_warning("%s: cannot cut a file that cannot be synced: %s", s->dir, strerror(errno));
}

/* --- reading -------------------------------------------------------------------------------------
 */

struct shelf_file *shelf_find(struct shelf *s, uint64_t stream, uint64_t order, uint64_t *next) {
    *next = UINT64_MAX;
    for (struct shelf_file *file = s->first; file != NULL; file = file->next) {
        const struct spool_extent *extent = &file->extent;
        if (file->head.stream != stream || extent->first_order == extent->end_order)
            continue;
        if (order >= extent->first_order && order < extent->end_order)
            return file;
        if (extent->first_order > order && extent->first_order < *next)
            *next = extent->first_order;
    }
    return NULL;
}

/* --- thinning ------------------------------------------------------------------------------------
 */

struct shelf_file *shelf_thinnable(struct shelf *s) {
    for (struct shelf_file *file = s->first; file != NULL; file = file->next) {
        if (file != s->open && !file->thin)
            return file;
    }
    return NULL;
}

static int thin_entries(const struct shelf_file *from, struct shelf_file *to, uint64_t *lost,
                        struct error *err) {
    AUTO_BUFFER frame;
    AUTO_BUFFER thin;
    struct spool_entry entry;
    buffer_init(&frame, LIMIT_BATCH_BYTES);
    buffer_init(&thin, LIMIT_BATCH_BYTES);
    for (uint64_t at = SPOOL_FILE_HEAD_BYTES; at < from->extent.bytes;) {
        uint64_t wrote = 0;
        int code =
            spool_file_entry(from->fd, at, from->extent.bytes, from->head.number, &entry, err);
        if (code == 0)
            code = spool_file_frame(from->fd, at, &entry, &frame, err);
        at += spool_entry_room(entry.bytes);
        if (code == 0)
            code = thin_batch(frame.data, frame.length, &thin, lost, err);
        entry.bytes = (uint32_t)thin.length;
        if (code == 0)
            code = spool_file_append(to->fd, to->extent.bytes, to->head.number, &entry, thin.data,
                                     &wrote, err);
        if (code < 0)
            return code;
        to->extent.bytes += wrote;
    }
    return 0;
}

static int keep_thinned(struct shelf *s, const struct shelf_file *thin, struct error *err) {
    char name[NAME_BYTES];
    name_of(thin->head.number, name);
    if (fsync(thin->fd) != 0)
        return error_errno(err, errno, "cannot sync %s/%s", s->dir, thinned_name);
    if (renameat(s->dir_fd, thinned_name, s->dir_fd, name) != 0)
        return error_errno(err, errno, "cannot replace %s/%s", s->dir, name);
    return 0;
}

struct shelf_file *shelf_thin(struct shelf *s, const struct shelf_file *file, uint64_t *lost,
                              struct error *err) {
    struct shelf_file *thin = create_file(s, thinned_name, &file->head, err);
    if (thin == NULL)
        return NULL;
    int code = thin_entries(file, thin, lost, err);
    if (code == 0)
        code = keep_thinned(s, thin, err);
    if (code < 0) {
        unlinkat(s->dir_fd, thinned_name, 0);
        shelf_close_file(thin);
        return NULL;
    }
    thin->extent.first_order = file->extent.first_order;
    thin->extent.end_order = thin->synced_order = file->extent.end_order;
    thin->synced_bytes = thin->extent.bytes;
    thin->thin = true;
    return thin;
}

void shelf_replace(struct shelf *s, struct shelf_file *file, struct shelf_file *thin) {
    struct shelf_file **at = &s->first;
    while (*at != file)
        at = &(*at)->next;
    thin->next = file->next;
    *at = thin;
    if (s->last == file)
        s->last = thin;
    s->bytes -= file->extent.bytes - thin->extent.bytes;
}
