/*
 * restore_state: the small file beside a half-written image that lets the same command go on.
 *
 * PATH.partial holds the image as far as it is written, PATH.partial.state says whose image it is
 * and how far. The second is replaced at once (aside, rename), and only after what it speaks of is
 * on stable storage.
 */
#ifndef SANREWIND_RECOVERYD_RESTORE_STATE_H
#define SANREWIND_RECOVERYD_RESTORE_STATE_H

#include "common/digest.h"
#include "common/error.h"

#include <stdbool.h>
#include <stdint.h>

enum { RESTORE_IDENTITY_BYTES = 1024 };

struct restore_state {
    uint64_t done_bytes;           /* from the start on */
    char sha256[SHA256_HEX_BYTES]; /* of these */
};

/* "PATH.partial", "PATH.partial.state": freed by the caller; NULL: out of memory. */
char *restore_partial_path(const char *path);
char *restore_state_path(const char *path);

/* `identity`: lines of text that are different for whatever must not be mixed. */
int restore_state_write(const char *path, const char *identity, const struct restore_state *state,
                        struct error *err);
/* ERR_NOT_FOUND: there is none. ERR_FORMAT: there is, of another identity. */
int restore_state_read(const char *path, const char *identity, struct restore_state *state);
/*
 * Opens PATH.partial (made when `make`) for one restore alone, for as long as the descriptor is
 * open. ERR_BUSY: another restore has it. ERR_USAGE: it is not of a restore at all, and must not be
 * written over.
 */
int restore_partial_open(const char *path, bool make, int *fd, struct error *err);
/* The same of any file: nobody else has it, and it still has that name. */
int restore_lock(int fd, const char *name, struct error *err);
void restore_state_remove(const char *path);

#endif
