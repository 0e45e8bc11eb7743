/*
 * model: one volume, as records with a stamp up to some time make it, and what of it is in doubt.
 *
 * As the recovery store has it: a gap taints its range from its stamp on, until a later update.
 */
#ifndef SANREWIND_TESTS_MODEL_H
#define SANREWIND_TESTS_MODEL_H

#include "common/rangeset.h"
#include "tests/property/replay.h"

enum { MODEL_BLOCK = 512, MODEL_CHUNK = 65536, MODEL_ALIASES = 8 };

struct model {
    uint64_t path;
    uint64_t aliases[MODEL_ALIASES]; /* other paths to the same volume */
    size_t alias_count;
    /* Updates issued at these times (sorted) nobody can know of: what they wrote is in doubt. */
    const uint64_t *vanished;
    size_t vanished_count;
    uint8_t *image;
    uint64_t size;
    struct rangeset gaps;
    uint8_t *dirty; /* a byte for each chunk: touched since it was last compared */
    bool announced; /* by any record of the whole run */
};

/* All volumes of a run together, because one can be copied to another. */
struct models {
    struct model *list; /* borrowed */
    size_t count;
    size_t next;         /* record */
    uint64_t audited;    /* blocks that were compared with a READ, while not in doubt */
    uint64_t refuted;    /* of them, those that a READ contradicts */
    uint64_t refuted_ns; /* the last one */
};

void model_init(struct model *m, uint64_t path, uint64_t size);
void model_release(struct model *m);
/* Back to the baseline. */
void model_reset(struct model *m, const uint8_t *base, const struct replay *replay);
/* Back to the first record, the models being reset. */
void models_rewind(struct models *all);
/* All records with stamps up to time_ns. */
void models_advance(struct models *all, const struct replay *replay, uint64_t time_ns);
/*
 * The first block that differs and that `m` calls exact; UINT64_MAX when there is none. Where the
 * reference itself is in doubt nothing is compared.
 */
uint64_t model_first_wrong(struct model *m, struct model *reference);

#endif
