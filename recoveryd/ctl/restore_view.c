#include "recoveryd/ctl/restore.h"

#include "common/cleanup.h"
#include "common/log.h"
#include "proto/limits.h"
#include "proto/when.h"
#include "recoveryd/ctl/ctl.h"
#include "recoveryd/ctl/progress.h"
#include "recoveryd/image/restore.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

int restore_refuse_inexact(struct view *v, struct error *err) {
    AUTO_JSON gaps = NULL;
    uint64_t count = view_gap_count(v);
    int code = view_gaps(v, &gaps, err);
    if (code < 0)
        return code;
    const json_t *first = json_array_get(gaps, 0);
    return error_set(err, ERR_INEXACT,
                     "%s is not exact at that time: %" PRIu64 " range%s, the first %" PRIu64
                     " bytes at %" PRIu64 " (%s); recoveryctl gaps lists them, --allow-gaps "
                     "restores nevertheless%s",
                     ctl_string(v->facts, "volume"), count, count == 1 ? "" : "s",
                     ctl_number(first, "length_bytes"), ctl_number(first, "offset_bytes"),
                     ctl_string(first, "reason"),
                     ctl_number(first, "since_ns") == 0
                         ? ", recoveryctl baseline says what it held before"
                         : "");
}

/* --- where to ------------------------------------------------------------------------------------
 */

/* "iqn.2026-11.lab:disk/0" becomes "iqn.2026-11.lab:disk_0.img". */
static int name_in(const char *directory, const char *volume, char path[RESTORE_PATH_BYTES],
                   struct error *err) {
    int prefix = snprintf(path, RESTORE_PATH_BYTES, "%s/", directory);
    int length = snprintf(path, RESTORE_PATH_BYTES, "%s/%s.img", directory, volume);
    if (length < 0 || length >= RESTORE_PATH_BYTES)
        return error_set(err, ERR_USAGE, "--to: the path is too long");
    for (char *c = path + prefix; *c != '\0'; c++) {
        if (*c == '/')
            *c = '_';
    }
    return 0;
}

int restore_path(const struct view *v, const char *to, bool must_be_directory,
                 char path[RESTORE_PATH_BYTES], struct error *err) {
    struct stat status;
    bool is_directory = stat(to, &status) == 0 && S_ISDIR(status.st_mode);
    if (is_directory)
        return name_in(to, ctl_string(v->facts, "volume"), path, err);
    if (must_be_directory)
        return error_set(err, ERR_USAGE,
                         "--to: several volumes go into a directory, and %s is none", to);
    if (snprintf(path, RESTORE_PATH_BYTES, "%s", to) >= RESTORE_PATH_BYTES)
        return error_set(err, ERR_USAGE, "--to: the path is too long");
    return 0;
}

/* Beside the image; what belongs to a block device goes into the current directory. */
static void gaps_path(const char *path, char to[RESTORE_PATH_BYTES + 16]) {
    struct stat status;
    if (stat(path, &status) == 0 && S_ISBLK(status.st_mode)) {
        const char *base = strrchr(path, '/');
        path = base != NULL ? base + 1 : path;
    }
    snprintf(to, RESTORE_PATH_BYTES + 16, "%s.gaps.json", path);
}

/* --- gaps beside the image -----------------------------------------------------------------------
 */

/*
 * Lists that killed restores left. Whoever writes one holds its lock, so that nobody takes it away
 * from a restore that is at work: a number of a process says nothing to another machine or
 * container.
 */
static void remove_stale(const char *beside) {
    char pattern[RESTORE_PATH_BYTES + 64];
    char dir[RESTORE_PATH_BYTES + 64];
    char name[RESTORE_PATH_BYTES + 64];
    snprintf(pattern, sizeof pattern, "%s.partial-", beside);
    snprintf(dir, sizeof dir, "%s", pattern);
    snprintf(name, sizeof name, "%s", pattern);
    const char *begin = basename(name);
    DIR *open_dir = opendir(dirname(dir));
    if (open_dir == NULL)
        return;
    for (struct dirent *e = readdir(open_dir); e != NULL; e = readdir(open_dir)) {
        const char *number = e->d_name + strlen(begin);
        if (strncmp(e->d_name, begin, strlen(begin)) != 0 || *number == '\0' ||
            strspn(number, "0123456789") != strlen(number))
            continue;
        AUTO_CLOSE int fd = openat(dirfd(open_dir), e->d_name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0)
            unlinkat(dirfd(open_dir), e->d_name, 0);
    }
    closedir(open_dir);
}

