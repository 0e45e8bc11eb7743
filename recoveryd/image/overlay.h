/*
 * overlay: a range being covered from the newest change down to the oldest. Internal to the image.
 *
 * What is not covered yet is a list of holes. Content fills the holes that it meets and hides
 * nothing that is newer; a gap taints the holes that it meets, so that older content is known not
 * to be exact. Of several gaps above a content the oldest is kept: since then the content is in
 * doubt.
 */
#ifndef SANREWIND_RECOVERYD_OVERLAY_H
#define SANREWIND_RECOVERYD_OVERLAY_H

#include "recoveryd/image/image.h"

struct overlay {
    struct overlay_hole {
        uint64_t start;
        uint64_t end;
        bool tainted;
        uint16_t reason;
        uint32_t unless; /* content below is not in doubt if it is that of unless[this - 1]; 0:
                            always */
        struct stamp since;
    } * holes; /* ascending, disjoint */
    size_t hole_count;
    size_t hole_capacity;
    struct image_run *unless;
    size_t unless_count;
    size_t unless_capacity;
    struct image_run *runs; /* as they were found */
    size_t run_count;
    size_t run_capacity;
    bool failed; /* out of memory */
    /* Do both give every block that they have in common the same content? Only asked of two that
     * overlay_alike() says the same of. NULL: never. */
    bool (*same)(void *context, const struct image_run *a, const struct image_run *b);
    void *same_context;
};

/* One hole from start to end. */
void overlay_init(struct overlay *o, uint64_t start, uint64_t end);
void overlay_release(struct overlay *o);
/* Nothing older can be seen any more. */
bool overlay_covered(const struct overlay *o);

/* `unless` (NULL: none): content that makes no difference where it is what lies below, too. */
void overlay_taint(struct overlay *o, uint64_t start, uint64_t end, uint16_t reason,
                   const struct stamp *since, const struct image_run *unless);
/* `content` gives the run all but its range and what is in doubt about it. */
void overlay_fill(struct overlay *o, uint64_t start, uint64_t end, const struct image_run *content);

/*
 * `older` lies below what fills the range already: where `rivalry` says that it is not known which
 * of the two came last, what fills it is in doubt since the older one, with the reason that it
 * gives.
 */
void overlay_doubt(struct overlay *o, uint64_t start, uint64_t end, const struct image_run *older,
                   uint16_t (*rivalry)(void *context, const struct image_run *newer,
                                       const struct image_run *older),
                   void *context);

/* Both may give every block that they have in common the same content; a gap has none. */
bool overlay_alike(const struct image_run *a, const struct image_run *b);

/* The runs, ascending and merged, and no longer the overlay's. false: out of memory. */
bool overlay_finish(struct overlay *o, struct image_run **runs, size_t *count);

#endif
