/*
 * spool: what the monitor keeps until its sinks have it, on disk or in memory.
 *
 * The publisher puts batches in; each link reads them at its own pace, and says what its sink has
 * acknowledged. What every required sink has is let go of. With a folder, a thread of its own
 * writes the batches to files there (group sync; see shelf.h), and memory is bounded by the pool;
 * without one they stay in memory, at most `bound_bytes` of them.
 *
 * When there is no room, either everybody waits (SPOOL_WAIT), or the oldest or newest updates are
 * thinned (see thin.h): they become gaps over the blocks that they wrote. Only when nothing is left
 * that could be thinned, everybody waits all the same: then the kernel drops packets, which is a
 * gap of its own. What only sinks that are not required lack goes first, and they are told so.
 *
 * Files of earlier starts are read by the links first, stream by stream. Thread-safe.
 */
#ifndef SANREWIND_TAP_SPOOL_H
#define SANREWIND_TAP_SPOOL_H

#include "common/buffer.h"
#include "common/cleanup.h"
#include "common/error.h"
#include "common/rangeset.h"
#include "tap/publish/batch.h"
#include "tap/publish/publisher.h"

#include <stdbool.h>
#include <stdint.h>

enum { SPOOL_SINKS = 16 };

enum spool_full { SPOOL_WAIT, SPOOL_OLDEST, SPOOL_NEWEST };

struct spool_options {
    const char *dir; /* NULL: in memory */
    uint64_t monitor;
    uint64_t stream;      /* at least: it becomes greater than those in the folder */
    uint64_t bound_bytes; /* of the files, or of the memory */
    enum spool_full full;
    unsigned sinks;
    unsigned required;       /* how many sinks must have a record before it is let go of */
    struct batch_pool *pool; /* borrowed; closed on failure */
    size_t pool_count;
    int (*sync)(int fd); /* NULL: fdatasync() */
};

struct spool;

/* ERR_BUSY, ERR_USAGE, ERR_VERSION: see shelf_open(). */
int spool_create(const struct spool_options *options, struct spool **out, struct error *err);
/* What is in memory only is let go of. */
void spool_destroy(struct spool *s);

uint64_t spool_stream(const struct spool *s);
/* To give to the publisher. */
struct outlet spool_outlet(struct spool *s);

/* Something went wrong for good: nothing goes on. */
void spool_fail(struct spool *s, const struct error *err);
/* 0, or the first failure. */
int spool_check(struct spool *s, struct error *err);
/* Waits until the required sinks have all that was put in so far: 0; ERR_NET after timeout_ns, or
 * the failure. */
int spool_wait_drained(struct spool *s, uint64_t timeout_ns, struct error *err);
/* Likewise until all is on stable storage, here or there. ERR_NET at once without a folder. */
int spool_wait_safe(struct spool *s, uint64_t timeout_ns, struct error *err);
/* How many bytes the required sinks do not have yet, roughly: files count as a whole. */
uint64_t spool_backlog(struct spool *s);
/* Likewise of one sink. */
uint64_t spool_lag(struct spool *s, unsigned sink);
/* There is no room for anything, and nothing that could be thinned: whatever can wait should. */
bool spool_is_stuck(struct spool *s);
/* Updates that became gaps because there was no room. */
uint64_t spool_lost(struct spool *s);

/* --- for links -----------------------------------------------------------------------------------
 */

/* `wake` is called, from any thread, when there is something new to read. */
void spool_attach(struct spool *s, unsigned sink, void (*wake)(void *context), void *context);
/* The sink has these marks of the stream, and all of the streams before it. Takes what was said
 * before back. */
void spool_acknowledge(struct spool *s, unsigned sink, uint64_t stream, uint64_t frontier,
                       const struct rangeset *beyond);
/* The sink gets nothing any more, and nothing is kept for it. When too few are left, that is a
 * failure of all. */
void spool_lose(struct spool *s, unsigned sink, const struct error *why);
/* The stream behind this one of which something is there; at last that of this start. */
uint64_t spool_next_stream(struct spool *s, uint64_t after);

/* The first order mark of the stream that is in memory; UINT64_MAX: none is. */
uint64_t spool_first_held(struct spool *s, uint64_t stream);

/* Where a link reads. Begin with the stream and order mark, all else zero. */
struct spool_reader {
    uint64_t stream;
    uint64_t order; /* the next that is wanted */
    uint64_t file;  /* where it is believed to be */
    uint64_t offset;
    struct buffer frame;
};

/* A batch. Borrowed from the spool or the reader until it is given back. */
struct spool_piece {
    const uint8_t *data;
    size_t bytes;
    uint64_t first_order;
    uint64_t end_order;
    struct batch *batch; /* what it lies in; NULL: the reader's frame */
};

enum spool_found {
    SPOOL_NOTHING = 0, /* yet */
    SPOOL_PIECE = 1,
    SPOOL_HOLE = 2, /* not there any more, but something behind it */
};

/* The batch with the reader's order mark; the reader is then behind it. Negative: it cannot be
 * read. */
int spool_read(struct spool *s, struct spool_reader *r, struct spool_piece *piece,
               struct error *err);
void spool_give_back(struct spool_piece *piece);
void spool_reader_release(struct spool_reader *r);

DEFINE_AUTO(spool, spool_destroy)

#endif
