/*
 * volume: paths joined into volumes, and the times to which they can be restored.
 *
 * A volume is every path with the same designator (VPD 83h), or one path alone when none is known.
 * Its name is "TARGET/LUN" of the path that was seen first; its id is the designator, or "path-<16
 * hex digits>". Either, any path's "TARGET/LUN", or an unambiguous part of one of them finds it.
 */
#ifndef SANREWIND_RECOVERYD_VOLUME_H
#define SANREWIND_RECOVERYD_VOLUME_H

#include "recoveryd/store/store.h"

#include <stddef.h>

struct volume {
    char *name;
    char *id;
    uint64_t size_bytes;
    uint32_t block_bytes;
    struct path_entry *paths;
    size_t path_count;
    uint64_t first_ns; /* first time that can be restored; 0: none */
    uint64_t
        watermark_ns;   /* last time that can be restored: least frontier of its streams; 0: none */
    uint64_t latest_ns; /* time mark of the newest update */
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
/* "iqn.…:target/0": LUN as people write it (peripheral and flat addressing undone). */
void volume_path_name(const struct path_entry *path, char *text, size_t size);

#endif
