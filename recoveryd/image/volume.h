/*
 * volume: paths joined into volumes, and the times to which they can be restored.
 *
 * A volume is every path with the same designator (VPD 83h), every path that a monitor found to be
 * the same as one of those, and so on; or one path alone when nothing is known. Its name is
 * "TARGET/LUN" of the path that was seen first, of those whose target is known (a provisional path
 * has an address in its place) when there are any; its id is the designator, or "path-<16 hex
 * digits>". Either, any path's "TARGET/LUN", or an unambiguous part of one of them finds it.
 */
#ifndef SANREWIND_RECOVERYD_VOLUME_H
#define SANREWIND_RECOVERYD_VOLUME_H

#include "recoveryd/store/store.h"

#include <stddef.h>

/* What was announced from a time on. */
struct volume_size {
    uint64_t time_ns;
    uint64_t size_bytes;  /* 0 unknown */
    uint32_t block_bytes; /* 0 unknown */
};

struct volume {
    char *name;
    char *id;
    bool provisional;    /* no path's target is known */
    uint64_t size_bytes; /* the newest */
    bool size_given;     /* the caller of image_open() knows better, at any time */
    uint32_t block_bytes;
    struct volume_size *sizes; /* every change, by time */
    size_t size_count;
    struct path_entry *paths;
    size_t path_count;
    uint64_t first_ns;     /* first time that can be restored; 0: none */
    uint64_t watermark_ns; /* last time that can be restored: least frontier of its streams, and of
                              those that see a stranger; 0: none */
    uint64_t latest_ns;    /* time mark of the newest update */
    /* Paths of other volumes that may be this one, which lie in the list: what changed there may
     * have changed this volume. */
    const struct path_entry **strangers;
    size_t stranger_count;
    bool crowded; /* more of them than are told apart: nothing of it is known for certain */
};

struct volume_list {
    struct volume *volumes;
    size_t count;
};

int volume_list_read(struct index_reader *r, struct volume_list *list, struct error *err);
void volume_list_release(struct volume_list *list);
/* Borrowed from the list. ERR_NOT_FOUND with the names there are, ERR_USAGE when ambiguous. */
int volume_find(const struct volume_list *list, const char *name, const struct volume **out,
                struct error *err);
/* What it was at a time: what was announced last before it, or first when nothing was. */
struct volume_size volume_size_at(const struct volume *v, uint64_t time_ns);
/* The volume that has the path; NULL: none. */
const struct volume *volume_of_path(const struct volume_list *list, uint64_t path);
/* "iqn.…:target/0": LUN as people write it (peripheral and flat addressing undone). */
void volume_path_name(const struct path_entry *path, char *text, size_t size);

#endif
