/*
 * probe: reads some blocks of a target, for a checksum each. Read-only, as all of query.h.
 */
#ifndef SANREWIND_TAP_IDENTIFY_PROBE_H
#define SANREWIND_TAP_IDENTIFY_PROBE_H

#include "tap/identify/query.h"
#include "tap/identity.h"

/*
 * Fills in the answer of `probe`; blocks that cannot be read stay unread. ERR_NET: it did not come
 * to an end (some blocks may have been read all the same); ERR_STOPPED, ERR_NOMEM.
 */
int probe_read(const struct query_options *options, struct identity_probe *probe,
               struct error *err);

#endif
