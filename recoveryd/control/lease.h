/*
 * lease: images that are open for recoveryctl: a bounded number, each for as long as it is used.
 *
 * An image holds one moment of the index, which costs the index space for as long. What nobody
 * reads for a minute is closed, and what is open for longer than a limit, if there is one: whoever
 * reads it is told, and may open it anew.
 */
#ifndef SANREWIND_RECOVERYD_LEASE_H
#define SANREWIND_RECOVERYD_LEASE_H

#include "common/cleanup.h"
#include "common/clock.h"
#include "recoveryd/image/image.h"

enum { LEASES = 32 };

struct leases;

struct lease {
    uint64_t id; /* 0: free */
    struct volume_list list;
    struct volume volume; /* of the list, with the size that was asked for */
    struct image *image;
    struct image_gap *gaps;
    size_t gap_count;
    uint64_t fingerprint; /* image_fingerprint() */
    unsigned users;
    bool closing;
    struct mono opened;
    struct mono used;
};

struct leases *leases_create(struct store *store);
void leases_destroy(struct leases *l);
/* Before the first one is opened. 0: as long as they are read. */
void leases_set_limit(struct leases *l, uint64_t limit_ns);
/* Closes what has been open for too long. Now and then, by any thread. */
void leases_tidy(struct leases *l);
/* How long the oldest one has been open; 0: there is none. */
uint64_t leases_oldest_ns(struct leases *l);

/* size_bytes 0: as the volume says. The new lease is held. ERR_BUSY: too many. */
int leases_open(struct leases *l, const char *volume, uint64_t time_ns, uint64_t size_bytes,
                struct lease **out, struct error *err);
/* ERR_NOT_FOUND: it was never there, or closed; the limit closes it here, too. */
int leases_hold(struct leases *l, uint64_t id, struct lease **out, struct error *err);
void leases_drop(struct leases *l, struct lease *lease);
/* When the last user drops it. Unknown ids are fine. */
void leases_close(struct leases *l, uint64_t id);

DEFINE_AUTO(leases, leases_destroy)

#endif
