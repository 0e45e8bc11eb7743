/*
 * restart: what a new start of a monitor means for the paths that its earlier starts watched.
 *
 * Between the last promise of the old streams and the first record of the new one nobody watched.
 * Every path that the monitor had announced gets a whole-path gap, since one nanosecond after that
 * promise; again where the last update before the new stream lies, and where the new stream begins,
 * so that no update from before then ends it.
 */
#ifndef SANREWIND_RECOVERYD_RESTART_H
#define SANREWIND_RECOVERYD_RESTART_H

#include "common/error.h"
#include "recoveryd/index/index.h"

/*
 * `fresh` is about to enter the index with its record 0 at first_ns. Writes the gaps into `w`; none
 * when the monitor is new, or when the new stream begins no later than the old ones ended.
 */
int restart_put_gaps(struct index *index, struct index_writer *w, const struct stream_entry *fresh,
                     uint64_t first_ns, struct error *err);

#endif
