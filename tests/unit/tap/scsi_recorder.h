/*
 * scsi_recorder: a sink that remembers what it was told, and a tracker in front of it.
 */
#ifndef SANREWIND_TESTS_SCSI_RECORDER_H
#define SANREWIND_TESTS_SCSI_RECORDER_H

#include "tap/scsi/tracker.h"

enum { RECORDED_EVENTS = 512, RECORDED_BYTES = 1 << 20 };

enum recorded_kind { RECORDED_UPDATE, RECORDED_GAP, RECORDED_PATH, RECORDED_AUDIT };

struct recorded {
    enum recorded_kind kind;
    uint64_t path;
    uint64_t lun;
    uint64_t time_ns;
    uint64_t lba;
    uint64_t blocks;
    uint32_t block_bytes;
    enum update_op op;
    bool applied;
    bool fua;
    uint8_t status;
    uint8_t *data; /* of an update */
    size_t data_bytes;
    uint64_t source; /* of a copy: path */
    uint64_t source_lba;
    uint64_t source_from_ns;
    uint64_t source_until_ns;
    uint64_t issued_ns;
    uint32_t *sums;        /* of an audit */
    uint64_t offset_bytes; /* of a gap */
    uint64_t length_bytes;
    uint16_t reason;
    char text[256];
    struct sink_path known; /* of a path */
};

struct recorder {
    struct sink sink; /* first */
    struct recorded events[RECORDED_EVENTS];
    size_t count;
};

struct recorder *recorder_create(void);
void recorder_destroy(struct recorder *r);
/* Drops what was recorded so far. */
void recorder_forget(struct recorder *r);
/* The index-th event of a kind, only applied updates; NULL when there are fewer. */
const struct recorded *recorded_at(const struct recorder *r, enum recorded_kind kind, size_t index);
size_t recorded_count(const struct recorder *r, enum recorded_kind kind);

/* For tests: w has a recorder. */
#define UPDATES(w) recorded_count((w).recorder, RECORDED_UPDATE)
#define GAPS(w)    recorded_count((w).recorder, RECORDED_GAP)
#define PATHS(w)   recorded_count((w).recorder, RECORDED_PATH)
#define AUDITS(w)  recorded_count((w).recorder, RECORDED_AUDIT)

/* The same, and the test fails when there are fewer. */
const struct recorded *recorded_update(const struct recorder *r, size_t index);
const struct recorded *recorded_gap(const struct recorder *r, size_t index);
const struct recorded *recorded_audit(const struct recorder *r, size_t index);
/* The test goes on and fails when the gap is another. Blocks of 512 bytes. */
void expect_gap(const struct recorder *r, size_t index, uint64_t lba, uint64_t blocks,
                uint16_t reason);
void expect_whole_gap(const struct recorder *r, size_t index, uint16_t reason);

/* A tracker with one nexus. */
struct scsi_world {
    struct recorder *recorder;
    struct tracker *tracker;
    struct nexus *nexus;
    uint64_t now_ns; /* counts up with each command and status */
};

struct scsi_world scsi_world_make(void);
struct scsi_world scsi_world_make_limited(const struct tracker_limits *limits);
/* Its LUN 1 has 4096 blocks of 512 bytes, and promises zeros for unmapped ones. */
struct scsi_world scsi_world_disk(void);
void scsi_world_end(struct scsi_world *w);

/* Commands on LUN 1, as a transport would give them. */
struct exchange *scsi_send(struct scsi_world *w, struct nexus *n, const uint8_t *cdb, size_t bytes,
                           uint32_t data_out, uint32_t data_in);
/* WRITE(10) of `blocks` blocks of 512 bytes, with all its data, each byte `fill`. */
struct exchange *scsi_write(struct scsi_world *w, struct nexus *n, uint32_t lba, uint16_t blocks,
                            uint8_t fill);
/* Data from `start` to `end` of an exchange, each byte `fill`. */
void scsi_fill(struct exchange *x, size_t start, size_t end, uint8_t fill);
void scsi_good(struct scsi_world *w, struct exchange *x);
/* A command whose data-out is `data`, that ends GOOD. */
void scsi_do(struct scsi_world *w, struct nexus *n, const uint8_t *cdb, size_t cdb_bytes,
             const uint8_t *data, size_t bytes);
/* CHECK CONDITION with fixed sense. */
void scsi_check(struct scsi_world *w, struct exchange *x, uint8_t key, uint8_t asc, uint8_t ascq);
/* A command with data-in that ends GOOD with `answer`. */
void scsi_ask(struct scsi_world *w, struct nexus *n, const uint8_t *cdb, size_t cdb_bytes,
              const uint8_t *answer, size_t answer_bytes);
/* READ CAPACITY(16) is answered; provisioning: the byte with LBPME (80h) and LBPRZ (40h). */
void scsi_capacity(struct scsi_world *w, struct nexus *n, uint64_t blocks, uint32_t block_bytes,
                   uint8_t provisioning);
/* VPD page 83h is answered with a NAA 6 designator that ends in `last`. */
void scsi_identify(struct scsi_world *w, struct nexus *n, uint8_t last);
/* INQUIRY is answered by a device of that type and vendor (eight characters). */
void scsi_introduce(struct scsi_world *w, struct nexus *n, uint8_t type, const char *vendor);

/* Puts a big-endian number of `width` bytes. */
void put_be(uint8_t *to, uint64_t value, size_t width);

#endif
