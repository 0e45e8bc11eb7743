/*
 * volume_join: which paths are one volume. Internal to the image folder.
 *
 * Found anew from what the index holds at every look-up, so that the order in which designators and
 * joins came does not matter.
 */
#ifndef SANREWIND_RECOVERYD_VOLUME_JOIN_H
#define SANREWIND_RECOVERYD_VOLUME_JOIN_H

#include "recoveryd/index/index.h"

#include <stddef.h>

struct joined_path {
    struct path_entry entry;
    size_t volume; /* the same for all paths of one */
};

/* Those of one volume next to each other: real ones before provisional ones, then by age. */
struct joined_paths {
    struct joined_path *paths;
    size_t count;
    size_t capacity;
    bool failed;
};

/* To be released also after a failure. */
int joined_paths_read(struct index_reader *r, struct joined_paths *paths, struct error *err);
void joined_paths_release(struct joined_paths *paths);

#endif
