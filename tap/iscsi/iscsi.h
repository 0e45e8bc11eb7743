/*
 * iscsi: iSCSI connections (RFC 7143) out of byte streams, into the SCSI tracker.
 *
 * It is fed by a tcp_consumer, which it offers; it knows nothing of TCP's own business. A
 * connection is recognised by its first PDU, a Login Request, on any port; what does not begin with
 * one is ignored. A connection joined in the middle (from_start false) on a port of iSCSI (3260,
 * 860, or one where a login was seen before) cannot be read yet: see docs/ARCHITECTURE.md for what
 * is said about it. Not thread-safe: one object per capture worker.
 */
#ifndef SANREWIND_TAP_ISCSI_H
#define SANREWIND_TAP_ISCSI_H

#include "common/cleanup.h"
#include "tap/identity.h"
#include "tap/tcp/tcp.h"

struct iscsi;
struct tracker;

struct iscsi_counters {
    uint64_t pdus;
    uint64_t logins;
    uint64_t header_digest_errors;
    uint64_t data_digest_errors;
    uint64_t malformed;            /* PDUs that break RFC 7143 */
    uint64_t unknown_task;         /* PDUs for a task tag that is not open */
    uint64_t late_joins;           /* connections whose beginning was not seen */
    uint64_t lost_synchronisation; /* holes after which PDU boundaries are unknown */
};

/* The tracker is borrowed and must outlive it. NULL: out of memory. */
struct iscsi *iscsi_create(struct tracker *tracker);
void iscsi_destroy(struct iscsi *i);

/* Functions and context to give to tcp_create(). */
struct tcp_consumer iscsi_consumer(struct iscsi *i);
const struct iscsi_counters *iscsi_counters(const struct iscsi *i);

DEFINE_AUTO(iscsi, iscsi_destroy)

#endif
