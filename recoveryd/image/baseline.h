/*
 * baseline: what a volume held before its first update, or at a known moment, adopted from a file.
 *
 * The data goes into a segment as batches of UPDATE and PAYLOAD records of a path that stands for
 * nothing else, so that segments go on describing themselves; a floor (index.h) then says that this
 * is the volume's content. The floor is committed last: a crash before leaves bytes that nothing
 * refers to.
 */
#ifndef SANREWIND_RECOVERYD_BASELINE_H
#define SANREWIND_RECOVERYD_BASELINE_H

#include "common/error.h"
#include "recoveryd/image/volume.h"

#include <stdint.h>

struct baseline_options {
    const char *file;    /* image file or block device; NULL: all zeros */
    uint64_t time_ns;    /* the moment that it shows; 0: before everything */
    uint64_t size_bytes; /* zeros: when the volume's own is not known; 0: leave it unknown */
    /* NULL: nobody wants to know. */
    void (*progress)(void *context, uint64_t done_bytes, uint64_t total_bytes);
    void *progress_context;
};

struct baseline_result {
    uint64_t size_bytes;   /* of the volume as the baseline says; 0 unknown */
    uint64_t stored_bytes; /* that were not zeros */
};

/*
 * Needs a store opened with STORE_WRITE or STORE_OWN; may run beside a recoveryd that commits. A
 * file whose size is not the known one of the volume is ERR_FORMAT with both sizes. Stopped by
 * stop_requested().
 */
int baseline_from_file(struct store *s, const struct volume *v,
                       const struct baseline_options *options, struct baseline_result *result,
                       struct error *err);

#endif