/* *fd holds the lock. */
static int write_aside(const char *path, const json_t *gaps, int *fd, struct error *err) {
    AUTO_FCLOSE FILE *file = fopen(path, "we");
    if (file == NULL)
        return error_errno(err, errno, "cannot write %s", path);
    *fd = fcntl(fileno(file), F_DUPFD_CLOEXEC, 0);
    if (*fd < 0 || (flock(*fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK))
        return error_errno(err, errno, "cannot lock %s", path);
    struct stat status;
    if (fstat(*fd, &status) != 0 || status.st_nlink == 0)
        return error_set(err, ERR_BUSY, "%s was taken away by another restore", path);
    if (json_dumpf(gaps, file, JSON_INDENT(1)) != 0 || fputc('\n', file) == EOF ||
        fflush(file) != 0 || fsync(fileno(file)) != 0)
        return error_errno(err, errno, "cannot write %s", path);
    return 0;
}

/* --- the image -----------------------------------------------------------------------------------
 */

static int read_chunk(void *context, uint64_t chunk, uint8_t *to, size_t *bytes, bool *all_zero,
                      struct error *err) {
    struct view *v = context;
    return v->backend->chunk(v->backend, v->image, chunk, to, bytes, all_zero, err);
}

static void say_notice(void *context, const char *sentence) {
    progress_end(context);
    log_info("%s", sentence);
}

static int write_image(struct view *v, const char *path, void *context, struct error *err) {
    struct restore_result *done = context;
    struct progress progress;
    struct restore_source source = {
        .context = v, .size_bytes = ctl_number(v->facts, "size_bytes"), .read = read_chunk};
    char identity[RESTORE_IDENTITY_BYTES];
    struct restore_options options = {.identity = identity,
                                      .notice = say_notice,
                                      .progress = progress_show,
                                      .progress_context = &progress};
    restore_identity(v, 0, identity);
    progress_begin(&progress, ctl_string(v->facts, "volume"));
    int code = restore_from(&source, path, &options, done, err);
    progress_end(&progress);
    return code;
}

static void unlink_regular(const char *path) {
    struct stat status;
    if (lstat(path, &status) == 0 && S_ISREG(status.st_mode))
        unlink(path);
}

/* The list is on disk before the image gets its name, and gets its own right after. */
static int write_with_gaps(struct view *v, const char *path, const char *beside,
                           restore_writer *write, void *context, struct error *err) {
    char aside[RESTORE_PATH_BYTES + 64];
    AUTO_JSON gaps = NULL;
    AUTO_CLOSE int fd = -1;
    snprintf(aside, sizeof aside, "%s.partial-%ld", beside, (long)getpid());
    int code = view_gaps(v, &gaps, err);
    if (code == 0)
        code = write_aside(aside, gaps, &fd, err);
    if (code == 0)
        code = write(v, path, context, err);
    if (code == 0 && rename(aside, beside) != 0) {
        code = error_errno(err, errno, "cannot write %s", beside);
        unlink_regular(path);
    }
    if (code < 0)
        unlink(aside);
    return code;
}

int restore_beside(struct view *v, const char *path, restore_writer *write, void *context,
                   struct error *err) {
    char beside[RESTORE_PATH_BYTES + 16];
    gaps_path(path, beside);
    remove_stale(beside);
    if (!view_is_exact(v))
        return write_with_gaps(v, path, beside, write, context, err);
    int code = write(v, path, context, err);
    /* What an earlier, inexact restore to the same name left would now be a lie. */
    if (code == 0)
        unlink(beside);
    return code;
}

/* --- what was done -------------------------------------------------------------------------------
 */

void restore_identity(const struct view *v, uint64_t since_ns, char text[RESTORE_IDENTITY_BYTES]) {
    char id[LIMIT_NAME_BYTES + 64];
    snprintf(id, sizeof id, "%s", ctl_string(v->facts, "id"));
    for (char *c = id; *c != '\0'; c++) {
        if ((unsigned char)*c < ' ')
            *c = '?';
    }
    snprintf(text, RESTORE_IDENTITY_BYTES,
             "volume %s\ntime_ns %" PRIu64 "\nsince_ns %" PRIu64 "\nsize_bytes %" PRIu64
             "\nview %s\n",
             id, ctl_number(v->facts, "time_ns"), since_ns, ctl_number(v->facts, "size_bytes"),
             ctl_string(v->facts, "view"));
}

static void put_times(json_t *result, const json_t *resolved) {
    char text[WHEN_TEXT_BYTES];
    uint64_t time_ns = ctl_number(resolved, "time_ns");
    uint64_t asked_ns = ctl_number(resolved, "asked_ns");
    json_object_set_new(result, "time", json_string(when_print_utc(time_ns, text)));
    json_object_set_new(result, "local_time", json_string(when_print_local(time_ns, text)));
    json_object_set_new(result, "lowered", json_boolean(asked_ns > time_ns));
    json_object_set_new(result, "asked", json_string(when_print_utc(asked_ns, text)));
}

json_t *restore_facts(const struct view *v, const char *path, const json_t *resolved) {
    char beside[RESTORE_PATH_BYTES + 16];
    gaps_path(path, beside);
    json_t *result = json_deep_copy(v->facts);
    json_object_del(result, "image");
    json_object_del(result, "view");
    put_times(result, resolved);
    json_object_set_new(result, "bytes",
                        json_integer((json_int_t)ctl_number(result, "size_bytes")));
    json_object_set_new(result, "file", json_string(path));
    json_object_set_new(result, "gaps_file", view_is_exact(v) ? json_null() : json_string(beside));
    return result;
}

int restore_view(struct view *v, const char *path, const json_t *resolved, json_t **result,
                 struct error *err) {
    struct restore_result done;
    int code = restore_beside(v, path, write_image, &done, err);
    if (code < 0)
        return code;
    *result = restore_facts(v, path, resolved);
    json_object_set_new(*result, "sha256", json_string(done.sha256));
    json_object_set_new(*result, "written_bytes", json_integer((json_int_t)done.written_bytes));
    json_object_set_new(*result, "resumed_bytes", json_integer((json_int_t)done.resumed_bytes));
    return 0;
}

static void print_reached(const json_t *reached) {
    if (json_is_null(reached))
        printf("no update before it");
    else
        printf("reached stamp %s/%s/%" PRIu64 "/%" PRIu64, ctl_string(reached, "time"),
               ctl_string(reached, "monitor"), ctl_number(reached, "stream"),
               ctl_number(reached, "order"));
}

void restore_print(const json_t *result) {
    printf("%s at %s (%s): ", ctl_string(result, "volume"), ctl_string(result, "time"),
           ctl_string(result, "local_time"));
    if (json_is_true(json_object_get(result, "lowered")))
        printf("lowered to the watermark from %s, ", ctl_string(result, "asked"));
    print_reached(json_object_get(result, "reached"));
    printf(", %" PRIu64 " bytes, %" PRIu64 " updates applied, ", ctl_number(result, "size_bytes"),
           ctl_number(result, "updates"));
    if (json_is_true(json_object_get(result, "exact")))
        printf("exact");
    else
        printf("NOT EXACT (%" PRIu64 " gaps, see %s)", ctl_number(result, "gaps"),
               ctl_string(result, "gaps_file"));
    if (json_is_string(json_object_get(result, "since")))
        printf(", %" PRIu64 " bytes in %" PRIu64 " ranges since %s written into %s\n",
               ctl_number(result, "written_bytes"), ctl_number(result, "ranges"),
               ctl_string(result, "since"), ctl_string(result, "file"));
    else
        printf(", sha256 %s, written to %s\n", ctl_string(result, "sha256"),
               ctl_string(result, "file"));
}
