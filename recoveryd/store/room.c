#include "recoveryd/store/room.h"

#include "common/clock.h"
#include "common/log.h"
#include "proto/when.h"
#include "recoveryd/store/forecast.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

/* In between, what was taken is added up. */
#define RECOUNT_NS (2 * NS_PER_SECOND)
#define WATCH_NS   (10 * NS_PER_SECOND)

/* Below the level by so many points, an alarm is over: it does not flicker. */
enum { ALARM_OVER_POINTS = 2 };

struct room {
    char *dir;
    struct segments *segments;
    struct room_limits limits;
    atomic_uint waiting;
    pthread_mutex_t lock; /* guards all below */
    bool counted;
    struct mono counted_at;
    uint64_t used_bytes;    /* at the last count, and what was taken since */
    enum room_full refused; /* why the last take was; ROOM_NOT_FULL: it was not */
    bool watched;
    struct mono watched_at;
    bool alarm;
};

struct room *room_create(const char *dir, struct segments *segments) {
    struct room *r = calloc(1, sizeof *r);
    if (r == NULL)
        return NULL;
    pthread_mutex_init(&r->lock, NULL);
    r->segments = segments;
    r->limits.alarm_percent = ROOM_ALARM_PERCENT;
    r->dir = strdup(dir);
    if (r->dir == NULL) {
        room_destroy(r);
        return NULL;
    }
    return r;
}

void room_destroy(struct room *r) {
    if (r == NULL)
        return;
    pthread_mutex_destroy(&r->lock);
    free(r->dir);
    free(r);
}

void room_set_limits(struct room *r, const struct room_limits *limits) {
    r->limits = *limits;
}

const struct room_limits *room_limits(const struct room *r) {
    return &r->limits;
}

atomic_uint *room_waiting(struct room *r) {
    return &r->waiting;
}

const char *room_full_name(enum room_full full) {
    static const char *const names[] = {NULL, "limit", "reserve", "disk"};
    return names[full];
}

void room_judge(const struct room_limits *limits, struct room_state *state) {
    uint64_t used = state->segment_bytes + state->index_bytes;
    uint64_t free_bytes = state->disk_free_bytes;
    uint64_t disk = free_bytes > limits->reserve_bytes ? free_bytes - limits->reserve_bytes : 0;
    uint64_t own = UINT64_MAX;
    if (limits->store_bytes > 0)
        own = limits->store_bytes > used ? limits->store_bytes - used : 0;
    state->left_bytes = own < disk ? own : disk;
    state->capacity_bytes = used + state->left_bytes;
    double part = state->capacity_bytes > 0 ? (double)used / (double)state->capacity_bytes : 1;
    state->percent = (unsigned)(100 * part);
    state->alarm = limits->alarm_percent > 0 && state->percent >= limits->alarm_percent;
    state->full = ROOM_NOT_FULL;
    if (own == 0)
        state->full = ROOM_LIMIT;
    else if (disk == 0)
        state->full = free_bytes > 0 ? ROOM_RESERVE : ROOM_DISK;
}

static int read_disk(const struct room *r, uint64_t *free_bytes, struct error *err) {
    struct statvfs status;
    if (statvfs(r->dir, &status) != 0)
        return error_errno(err, errno, "cannot look at the file system of %s", r->dir);
    *free_bytes = (uint64_t)status.f_bavail * status.f_frsize;
    return 0;
}

static int read_sizes(const struct room *r, struct room_state *state, struct error *err) {
    char path[PATH_MAX];
    struct stat status;
    *state = (struct room_state){0};
    snprintf(path, sizeof path, "%s/index/data.mdb", r->dir);
    if (stat(path, &status) != 0)
        return error_errno(err, errno, "cannot look at %s", path);
    state->index_bytes = (uint64_t)status.st_size;
    state->segment_bytes = segments_total_bytes(r->segments);
    return read_disk(r, &state->disk_free_bytes, err);
}

