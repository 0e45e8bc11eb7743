/*
 * index_resumed: gaps of a monitor's restart that turned out to be none. Internal to the index.
 *
 * Decided when they are read, so that it does not matter which comes first: the new stream's first
 * record, its RESUME, or the last records of the stream before.
 */
#ifndef SANREWIND_RECOVERYD_INDEX_RESUMED_H
#define SANREWIND_RECOVERYD_INDEX_RESUMED_H

#include "recoveryd/index/index_internal.h"

/* Whether the path's restart gap of this stamp (order mark 0 of the new stream) does not count. */
int resumed_look_up(struct index_reader *r, uint64_t path, const struct stamp *stamp, bool *resumed,
                    struct error *err);

static inline bool is_restart_gap(uint16_t reason, const struct stamp *stamp) {
    return reason == GAP_MONITOR_RESTART && stamp->order == 0;
}

#endif
