/*
 * pack: rewrites a segment file that nobody appends to any more into fewer bytes, without what is
 * dead. Offsets into it stay what they were.
 *
 * The new file is written beside the old one, made durable, and takes its name: a crash leaves one
 * or the other, whole. Whoever has the old one open goes on reading it.
 */
#ifndef SANREWIND_RECOVERYD_PACK_H
#define SANREWIND_RECOVERYD_PACK_H

#include "recoveryd/store/segments.h"

enum pack_level {
    PACK_OFF,   /* as they are */
    PACK_FAST,  /* LZ4 */
    PACK_SMALL, /* Zstandard */
};

struct pack_result {
    uint64_t before_bytes; /* on disk */
    uint64_t after_bytes;
};

/*
 * `dead`: offsets in the segment of bytes that nothing points at; they cannot be read any more.
 * Short ones among what is not dead may stay. ERR_BUSY: somebody appends to it. A failure leaves
 * everything as it was. One thread at a time for each segment.
 */
int segments_pack(struct segments *s, uint32_t segment, const struct rangeset *dead,
                  enum pack_level level, struct pack_result *result, struct error *err);
/*
 * Whether packing it would save an eighth, by a few samples. What is not worth it is remembered
 * until the store is closed.
 */
int segments_probe(struct segments *s, uint32_t segment, enum pack_level level, bool *worth,
                   struct error *err);
/* Removes what a crash left of such work. By the one who does it. */
void segments_clean(struct segments *s);

#endif
