/*
 * room: how much space a store has left, by the limits that were set and by the disk, and whether
 * anything more may be taken in.
 *
 * Who asks before a write is refused with ERR_FULL when the limit of the store, or the reserve of
 * the file system, would be touched: as if the disk were full, and with the same cure.
 */
#ifndef SANREWIND_RECOVERYD_ROOM_H
#define SANREWIND_RECOVERYD_ROOM_H

#include "common/cleanup.h"
#include "common/error.h"
#include "recoveryd/store/segments.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { ROOM_ALARM_PERCENT = 90 };

struct room_limits {
    uint64_t store_bytes;   /* segments and index together; 0: as much as the disk has */
    uint64_t reserve_bytes; /* of the file system, kept free */
    uint64_t alarm_percent; /* 0: no alarm */
};

enum room_full {
    ROOM_NOT_FULL,
    ROOM_LIMIT,   /* the store is as large as it may be */
    ROOM_RESERVE, /* the file system has no more than what is kept free */
    ROOM_DISK,    /* the file system has nothing left */
};

struct room_state {
    uint64_t segment_bytes;
    uint64_t index_bytes;
    uint64_t disk_free_bytes;
    uint64_t left_bytes;     /* until it is full */
    uint64_t capacity_bytes; /* what is used and what is left */
    unsigned percent;        /* of the capacity that is used */
    bool alarm;              /* at or above the alarm level */
    enum room_full full;     /* or something waits that is larger than what is left */
};

struct room;

/* The directory of the store. `segments` is borrowed. NULL: out of memory. No limits at first. */
struct room *room_create(const char *dir, struct segments *segments);
void room_destroy(struct room *r);
/* Before anybody else uses it. */
void room_set_limits(struct room *r, const struct room_limits *limits);
const struct room_limits *room_limits(const struct room *r);

/* Pure: fills what follows from the sizes in `state` and the limits. */
void room_judge(const struct room_limits *limits, struct room_state *state);
/* "limit", "reserve", "disk"; NULL: not full. */
const char *room_full_name(enum room_full full);

/* ERR_IO. Thread-safe, as all that follow. */
int room_read(struct room *r, struct room_state *state, struct error *err);
/* Before so many bytes are appended: 0, or ERR_FULL. Cheap. */
int room_take(struct room *r, uint64_t bytes, struct error *err);
/* How many threads wait because of a full disk or limit: they count themselves. */
atomic_uint *room_waiting(struct room *r);

/* Writes a line into the log when the alarm level was passed, in either direction, since the last
 * call that did. Looks at most every ten seconds. */
int room_watch(struct room *r, struct error *err);

DEFINE_AUTO(room, room_destroy)

#endif
