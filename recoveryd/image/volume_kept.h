/*
 * volume_kept: the moments of a volume that retention left.
 */
#ifndef SANREWIND_RECOVERYD_VOLUME_KEPT_H
#define SANREWIND_RECOVERYD_VOLUME_KEPT_H

#include "recoveryd/image/volume.h"

struct volume_kept {
    bool kept;          /* an image of that moment can be made */
    uint64_t before_ns; /* else the nearest moments of which one can; 0: there is none */
    uint64_t after_ns;
};

/* `below`: only some of the changes of that very time are wanted. Strangers of the volume count,
 * too: what they changed throws doubt on it. */
int volume_kept_at(struct index_reader *r, const struct volume *v, uint64_t time_ns, bool below,
                   struct volume_kept *kept, struct error *err);
/* Of the volume's own paths, the latest horizon: nothing older can be restored. 0: there is none.
 */
int volume_kept_horizon(struct index_reader *r, const struct volume *v, uint64_t *horizon_ns,
                        struct error *err);

#endif
