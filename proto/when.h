/*
 * when: TIME as administrators type it, and times as we print them.
 *
 *     2026-11-23T21:02:39.123456789Z     RFC 3339, up to nanoseconds, with Z or an offset
 *     @1795404207[.438474540]            seconds since the Unix epoch
 *     -15m                               ago: s, m, h, d, w; several may follow each other: -1h30m
 *     latest                             the newest time that can be restored
 *     bookmark:NAME  before-write:LBA    looked up in the store
 *
 * Local times without an offset are refused: which one is meant is not ours to guess. So are leap
 * seconds
 * (":60"): the clock that makes time marks has no number for them. Years 1970 to 2554.
 */
#ifndef SANREWIND_PROTO_WHEN_H
#define SANREWIND_PROTO_WHEN_H

#include "common/error.h"
#include "proto/limits.h"

#include <stdint.h>

enum when_kind {
    WHEN_ABSOLUTE, /* ns: wall time */
    WHEN_AGO,      /* ns: how long before now */
    WHEN_LATEST,
    WHEN_BOOKMARK,     /* name */
    WHEN_BEFORE_WRITE, /* lba */
};

struct when {
    enum when_kind kind;
    uint64_t ns;
    uint64_t lba;
    char name[LIMIT_NAME_BYTES + 1];
};

#define WHEN_FORMS                                                                                 \
    "2026-11-23T21:02:39.5Z, 2026-11-23T22:02:39+01:00, @1795404207.5, -15m, latest, "             \
    "bookmark:NAME, before-write:LBA"

/* 0, or ERR_USAGE with a sentence that names the accepted forms. */
int when_parse(const char *text, struct when *when, struct error *err);

/* "15m", "1h30m", "2d": for options that want a length of time. Never 0. */
int when_parse_duration(const char *text, uint64_t *ns, struct error *err);

enum { WHEN_TEXT_BYTES = 48 };

/* "2026-11-23T21:02:39.123456789Z": always nine digits, so that it can be pasted back. */
const char *when_print_utc(uint64_t time_ns, char text[WHEN_TEXT_BYTES]);
/* The same in the zone of this machine: "2026-11-23T22:02:39.123456789+01:00". */
const char *when_print_local(uint64_t time_ns, char text[WHEN_TEXT_BYTES]);

#endif
