/*
 * stranger: which volumes may be one and the same, though nobody said so. Internal to the image
 * folder.
 *
 * A volume of provisional paths only (no login was seen) may be any other volume that nothing
 * proves it not to be: then what changes on either may have changed the other, and each is a
 * stranger to the other. Proof is, of both:
 *  - a designator: the same one would have joined them;
 *  - a path of the same target: two LUNs of one target are two logical units;
 *  - serial numbers, none of which is the same;
 *  - sizes, or block lengths, none of which is the same: all that were ever announced count, as
 *    either may have changed where the other was not watched.
 * Two volumes with known targets are no strangers, whatever else is known. That the same monitor
 * sees both is no proof, nor is the address of the portal: a portal serves many targets.
 */
#ifndef SANREWIND_RECOVERYD_STRANGER_H
#define SANREWIND_RECOVERYD_STRANGER_H

#include "recoveryd/image/volume.h"
#include "recoveryd/image/volume_window.h"

/* Paths of strangers that a volume has at most; where there are more, it is `crowded`. */
enum { STRANGER_PATHS = 4096 };

/*
 * Fills what the volumes have of strangers, and lowers watermarks to what the monitors of strangers
 * promise. The list must not be sorted any more.
 */
int strangers_find(struct index_reader *r, const struct stream_table *table,
                   struct volume_list *list, struct error *err);

/*
 * When the session of a provisional path ended, by what is known of it up to until_ns, and who says
 * so: nothing can have passed on it since. A time of UINT64_MAX: it goes on, for all that is known.
 */
int stranger_end(struct index_reader *r, const struct path_entry *path, uint64_t until_ns,
                 struct stamp *end, struct error *err);

#endif
