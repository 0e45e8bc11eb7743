/*
 * volume_size: how large a volume was at which time. Internal to the image folder.
 */
#ifndef SANREWIND_RECOVERYD_VOLUME_SIZE_H
#define SANREWIND_RECOVERYD_VOLUME_SIZE_H

#include "recoveryd/image/volume.h"

/* Fills v->sizes from what its paths were announced to be: changes only, by time. */
int volume_sizes_read(struct index_reader *r, struct volume *v, struct error *err);

#endif
