/*
 * image_changes: where an image may differ from that of the same volume at an earlier time; and
 * what tells one view of a volume from every other.
 *
 * A byte can only differ when a piece newer than the earlier time covers it, on any path of the
 * volume, or when something lies between the two times that holds for all of the volume: a
 * baseline, a size. Gaps taint content and change none.
 */
#ifndef SANREWIND_RECOVERYD_IMAGE_CHANGES_H
#define SANREWIND_RECOVERYD_IMAGE_CHANGES_H

#include "common/rangeset.h"
#include "recoveryd/image/image.h"

struct image_changes {
    uint64_t since_ns;
    uint64_t all_from;      /* from this byte on everything may differ */
    struct rangeset chunks; /* that have changes, and those from all_from on */
};

/* `since` is of the same volume, and not newer. To be released in any case. */
int image_changes_find(struct image *im, const struct image *since, struct image_changes *c,
                       struct error *err);
void image_changes_release(struct image_changes *c);
/* Adds the ranges of bytes in the chunk that may differ: more than that when they are very many. */
int image_changes_in_chunk(struct image *im, const struct image_changes *c, uint64_t chunk,
                           struct rangeset *ranges, struct error *err);

/*
 * A number for everything that decides what the image holds. The same volume at the same time has
 * another one when the store has learned something since that may matter: a baseline, a path of the
 * volume, content that was derived.
 */
int image_fingerprint(struct image *im, uint64_t *fingerprint, struct error *err);

#endif
