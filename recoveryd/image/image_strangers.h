/*
 * image_strangers: what an image has of the paths that may lead to its volume. Internal to the
 * image.
 */
#ifndef SANREWIND_RECOVERYD_IMAGE_STRANGERS_H
#define SANREWIND_RECOVERYD_IMAGE_STRANGERS_H

#include "recoveryd/image/image_internal.h"

/* The floors of an image being read. */
struct floor_scan {
    struct image *im;
    size_t capacity;
    bool failed; /* out of memory */
};

bool floor_scan_add(struct floor_scan *scan, const struct image_floor *floor);

/*
 * Adds the strangers of the volume that count: those that changed anything up to the image's time
 * and since its newest baseline, which is among the floors already. Their pieces are laid as gaps,
 * and their floors become floors of the image.
 */
int image_take_strangers(struct floor_scan *scan, const struct volume *v, struct error *err);

#endif
