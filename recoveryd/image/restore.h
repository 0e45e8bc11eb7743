/*
 * restore: an image written to a file or a block device, and hashed on the way.
 *
 * A file is written aside (PATH.partial-PID in the same directory), sparse, synced and renamed over
 * PATH; on any failure or stop_requested() the partial file is removed and PATH is as it was. A
 * block device is written in place, and not by anybody else meanwhile (it is opened exclusively).
 *
 * With an identity it is PATH.partial, and PATH.partial.state says now and then how far everything
 * is on stable storage, with the hash up to there. A signal, a server that goes away, or the end of
 * the process at any instant leaves both, and the same restore reads what is there, sees that it
 * has that hash, and goes on behind it. The identity must tell apart whatever may not be mixed.
 *
 * Chunks are read by a few workers ahead of one thread that hashes them in order: SHA-256 is the
 * limit (docs/store-format.md has the measurement), so everything else happens beside it.
 */
#ifndef SANREWIND_RECOVERYD_RESTORE_H
#define SANREWIND_RECOVERYD_RESTORE_H

#include "common/digest.h"
#include "common/error.h"
#include "recoveryd/image/image.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where chunks come from: an image here, or one behind a server. */
struct restore_source {
    void *context;
    uint64_t size_bytes;
    /* As image_chunk_read(). Called from several threads at once unless options.workers is 1. */
    int (*read)(void *context, uint64_t chunk, uint8_t *to, size_t *bytes, bool *all_zero,
                struct error *err);
};

struct restore_options {
    unsigned workers; /* reading threads, 1 to 8; 0: 2 */
    bool allow_gaps;  /* restore_to_file: do not refuse an image that is not exact */
    /*
     * Lines of text that are the same for the same image only (see restore_state.h): a file that
     * was interrupted goes on with what is there. NULL: begins anew, and leaves nothing.
     */
    const char *identity;
    uint64_t checkpoint_bytes; /* between two; 0: 16 MiB at first, then up to 1 GiB */
    /* One sentence about what is found of an earlier restore; NULL: nobody wants to know. */
    void (*notice)(void *context, const char *sentence);
    /* Called by the calling thread only, after every chunk; NULL: nobody wants to know. */
    void (*progress)(void *context, uint64_t done_bytes, uint64_t total_bytes);
    void *progress_context; /* also of notice() */
};

struct restore_result {
    char sha256[SHA256_HEX_BYTES]; /* of the whole image, holes included */
    uint64_t bytes;                /* of the image */
    uint64_t written_bytes;        /* that are not holes, and were not there already */
    uint64_t resumed_bytes;        /* that were there already, from the start on */
};

/*
 * ERR_FULL: no space at the destination; ERR_USAGE: it is neither a file nor a block device, or too
 * small; ERR_STOPPED: a signal. Errors of source->read come out as they are.
 */
int restore_from(const struct restore_source *source, const char *path,
                 const struct restore_options *options, struct restore_result *result,
                 struct error *err);

/* The same from an image. Without allow_gaps an image that is not exact is ERR_INEXACT before
 * anything is written. */
int restore_to_file(struct image *im, const char *path, const struct restore_options *options,
                    struct restore_result *result, struct error *err);

#endif
