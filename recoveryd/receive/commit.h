/*
 * commit: one index transaction over the streams that have something to commit.
 */
#ifndef SANREWIND_RECOVERYD_COMMIT_H
#define SANREWIND_RECOVERYD_COMMIT_H

#include "recoveryd/receive/streams.h"

/* What a round does to one stream. */
struct touched {
    struct stream *stream;
    struct stream_entry next; /* the entry after the commit */
    bool *done;               /* per whole arrival: committed, or durable before; owned */
    size_t fresh;             /* how many of them are committed now */
};

void touched_release(struct touched *t);

/*
 * Decides for each whole arrival of the stream whether it goes into this commit, and what the entry
 * is afterwards. A stream begins with its record 0 (what a restart means depends on it), ends with
 * everything before its END in place, and has no more runs beyond its frontier than the index can
 * hold. ERR_NOMEM.
 */
int commit_plan(struct touched *t, struct stream *stream, struct error *err);

/* Writes all that was planned, durably, or nothing. */
int commit_write(struct index *index, const struct touched *touched, size_t count,
                 struct error *err);

/* After commit_write(): installs the entries and forgets the arrivals. */
void commit_finish(struct streams *streams, struct touched *t);

#endif
