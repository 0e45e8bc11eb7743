/*
 * query: an iSCSI session of our own that can only ask. The home of libiscsi.
 *
 * Nothing else than INQUIRY, REPORT LUNS, READ CAPACITY and READ(16) of one block can be sent with
 * it: none of them changes the medium, a reservation, or another initiator's state. Every step ends
 * by itself after `step_ns`, and at once when `stop_fd` becomes readable. One thread at a time.
 */
#ifndef SANREWIND_TAP_IDENTIFY_QUERY_H
#define SANREWIND_TAP_IDENTIFY_QUERY_H

#include "common/cleanup.h"
#include "common/error.h"
#include "tap/identify/chap.h"
#include "tap/identity.h"

struct query;

struct query_options {
    const char *initiator;   /* InitiatorName */
    const struct chap *chap; /* NULL: none is offered */
    int stop_fd;
    uint64_t step_ns;
};

enum question {
    QUESTION_LUNS,        /* REPORT LUNS, of any LUN */
    QUESTION_INQUIRY,     /* standard INQUIRY data */
    QUESTION_SERIAL,      /* VPD 80h */
    QUESTION_NAMES,       /* VPD 83h */
    QUESTION_UNMAP,       /* VPD B2h */
    QUESTION_CAPACITY_16, /* READ CAPACITY(16) */
    QUESTION_CAPACITY_10,
};

/*
 * Connects and logs in: to `target`, or with a discovery session when it is NULL. Options and what
 * they point to are borrowed and must outlive it. ERR_NET: no answer, or it refused; the text says
 * which. ERR_STOPPED: stop_fd.
 */
int query_open(const struct query_options *options, const struct portal *portal, const char *target,
               struct query **out, struct error *err);
/* Logs out when the session is still good. NULL is fine. */
void query_close(struct query *q);

/*
 * SendTargets=All in a discovery session. `offer` is called for each target, with NULL and then
 * with each of its addresses.
 */
int query_targets(struct query *q,
                  void (*offer)(void *context, const char *name, const char *address),
                  void *context, struct error *err);

/*
 * Asks the LUN (the 8-byte field) one question; up to `room` bytes of the answer. Unit attentions
 * and busy devices are asked again, some times.
 *
 * ERR_NOT_FOUND: the device refuses this question, or LUN; others may be asked. Any other error:
 * the session is over.
 */
int query_ask(struct query *q, uint64_t lun, enum question question, uint8_t *data, size_t room,
              size_t *bytes, struct error *err);

/* The longest block that can be read. */
enum { QUERY_BLOCK_BYTES = 65536 };

/*
 * Reads one block of `block_bytes` bytes. Errors as query_ask(); a block of another length is
 * ERR_NOT_FOUND, too.
 */
int query_read(struct query *q, uint64_t lun, uint64_t lba, uint8_t *data, uint32_t block_bytes,
               struct error *err);

/* Such a LUN can be asked: libiscsi knows single-level LUNs only. */
bool query_can_address(uint64_t lun);

DEFINE_AUTO(query, query_close)

#endif
