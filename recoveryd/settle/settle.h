/*
 * settle: work that must wait until the watermark has passed.
 *
 * Content that follows from other content (COPY, OR, XOR) and audits can only be looked at when
 * nothing older can come any more. Then content is derived, in the order of the stamps, written
 * into a segment as the payload of its update, and put over the update's gap; audits are compared
 * with the image at their time. Each step is one commit of the index, which is refused when a fact
 * that it relied on has changed meanwhile or somebody else was faster: so any number of processes
 * may settle at once, each may be killed at any moment, and the result is the same.
 */
#ifndef SANREWIND_RECOVERYD_SETTLE_H
#define SANREWIND_RECOVERYD_SETTLE_H

#include "common/error.h"
#include "recoveryd/store/store.h"

#include <stdint.h>

/*
 * Settles what can be settled of everything up to until_ns (UINT64_MAX: all), over all volumes.
 * Costs a look at two counters when nothing waits. A store that is open for reading stays as it is:
 * what waits is a gap. An interrupted one (stop_requested()) is 0 as well: the rest is done next
 * time.
 */
int settle(struct store *s, uint64_t until_ns, struct error *err);

#endif
