/*
 * patch: an image file of one time becomes that of a later one, by what changed between them.
 *
 * While it is neither, the file is PATH.partial, with PATH.partial.state beside it: under its own
 * name it is never half of each. The same patch goes on with it after an interruption. A block
 * device is written in place, and not by anybody else meanwhile.
 */
#ifndef SANREWIND_RECOVERYD_PATCH_H
#define SANREWIND_RECOVERYD_PATCH_H

#include "common/rangeset.h"
#include "recoveryd/image/restore_state.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct patch_source {
    void *context;
    uint64_t from_bytes;        /* the size that the file must have, */
    uint64_t to_bytes;          /* and will have */
    const struct range *ranges; /* to write: ascending, disjoint, up to to_bytes */
    size_t range_count;
    /* At most INDEX_CHUNK_BYTES of the later image, inside of one chunk. */
    int (*read)(void *context, uint64_t offset_bytes, uint64_t length_bytes, uint8_t *to,
                struct error *err);
    const char *identity; /* of the volume and both times: see restore_state.h */
};

struct patch_options {
    void (*progress)(void *context, uint64_t done_bytes, uint64_t total_bytes);
    void *progress_context;
};

struct patch_result {
    uint64_t written_bytes;
    bool resumed; /* the file was PATH.partial of an interrupted run */
};

/*
 * ERR_NOT_FOUND: no such file; ERR_FORMAT: of another size, so not the image that it should be;
 * ERR_BUSY: somebody else is at it. Those, and whatever happens before the first byte is
 * written, leave the file as it is.
 */
int patch_file(const struct patch_source *source, const char *path,
               const struct patch_options *options, struct patch_result *result, struct error *err);

#endif
