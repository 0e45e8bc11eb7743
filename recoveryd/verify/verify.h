/*
 * verify: does a store still hold what its index says, and are its segments what they were?
 *
 * Both ways. From the index: every payload that a piece points at is read once and compared with
 * the checksum that its monitor made. From the segments: every batch is taken apart, with the
 * checksums of its head, its records and their payloads. Nothing is written, and a recoveryd may
 * work on the store meanwhile: what comes after the beginning is not looked at.
 *
 * What the index does not know is no damage: a crash leaves such bytes at the end of a segment.
 * Bytes that cannot be understood are damage when the index knows of anything in or behind them,
 * because then all of them were on stable storage once.
 *
 * Memory is bounded: payloads are looked up in groups, sorted by their place, so that a disk reads
 * forwards; of damage VERIFY_LISTED places are named, and the rest is counted.
 */
#ifndef SANREWIND_RECOVERYD_VERIFY_H
#define SANREWIND_RECOVERYD_VERIFY_H

#include "recoveryd/image/volume.h"
#include "recoveryd/store/store.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { VERIFY_LISTED = 10000, VERIFY_WHY_BYTES = 256 };

struct verify_options {
    /* Names of volumes as people give them; none: all, and the segments as well. */
    const char *const *volumes;
    size_t volume_count;
    /* Called now and then; NULL: nobody wants to know. */
    void (*progress)(void *context, uint64_t done_bytes, uint64_t total_bytes);
    void *progress_context;
};

/* What one volume's history points at. */
struct verify_volume {
    const struct volume *volume; /* of the result's list */
    uint64_t pieces;             /* that have a payload */
    uint64_t payloads;           /* distinct ones */
    uint64_t bytes;              /* of these */
    uint64_t damaged;            /* payloads, and chunks whose entries in the index are damaged */
};

/* A payload that is not what the index says. */
struct verify_damage {
    const struct volume *volume; /* of the result's list */
    uint64_t offset_bytes;       /* the range of the volume that it was written to */
    uint64_t length_bytes;
    uint64_t time_ns;     /* of the update; 0: of a baseline from before everything */
    struct stamp stamp;   /* of the update: under these order marks a LOG may have it */
    bool from_monitor;    /* false: of a baseline, or the index: the stamp names nobody */
    struct extent extent; /* segment 0: the index itself is damaged there */
    char why[VERIFY_WHY_BYTES];
};

/* Bytes of a segment that are not what they were. */
struct verify_stretch {
    uint32_t segment;
    uint64_t offset;
    uint64_t bytes;
    char why[VERIFY_WHY_BYTES];
};

/* A segment that nothing points at: it holds no content. */
struct verify_unused {
    uint32_t segment;
    uint64_t bytes;
};

struct verify_result {
    struct volume_list list;
    struct verify_volume *volumes;
    size_t volume_count;
    struct verify_damage *damages; /* by segment and offset */
    size_t damage_count;
    uint64_t damages_left_out; /* beyond VERIFY_LISTED */

    bool has_segments; /* all that follows: only when no volume was named */
    uint64_t segments;
    uint64_t segment_bytes;
    uint64_t batches;
    uint64_t records;
    uint64_t unknown_records; /* the index does not know of them */
    uint64_t torn_ends;       /* segments that end in bytes that are no whole batch */
    uint64_t torn_bytes;
    uint64_t reclaimed_bytes; /* of payloads that nothing points at any more */
    struct verify_stretch *stretches;
    size_t stretch_count;
    uint64_t stretches_left_out;
    struct verify_unused *unused;
    size_t unused_count;
    uint64_t unused_left_out;
};

/*
 * 0 also when damage was found: verify_is_good() tells. ERR_NOT_FOUND, ERR_USAGE: a volume's name;
 * ERR_STOPPED: a signal; others: the store cannot be read at all. The result is to be released in
 * any case.
 */
int verify_run(struct store *s, const struct verify_options *options, struct verify_result *result,
               struct error *err);
bool verify_is_good(const struct verify_result *result);
void verify_release(struct verify_result *result);

#endif
