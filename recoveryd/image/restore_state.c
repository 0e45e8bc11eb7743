#include "recoveryd/image/restore_state.h"

#include "common/cleanup.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

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
    if (length >= sizeof expected || strncmp(text, expected, length) != 0 ||
        sscanf(text + length, "done_bytes %" SCNu64 "\nsha256 %64s\n", &state->done_bytes,
               state->sha256) != 2)
        return ERR_FORMAT;
    return 0;
}

void restore_state_remove(const char *path) {
    AUTO_FREE char *name = restore_state_path(path);
    if (name != NULL)
        unlink(name);
}
