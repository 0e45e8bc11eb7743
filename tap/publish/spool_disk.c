#include "tap/publish/spool_state.h"

#include "common/log.h"
#include "common/stop.h"

#include <errno.h>
#include <unistd.h>

/*
 * A file is let go of as a whole: small ones waste less. What is acknowledged soon enough is never
 * written, or never synced.
 */
#define MOST_FILE_BYTES    (UINT64_C(64) << 20)
#define MOST_RESERVE_BYTES (UINT64_C(16) << 20)
#define WRITE_AFTER_NS     (50 * NS_PER_MS)
#define SYNC_AFTER_NS      (100 * NS_PER_MS)
#define FULL_WAIT_NS       (100 * NS_PER_MS)
enum { SYNC_FAILURES = 3, BOUND_FILES = 8 };

/* The thread's own. */
struct disk {
    struct spool *s;
    unsigned sync_failures; /* in a row */
    bool full;              /* the disk was full when it was last written to */
    struct mono released;   /* when the sinks had something from memory last */
};

static uint64_t file_bytes(const struct spool *s) {
    uint64_t bytes = s->o.bound_bytes / BOUND_FILES;
    return bytes < MOST_FILE_BYTES ? bytes : MOST_FILE_BYTES;
}

static struct batch *held_batch(struct spool *s, size_t index) {
    return spool_held(s, index)->batch;
}

static bool is_released(struct spool *s, const struct shelf_file *file, bool all) {
    const struct spool_extent *extent = &file->extent;
    return extent->first_order == extent->end_order ||
           spool_is_released(s, file->head.stream, extent->first_order, extent->end_order, all);
}

/* --- letting go ----------------------------------------------------------------------------------
 */

/* With the lock held, which is let go of meanwhile. */
static void remove_first(struct spool *s) {
    struct shelf_file *file = shelf_take_first(s->shelf);
    bool last = shelf_let_go(file);
    pthread_mutex_unlock(&s->lock);
    shelf_unlink(s->shelf, file);
    if (last)
        shelf_close_file(file);
    pthread_mutex_lock(&s->lock);
}

/* The open file stays until it is worth it. */
static bool may_go(struct spool *s, const struct shelf_file *file) {
    if (file == s->shelf->open && !s->stopping && file->extent.bytes < file_bytes(s) / 8)
        return false;
    return is_released(s, file, true) || (s->wants_room && is_released(s, file, false));
}

/*
 * What is in a file can go when the required sinks have it. Otherwise everybody must have all up to
 * its end: a link that begins anew reads on from the first mark that its sink lacks.
 */
static bool may_leave_memory(struct spool *s) {
    const struct batch *batch = held_batch(s, 0);
    if (s->written > 0)
        return spool_is_released(s, s->o.stream, batch->first_order, batch->end_order, false);
    return spool_is_released(s, s->o.stream, 0, batch->end_order, true);
}

static void let_go(struct disk *d) {
    struct spool *s = d->s;
    while (s->shelf->first != NULL && may_go(s, s->shelf->first))
        remove_first(s);
    while (s->written > 0 && held_batch(s, 0)->end_order <= s->safe_order)
        spool_pop_held(s);
    while (s->count > 0 && may_leave_memory(s)) {
        spool_pop_held(s);
        d->released = clock_mono();
    }
}

/* --- syncing -------------------------------------------------------------------------------------
 */

/* The kernel may have thrown away what it could not write: it is all written again elsewhere. */
static void distrust(struct disk *d, int errnum) {
    struct spool *s = d->s;
    struct error err;
    error_errno(&err, errnum, "%s: cannot sync a file of the spool", s->o.dir);
    if (++d->sync_failures >= SYNC_FAILURES) {
        spool_fail_locked(s, &err);
        return;
    }
    log_error("%s: what is not known to be on the disk is written again, to another file",
              err.text);
    for (struct shelf_file *file = s->shelf->first; file != NULL; file = file->next) {
        if (file->synced_bytes < file->extent.bytes)
            shelf_distrust(s->shelf, file);
    }
    s->written = 0;
}

