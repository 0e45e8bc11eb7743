/*
 * identity: what somebody asked a portal about itself, for sessions whose login was not seen.
 *
 * Made by tap/identify/ (which opens iSCSI sessions of its own), used by tap/iscsi/ and tap/scsi/.
 */
#ifndef SANREWIND_TAP_IDENTITY_H
#define SANREWIND_TAP_IDENTITY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where a target listens. */
struct portal {
    uint8_t family;      /* 4 or 6 */
    uint8_t address[16]; /* IPv4 in the first 4 bytes, the rest 0 */
    uint16_t port;
};

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

#endif
