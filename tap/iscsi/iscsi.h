/*
 * iscsi: iSCSI connections (RFC 7143) out of byte streams, into the SCSI tracker.
 *
 * It is fed by a tcp_consumer, which it offers; it knows nothing of TCP's own business. A
 * connection is recognised by its first PDU, a Login Request, on any port; what does not begin with
 * one is ignored. In a connection joined in the middle (from_start false), and behind a hole, the
 * place where PDUs begin is searched for; what passes meanwhile is held back, for a while. Sequence
 * numbers then tell what was missed: often nothing. A session whose login was not seen goes by its
 * addresses until somebody finds out whose it is. Not thread-safe: one object per capture worker.
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

/* Packet time has reached now_ns: what is searched for too long is given up. */
void iscsi_tick(struct iscsi *i, uint64_t now_ns);
/*
 * What is held back, or is not decided yet, is not older than this. UINT64_MAX: nothing is.
 */
uint64_t iscsi_oldest_pending(const struct iscsi *i);

/* The next portal of which sessions were joined mid-way, and that nobody was told of yet. */
bool iscsi_wants_identity(struct iscsi *i, struct portal *portal);
/*
 * What somebody found out. Sessions of which a unit has told on the wire which one it is have a
 * name from now on; for the others it is kept (within limits): see iscsi_wants_probe().
 */
void iscsi_identify(struct iscsi *i, const struct identity *identity, uint64_t time_ns);

/*
 * The next blocks to be read, to find out to which target of its portal a session leads; a few at a
 * time. A target is that of the session when it alone holds what was just written, in two rounds
 * one after the other. settled_ns: all that passed up to then was given. Makes portals be wanted
 * again whose answers are old. False: nothing now; call it again a while later.
 */
bool iscsi_wants_probe(struct iscsi *i, uint64_t settled_ns, struct identity_probe *probe);
void iscsi_probe_answer(struct iscsi *i, const struct identity_probe *answer);

/*
 * For the next start (see tap/save.h): sessions here, their connections with those of tap/tcp.
 * After iscsi_load() and the connections, the sequence numbers of each session tell whether
 * anything was missed: where nothing was, the sink is told by its resume().
 */
void iscsi_save(const struct iscsi *i, struct buffer *b);
bool iscsi_load(struct iscsi *i, struct cursor *c, uint64_t now_ns);
bool iscsi_connection_save(void *connection, bool whole, struct buffer *b);
void *iscsi_connection_load(void *iscsi, const struct tcp_endpoints *endpoints,
                            struct cursor *cursor);

/* Functions and context to give to tcp_create(). */
struct tcp_consumer iscsi_consumer(struct iscsi *i);
const struct iscsi_counters *iscsi_counters(const struct iscsi *i);

/* Another transport shows that something else passed than what is known: no claims any more. */
void iscsi_resume_break(struct iscsi *i);

DEFINE_AUTO(iscsi, iscsi_destroy)

#endif
