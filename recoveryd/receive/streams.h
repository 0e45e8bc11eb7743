/*
 * streams: every stream that the server knows, and who may speak for which monitor.
 *
 * The receiver greets monitors and admits their batches; the committer alone changes what is
 * durable. An entry is therefore read under the table's lock and installed by streams_install(),
 * after it is in the index.
 */
#ifndef SANREWIND_RECOVERYD_STREAMS_H
#define SANREWIND_RECOVERYD_STREAMS_H

#include "common/cleanup.h"
#include "common/error.h"
#include "proto/message.h"
#include "recoveryd/index/index.h"
#include "recoveryd/receive/waiting.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct streams;

struct stream {
    struct stream_entry entry; /* what is durable */
    bool stored;               /* the entry is in the index: at least record 0 is */
    struct waiting waiting;    /* the committer's own */
};

/* At most `limit` streams are held. NULL: out of memory. */
struct streams *streams_create(size_t limit);
void streams_destroy(struct streams *s);
/* Takes in what the index knows. */
int streams_load(struct streams *s, struct index *index, struct error *err);

/*
 * A monitor introduces itself and a stream of its own. 0 with *frontier; otherwise the sentence to
 * refuse it with: a name that is not one, a number that is not the name's, a name in use by a newer
 * start of tapd. Writes nothing to the store. A stream that begins while an older one of the same
 * monitor was still speaking takes over from it.
 */
int streams_hello(struct streams *s, const struct message_hello *hello, uint64_t *frontier,
                  struct error *err);

/*
 * The stream of a batch, held until streams_release(); NULL: it was never introduced. *superseded:
 * a newer start of the same monitor has taken over, and the sender should be told to stop.
 */
struct stream *streams_admit(struct streams *s, uint64_t monitor, uint64_t id, bool *superseded);
void streams_release(struct streams *s, struct stream *stream);

/* All of the marks are durable already: there is nothing in the batch to keep. */
bool streams_have_all(struct streams *s, struct stream *stream, const struct landing *landing);
/* The entry is in the index now. */
void streams_install(struct streams *s, struct stream *stream, const struct stream_entry *entry);

DEFINE_AUTO(streams, streams_destroy)

#endif