int room_read(struct room *r, struct room_state *state, struct error *err) {
    int code = read_sizes(r, state, err);
    if (code != 0)
        return code;
    room_judge(&r->limits, state);
    /* A little may be left, less than what somebody waits with. */
    if (state->full != ROOM_NOT_FULL || atomic_load(&r->waiting) == 0)
        return 0;
    pthread_mutex_lock(&r->lock);
    state->full = r->refused != ROOM_NOT_FULL ? r->refused : ROOM_DISK;
    pthread_mutex_unlock(&r->lock);
    return 0;
}

/* --- before a write ------------------------------------------------------------------------------
 */

static int check_limit(struct room *r, uint64_t bytes, struct error *err) {
    if (r->limits.store_bytes == 0)
        return 0;
    if (!r->counted || clock_since_ns(r->counted_at) > RECOUNT_NS) {
        struct room_state state;
        int code = read_sizes(r, &state, err);
        if (code != 0)
            return code;
        r->used_bytes = state.segment_bytes + state.index_bytes;
        r->counted = true;
        r->counted_at = clock_mono();
    }
    if (r->used_bytes >= r->limits.store_bytes || bytes > r->limits.store_bytes - r->used_bytes)
        return error_set(err, ERR_FULL,
                         "the store %s is full: it has reached its limit of %" PRIu64
                         " bytes (--store-limit)",
                         r->dir, r->limits.store_bytes);
    return 0;
}

static int check_reserve(struct room *r, uint64_t bytes, struct error *err) {
    uint64_t free_bytes = 0;
    if (r->limits.reserve_bytes == 0)
        return 0;
    int code = read_disk(r, &free_bytes, err);
    if (code != 0)
        return code;
    if (free_bytes < r->limits.reserve_bytes || free_bytes - r->limits.reserve_bytes < bytes)
        return error_set(err, ERR_FULL,
                         "the store %s is full: its file system has %" PRIu64
                         " bytes free, of which %" PRIu64 " are kept (--reserve)",
                         r->dir, free_bytes, r->limits.reserve_bytes);
    return 0;
}

int room_take(struct room *r, uint64_t bytes, struct error *err) {
    pthread_mutex_lock(&r->lock);
    r->refused = ROOM_LIMIT;
    int code = check_limit(r, bytes, err);
    if (code == 0) {
        r->refused = ROOM_RESERVE;
        code = check_reserve(r, bytes, err);
    }
    if (code == 0)
        r->used_bytes += bytes;
    if (code != ERR_FULL)
        r->refused = ROOM_NOT_FULL;
    pthread_mutex_unlock(&r->lock);
    return code;
}

/* --- the alarm -----------------------------------------------------------------------------------
 */

static void say_alarm(struct room *r, const struct room_state *state) {
    struct forecast f = {0};
    char text[WHEN_TEXT_BYTES];
    if (forecast_read(r->segments, state->index_bytes, clock_wall_ns(), &f, NULL) != 0)
        f = (struct forecast){0};
    uint64_t full_ns = forecast_full_ns(&f, state->left_bytes);
    if (full_ns > 0)
        log_warning("the store is %u%% full, %" PRIu64
                    " bytes are left; as it grows now, it is full at %s",
                    state->percent, state->left_bytes, when_print_utc(full_ns, text));
    else
        log_warning("the store is %u%% full, %" PRIu64 " bytes are left", state->percent,
                    state->left_bytes);
}

int room_watch(struct room *r, struct error *err) {
    struct room_state state;
    pthread_mutex_lock(&r->lock);
    bool due = !r->watched || clock_since_ns(r->watched_at) > WATCH_NS;
    if (due)
        r->watched_at = clock_mono();
    r->watched = true;
    pthread_mutex_unlock(&r->lock);
    int code = due && r->limits.alarm_percent > 0 ? room_read(r, &state, err) : 0;
    if (code != 0 || !due || r->limits.alarm_percent == 0)
        return code;
    pthread_mutex_lock(&r->lock);
    bool begins = state.alarm && !r->alarm;
    bool ends = r->alarm && state.percent + ALARM_OVER_POINTS <= r->limits.alarm_percent;
    r->alarm = begins || (r->alarm && !ends);
    pthread_mutex_unlock(&r->lock);
    if (begins)
        say_alarm(r, &state);
    else if (ends)
        log_info("the store has room again: it is %u%% full", state.percent);
    return 0;
}
