#include "recoveryd/image/restore_state.h"

#include "common/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#define FIRST_LINE "sanrewind restore, version 1\n"

char *restore_partial_path(const char *path) {
    char *text = NULL;
    return asprintf(&text, "%s.partial", path) < 0 ? NULL : text;
}

char *restore_state_path(const char *path) {
    char *text = NULL;
    return asprintf(&text, "%s.partial.state", path) < 0 ? NULL : text;
}

static int write_aside(const char *aside, const char *identity, const struct restore_state *state,
                       struct error *err) {
    AUTO_FCLOSE FILE *file = fopen(aside, "we");
    if (file == NULL ||
        fprintf(file, FIRST_LINE "%sdone_bytes %" PRIu64 "\nsha256 %s\n", identity,
                state->done_bytes, state->sha256[0] != '\0' ? state->sha256 : "-") < 0 ||
        fflush(file) != 0 || fsync(fileno(file)) != 0)
        return error_errno(err, errno, "cannot write %s", aside);
    return 0;
}

int restore_state_write(const char *path, const char *identity, const struct restore_state *state,
                        struct error *err) {
    AUTO_FREE char *name = restore_state_path(path);
    AUTO_FREE char *aside = NULL;
    if (name == NULL || asprintf(&aside, "%s.new", name) < 0) {
        aside = NULL;
        return error_set(err, ERR_NOMEM, "out of memory");
    }
    int code = write_aside(aside, identity, state, err);
    if (code == 0 && rename(aside, name) != 0)
        code = error_errno(err, errno, "cannot write %s", name);
    if (code != 0)
        unlink(aside);
    return code;
}

int restore_state_read(const char *path, const char *identity, struct restore_state *state) {
    AUTO_FREE char *name = restore_state_path(path);
    AUTO_FCLOSE FILE *file = name != NULL ? fopen(name, "re") : NULL;
    char text[RESTORE_IDENTITY_BYTES + 256];
    char expected[RESTORE_IDENTITY_BYTES + 64];
    *state = (struct restore_state){0};
    if (file == NULL)
        return ERR_NOT_FOUND;
    size_t bytes = fread(text, 1, sizeof text - 1, file);
    text[bytes] = '\0';
    size_t length = (size_t)snprintf(expected, sizeof expected, FIRST_LINE "%s", identity);
    if (strncmp(text, FIRST_LINE, sizeof FIRST_LINE - 1) != 0)
        return ERR_NOT_FOUND;
    if (length >= sizeof expected || strncmp(text, expected, length) != 0 ||
        sscanf(text + length, "done_bytes %" SCNu64 "\nsha256 %64s\n", &state->done_bytes,
               state->sha256) != 2)
        return ERR_FORMAT;
    return 0;
}

int restore_lock(int fd, const char *name, struct error *err) {
    struct stat open_one;
    struct stat named;
    if (flock(fd, LOCK_EX | LOCK_NB) != 0)
        return error_set(err, ERR_BUSY, "%s is being written by another restore", name);
    /* It may have got another name, and be finished, before the lock was ours. */
    if (fstat(fd, &open_one) != 0 || stat(name, &named) != 0 || open_one.st_ino != named.st_ino ||
        open_one.st_dev != named.st_dev)
        return error_set(err, ERR_BUSY, "another restore has just written %s: start again", name);
    return 0;
}

/* Killed before the state was written, it is empty. */
static int check_ours(int fd, const char *path, const char *partial, struct error *err) {
    struct stat status;
    struct restore_state state;
    if (fstat(fd, &status) != 0)
        return error_errno(err, errno, "cannot open %s", partial);
    if (S_ISREG(status.st_mode) &&
        (status.st_size == 0 || restore_state_read(path, "", &state) != ERR_NOT_FOUND))
        return 0;
    return error_set(err, ERR_USAGE,
                     "%s is in the way, and was not left by a restore: move it, or name another "
                     "place",
                     partial);
}

int restore_partial_open(const char *path, bool make, int *fd, struct error *err) {
    AUTO_FREE char *partial = restore_partial_path(path);
    if (partial == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    AUTO_CLOSE int file =
        open(partial, O_RDWR | O_CLOEXEC | O_NOFOLLOW | (make ? O_CREAT : 0), 0666);
    if (file < 0)
        return error_errno(err, errno, "cannot open %s", partial);
    int code = restore_lock(file, partial, err);
    if (code == 0)
        code = check_ours(file, path, partial, err);
    if (code == 0)
        *fd = take_fd(&file);
    return code;
}

void restore_state_remove(const char *path) {
    AUTO_FREE char *name = restore_state_path(path);
    if (name != NULL)
        unlink(name);
}
