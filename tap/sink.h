/*
 * sink: where the monitor's findings go: to --decode, to the publisher, or to a test.
 *
 * The tracker calls it from the one thread of its capture worker, in the order of the stream. Times
 * in what it passes are packet times. They may step back: what a connection held back is given
 * late, and a gap begins when all was still right. Keeping them behind what was promised and giving
 * order marks is the sink's business (tap/publish/stamper). Everything passed is borrowed for the
 * time of the call.
 */
#ifndef SANREWIND_TAP_SINK_H
#define SANREWIND_TAP_SINK_H

#include "proto/record.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct payload; /* tap/scsi/payload.h */

/* One way to a logical unit and what is known of it so far. Owned by the tracker; lives as long. */
struct sink_path {
    uint64_t id; /* record_path_id() */
    uint8_t protocol;
    uint64_t lun; /* the 8-byte LUN field, big-endian */
    char target[256];
    char designator[256]; /* "" until known */
    char serial[256];     /* "" until known */
    uint64_t size_bytes;  /* 0 until known */
    uint32_t block_bytes; /* 0 until known */
    uint16_t flags;       /* enum path_flags */
    bool flags_known;     /* READ CAPACITY(16) was seen, so that LBPME and LBPRZ mean something */
    bool provisional;     /* no login was seen: `target` is made of the portal's address */
    uint64_t same_as;     /* of a provisional one: the path that it turned out to be; 0 unknown */
};

/* A media-changing command that ended. */
struct sink_update {
    const struct sink_path *path;
    uint64_t time_ns;   /* of the packet that carried the status */
    uint64_t issued_ns; /* of the packet that carried the command */
    uint64_t lba;
    uint64_t blocks;
    uint32_t block_bytes; /* 0 unknown (then nothing was applied) */
    enum update_op op;
    uint8_t opcode; /* SCSI operation code */
    uint8_t status; /* SCSI status byte; 0 is GOOD */
    bool applied;   /* it changed the volume; otherwise shown by --decode only */
    bool fua;
    const struct payload *data; /* WRITE, OR, XOR: the whole range; PATTERN: one block; else NULL */
    /* COPY: from where, and in which stretch of time it was taken. */
    const struct sink_path *source;
    uint64_t source_lba; /* in blocks of source->block_bytes */
    uint64_t source_from_ns;
    uint64_t source_until_ns;
    const char *initiator;
};

/* What a READ returned, to be compared with the image: nothing that was seen changed these blocks
 * while it was open. */
struct sink_audit {
    const struct sink_path *path;
    uint64_t time_ns; /* of the packet that carried the status */
    uint64_t issued_ns;
    uint64_t lba;
    uint32_t block_bytes;
    uint32_t blocks;      /* 1 to AUDIT_BLOCKS */
    const uint32_t *sums; /* blocksum() of each block */
};

struct sink_gap {
    const struct sink_path *path; /* NULL: every path this monitor knows */
    uint64_t time_ns;             /* not later than what it stands for; 0: since the last promise */
    uint64_t issued_ns;           /* 0 unknown */
    uint64_t offset_bytes;
    uint64_t length_bytes; /* or GAP_TO_END */
    uint16_t reason;       /* enum gap_reason */
    const char *text;      /* what happened, one sentence; never NULL */
    const char *initiator; /* may be NULL */
};

/* A sink is the first member of whoever implements it. */
struct sink {
    void (*update)(struct sink *s, const struct sink_update *update);
    void (*gap)(struct sink *s, const struct sink_gap *gap);
    /*
     * A path appeared, or more became known of it. Always before the first gap
     * of the path, and the first update of it that was applied.
     */
    void (*path)(struct sink *s, const struct sink_path *path, uint64_t time_ns);
    /* Both may be NULL: the sink has no use for them. */
    void (*audit)(struct sink *s, const struct sink_audit *audit);
    /* Nothing was missed on this path since the stream before: see struct resume_record. */
    void (*resume)(struct sink *s, const struct sink_path *path, uint64_t time_ns);
};

#endif