/* With the lock held, which is let go of meanwhile. False: distrusted. */
static bool sync_file(struct disk *d, struct shelf_file *file) {
    struct spool *s = d->s;
    struct spool_extent extent = file->extent;
    bool fresh = file->synced_bytes == 0;
    struct error err;
    pthread_mutex_unlock(&s->lock);
    int errnum = s->o.sync(file->fd) == 0 ? 0 : errno;
    if (errnum == 0 && fresh && shelf_sync_names(s->shelf, &err) < 0)
        errnum = EIO;
    pthread_mutex_lock(&s->lock);
    if (errnum != 0) {
        distrust(d, errnum);
        return false;
    }
    file->synced_bytes = extent.bytes;
    file->synced_order = extent.end_order;
    return true;
}

/* All that was written so far. */
static void sync_all(struct disk *d) {
    struct spool *s = d->s;
    uint64_t end_order = s->written > 0 ? held_batch(s, s->written - 1)->end_order : 0;
    for (struct shelf_file *file = s->shelf->first; file != NULL; file = file->next) {
        if (file->synced_bytes < file->extent.bytes && !sync_file(d, file))
            return;
    }
    d->sync_failures = 0;
    if (end_order > s->safe_order)
        s->safe_order = end_order;
    pthread_cond_broadcast(&s->changed);
}

/* Whoever publishes needs some of the pool. While the sinks keep up, it comes back soon enough. */
static bool is_crowded(const struct disk *d, size_t batches) {
    const struct spool *s = d->s;
    return s->hurry || s->stopping ||
           (batches >= s->o.pool_count * 5 / 8 && clock_since_ns(d->released) >= WRITE_AFTER_NS);
}

static bool is_sync_due(const struct disk *d) {
    struct spool *s = d->s;
    return s->written > 0 &&
           (is_crowded(d, s->written) || clock_since_ns(spool_held(s, 0)->since) >= SYNC_AFTER_NS);
}

static bool is_write_due(const struct disk *d) {
    struct spool *s = d->s;
    return s->written < s->count &&
           (is_crowded(d, s->count) ||
            clock_since_ns(spool_held(s, s->written)->since) >= WRITE_AFTER_NS);
}

/* --- room ----------------------------------------------------------------------------------------
 */

/* Of the bound, and of the disk, some is kept for thinning. */
static bool has_room(const struct disk *d, uint64_t bytes, bool thin) {
    const struct spool *s = d->s;
    uint64_t bound = s->o.bound_bytes;
    uint64_t reserve = bound / 16 < MOST_RESERVE_BYTES ? bound / 16 : MOST_RESERVE_BYTES;
    uint64_t total;
    uint64_t left;
    shelf_room(s->shelf, &total, &left);
    if (s->o.full == SPOOL_NEWEST && !thin)
        bound -= bound / 8;
    if (s->o.full == SPOOL_NEWEST && thin)
        reserve = 0;
    return !d->full && s->shelf->bytes + bytes + reserve <= bound && left >= bytes + reserve;
}

/* With the lock held, which is let go of meanwhile. False: there is nothing to thin, or it cannot
 * be. */
static bool thin_oldest(struct disk *d) {
    struct spool *s = d->s;
    uint64_t lost = 0;
    struct error err;
    struct shelf_file *file = shelf_thinnable(s->shelf);
    if (file == NULL && s->shelf->open != NULL && !s->shelf->open->thin) {
        shelf_end(s->shelf);
        file = shelf_thinnable(s->shelf);
    }
    if (file == NULL)
        return false;
    shelf_hold(file);
    pthread_mutex_unlock(&s->lock);
    struct shelf_file *thin = shelf_thin(s->shelf, file, &lost, &err);
    pthread_mutex_lock(&s->lock);
    if (thin != NULL) {
        shelf_replace(s->shelf, file, thin);
        shelf_let_go(file);
        s->lost += lost;
    } else {
        log_warning("%s", err.text);
        file->thin = err.code == ERR_FORMAT; /* nothing to be gained from it */
    }
    bool last = shelf_let_go(file);
    pthread_mutex_unlock(&s->lock);
    if (last)
        shelf_close_file(file);
    pthread_mutex_lock(&s->lock);
    return thin != NULL;
}

/* One step towards room for the next batch. False: there was nothing to be done but to wait. */
static bool gain_room(struct disk *d) {
    struct spool *s = d->s;
    uint64_t before = s->shelf->bytes;
    s->wants_room = true;
    let_go(d);
    s->wants_room = false;
    if (s->shelf->bytes < before) {
        d->full = false;
        return true;
    }
    spool_say_full(s);
    if (s->o.full == SPOOL_OLDEST)
        return thin_oldest(d);
    struct held *held = spool_held(s, s->written);
    if (s->o.full != SPOOL_NEWEST || held->thin)
        return false;
    spool_thin_held(s, held);
    return true;
}

