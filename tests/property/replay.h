/*
 * replay: packets through the pipeline and the publisher, and the records that come out.
 *
 * What is checked is what a recovery server would get: promises included, which are made as the
 * monitor makes them.
 */
#ifndef SANREWIND_TESTS_REPLAY_H
#define SANREWIND_TESTS_REPLAY_H

#include "proto/record.h"
#include "tests/property/packets.h"

struct replay_record {
    struct record record;
    const uint8_t *data; /* payload of an UPDATE; NULL none */
    size_t number;       /* in the order in which it came: the order mark's */
};

enum { REPLAY_PATHS = 64 };

struct replay_path {
    uint64_t path;
    uint64_t promised_ns; /* before it was announced, by the last monitor that did */
    bool again;           /* that one is the second */
    bool before;          /* the first one did, too */
};

struct replay {
    struct replay_record *records; /* UPDATE, GAP and PATH; by stamp once replay_run() is done */
    size_t count;
    size_t capacity;
    struct packets frames; /* only its blocks: copies of the batches */
    uint64_t promised_ns;
    bool restarted;
    uint64_t kept_ns; /* what the monitor before the restart promised, of all paths */
    uint64_t late;    /* records at or below a promise that held for their path: always 0 */
    bool sent_again;  /* with other bytes, perhaps: what was sent after it had been received */
    struct replay_path paths[REPLAY_PATHS];
    size_t path_count;
};

void replay_run(struct replay *r, const struct packets *packets);
/*
 * The monitor is ended in an orderly way before packet `at`, and a new one begins behind `missed`
 * more. Paths that are not resumed get the gap that the recovery server puts there.
 */
void replay_run_restarted(struct replay *r, const struct packets *packets, size_t at,
                          size_t missed);
void replay_release(struct replay *r);

#endif
