/*
 * landing: a batch taken apart: its records verified, and each UPDATE joined with its PAYLOAD when
 * both are in it. Pure: bytes in, arrivals out.
 */
#ifndef SANREWIND_RECOVERYD_LANDING_H
#define SANREWIND_RECOVERYD_LANDING_H

#include "common/cleanup.h"
#include "common/error.h"
#include "proto/message.h"
#include "proto/record.h"
#include "recoveryd/store/segments.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What came under one order mark, so far: a control record, a payload, or both. */
struct arrival {
    uint64_t order;
    bool has_control;
    bool has_payload;
    struct record control; /* its strings or checksums, if any, lie in `text` */
    char *text;            /* owned */
    uint32_t payload_bytes;
    uint32_t payload_crc32c;
    struct extent payload; /* in the frame until landing_place() */
};

struct landing {
    struct arrival *arrivals; /* ascending by order, each mark once */
    size_t count;
    size_t capacity;
};

/*
 * Decodes a whole BATCH. Every record and every payload checksum is verified: one bad byte refuses
 * the batch as ERR_FORMAT (ERR_VERSION for a record type from the future).
 */
int landing_decode(struct landing *l, const struct message_batch *batch, struct cursor *body,
                   const void *frame, struct error *err);
/* The frame was appended at `where`: extents point into the segment from now on. */
void landing_place(struct landing *l, const struct extent *where);
void landing_release(struct landing *l);

/* A control record with the payload that it needs. */
bool arrival_is_whole(const struct arrival *a);
/*
 * Adds what `more` has and `a` has not; `more` is released. False when the payload is not the one
 * that the update names: the update stays, and waits for the right one.
 */
bool arrival_join(struct arrival *a, struct arrival *more);
void arrival_release(struct arrival *a);

#endif
