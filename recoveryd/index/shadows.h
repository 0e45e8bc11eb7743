/*
 * shadows: what the newer changes of each monitor hide of its older ones, within a chunk. Internal
 * to the index.
 *
 * Each monitor hides its own only: what lies under another's may have come after it.
 */
#ifndef SANREWIND_RECOVERYD_SHADOWS_H
#define SANREWIND_RECOVERYD_SHADOWS_H

#include "common/rangeset.h"

enum { SHADOWS_MONITORS = 4 }; /* that are told apart */

struct shadows {
    size_t ranges; /* the most of one monitor */
    size_t count;
    struct shadow {
        uint64_t monitor;
        struct rangeset hidden;
    } list[SHADOWS_MONITORS];
};

/* Zero-initialise but for `ranges`. NULL: it is one monitor too many. */
struct rangeset *shadows_of(struct shadows *s, uint64_t monitor);
/* For another chunk: the monitors stay, and hide nothing yet. */
void shadows_clear(struct shadows *s);
void shadows_release(struct shadows *s);

#endif