/* --- writing -------------------------------------------------------------------------------------
 */

/* With the lock held, which is let go of meanwhile. */
static int begin_file(struct disk *d, struct error *err) {
    struct spool *s = d->s;
    pthread_mutex_unlock(&s->lock);
    struct shelf_file *file = shelf_make(s->shelf, s->o.stream, err);
    pthread_mutex_lock(&s->lock);
    if (file == NULL)
        return err->code;
    shelf_add(s->shelf, file);
    return 0;
}

/*
 * The open file is full. Whoever looks at the spool after a crash believes all files of a stream
 * but the last two.
 */
static bool end_file(struct disk *d) {
    struct spool *s = d->s;
    for (struct shelf_file *file = s->shelf->first; file != s->shelf->open; file = file->next) {
        if (file->synced_bytes < file->extent.bytes && !sync_file(d, file))
            return false;
    }
    shelf_end(s->shelf);
    return true;
}

/* A file has no holes; what was before one, everybody has. */
static bool fits_open_file(const struct spool *s, const struct batch *batch) {
    const struct spool_extent *extent = &s->shelf->open->extent;
    return extent->bytes < file_bytes(s) &&
           (extent->first_order == extent->end_order || extent->end_order == batch->first_order);
}

static int append(struct disk *d, struct batch *batch, struct error *err) {
    struct spool *s = d->s;
    const struct shelf_file *file = s->shelf->open;
    struct spool_entry entry = {.first_order = batch->first_order,
                                .end_order = batch->end_order,
                                .bytes = (uint32_t)batch->frame.length};
    uint64_t at = file->extent.bytes;
    uint64_t wrote = 0;
    pthread_mutex_unlock(&s->lock);
    int code =
        spool_file_append(file->fd, at, file->head.number, &entry, batch->frame.data, &wrote, err);
    if (code == ERR_FULL && ftruncate(file->fd, (off_t)at) != 0)
        code = error_errno(err, errno, "%s: cannot cut a file", s->o.dir);
    pthread_mutex_lock(&s->lock);
    if (code < 0)
        return code;
    shelf_grow(s->shelf, &entry, wrote);
    s->written++;
    return 0;
}

/* Writes the next batch, or does something so that it can be. */
static void write_next(struct disk *d) {
    struct spool *s = d->s;
    const struct held *held = spool_held(s, s->written);
    struct error err = {0};
    int code = 0;
    if (!has_room(d, spool_entry_room(held->batch->frame.length), held->thin)) {
        s->stuck = !gain_room(d);
        if (s->stuck) {
            spool_wait_a_while(s, FULL_WAIT_NS);
            d->full = false;
        }
        return;
    }
    s->stuck = false;
    if (s->shelf->open != NULL && !fits_open_file(s, held->batch) && !end_file(d))
        return;
    if (s->shelf->open == NULL)
        code = begin_file(d, &err);
    if (code == 0)
        code = append(d, held_batch(s, s->written), &err);
    if (code == ERR_FULL)
        d->full = true;
    else if (code < 0)
        spool_fail_locked(s, &err);
}

/* --- the thread ----------------------------------------------------------------------------------
 */

/* At the end, a full spool is not waited for for long. */
static bool is_over(const struct spool *s, struct mono since) {
    return s->stopping && (s->count == s->written || clock_since_ns(since) > NS_PER_SECOND);
}

void *spool_disk_thread(void *context) {
    struct spool *s = context;
    struct disk d = {.s = s};
    struct mono stopped = {0};
    pthread_mutex_lock(&s->lock);
    while (s->failure.code == 0) {
        let_go(&d);
        if (is_sync_due(&d)) {
            sync_all(&d);
            continue;
        }
        if (s->stopping && stopped.ns == 0)
            stopped = clock_mono();
        if (s->stopping && is_over(s, stopped))
            break;
        if (is_write_due(&d))
            write_next(&d);
        else
            spool_wait_a_while(s, WRITE_AFTER_NS / 4);
    }
    s->stopping = true;
    if (s->failure.code == 0)
        let_go(&d);
    pthread_mutex_unlock(&s->lock);
    return NULL;
}
