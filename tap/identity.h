/*
 * identity: what somebody asked a portal about itself, for sessions whose login was not seen; and
 * what somebody read from it, to prove which of its targets such a session leads to.
 *
 * Made by tap/identify/ (which opens iSCSI sessions of its own), used by tap/iscsi/ and tap/scsi/.
 */
#ifndef SANREWIND_TAP_IDENTITY_H
#define SANREWIND_TAP_IDENTITY_H

#include "common/cleanup.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where a target listens. */
struct portal {
    uint8_t family;      /* 4 or 6 */
    uint8_t address[16]; /* IPv4 in the first 4 bytes, the rest 0 */
    uint16_t port;
};
bool portal_equal(const struct portal *a, const struct portal *b);

/* A logical unit, as the fields of struct sink_path. */
struct identity_unit {
    uint64_t lun; /* the 8-byte field, big-endian, as REPORT LUNS gives it */
    char designator[256];
    char serial[256];
    uint64_t size_bytes;
    uint32_t block_bytes;
    uint16_t flags;   /* enum path_flags */
    bool flags_known; /* READ CAPACITY(16) was answered */
    bool is_disk;
    bool ignores_same; /* see struct standard_inquiry in tap/scsi/device.h */
};

/* One target that the portal offers. */
struct identity_target {
    char name[224];
    struct identity_unit *units;
    size_t unit_count;
    /*
     * `units` are all that it shows us. False: some or all could not be read, so it may have any
     * others. Even then, storage may show each initiator other units under the same LUNs.
     */
    bool whole;
};

struct identity {
    struct portal portal;
    struct identity_target *targets;
    size_t target_count;
};

/* NULL: out of memory. */
struct identity *identity_copy(const struct identity *identity);
void identity_destroy(struct identity *identity);
/* Logical units of all its targets. */
size_t identity_units(const struct identity *identity);
/* Borrowed; NULL: it shows none there. */
const struct identity_unit *identity_unit_at(const struct identity_target *target, uint64_t lun);

DEFINE_AUTO(identity, identity_destroy)

enum { PROBE_BLOCKS = 8 };

/* One block to be read. */
struct identity_block {
    uint64_t lun;
    uint64_t lba;
    uint32_t block_bytes;
    bool read;   /* answer: false when the target refused, or did not answer */
    uint64_t id; /* answer: of what it holds, digest_id64() */
};

/* What do some blocks of a target hold? The answer is the same struct, filled in. */
struct identity_probe {
    uint64_t number; /* tells it from every other */
    struct portal portal;
    char target[224];
    struct identity_block blocks[PROBE_BLOCKS];
    size_t count;
    uint64_t answered_ns; /* answer: wall clock, when the last block had come */
};

#endif
