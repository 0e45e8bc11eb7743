/*
 * checkpoint: what a monitor keeps of itself on disk for its next start: DIR/sessions.
 *
 *     53 52 57 43 ("SRWC"), version 4, length of the rest 8, crc32c of the rest 4, then the rest
 *
 * Little-endian. The file is replaced as a whole, never changed. It belongs to one version of the
 * program and one monitor: another's is as good as none. Losing it costs gaps, nothing else.
 */
#ifndef SANREWIND_TAP_CHECKPOINT_H
#define SANREWIND_TAP_CHECKPOINT_H

#include "common/buffer.h"
#include "common/cursor.h"
#include "common/error.h"

#include <stdint.h>

struct checkpoint {
    const char *monitor;
    uint64_t stream;     /* that wrote it */
    uint64_t next_order; /* its records below this come from what is saved */
    uint64_t promised_ns;
    uint64_t newest_ns; /* greatest packet time */
};

/* Appends head and fields; what the pipeline saves follows. */
void checkpoint_begin(struct buffer *b, const struct checkpoint *cp);
/* What came since is in the stream as well. */
void checkpoint_set_end(struct buffer *b, uint64_t next_order, uint64_t promised_ns);
/* Replaces the file. synced: it is on stable storage then. */
int checkpoint_write(const char *dir, struct buffer *b, bool synced, struct error *err);

/*
 * Reads the file into `b`. 0 with the fields and a cursor to the rest; ERR_NOT_FOUND: none;
 * ERR_FORMAT: damaged, or of another version or monitor.
 */
int checkpoint_read(const char *dir, const char *monitor, struct buffer *b, struct checkpoint *cp,
                    struct cursor *rest, struct error *err);

#endif
