#include "recoveryd/control/lease.h"

#include "common/log.h"
#include "recoveryd/image/image_changes.h"
#include "recoveryd/settle/settle.h"

#include <pthread.h>
#include <stdlib.h>

#define IDLE_NS (60 * NS_PER_SECOND)

struct leases {
    struct store *store;
    uint64_t limit_ns;    /* 0: none */
    pthread_mutex_t lock; /* guards all below; the images themselves are thread-safe */
    uint64_t next_id;
    struct lease slots[LEASES];
};

struct leases *leases_create(struct store *store) {
    struct leases *l = calloc(1, sizeof *l);
    if (l == NULL)
        return NULL;
    l->store = store;
    /* Numbers of an earlier server must not open images of this one. */
    l->next_id = clock_wall_ns() >> 1;
    pthread_mutex_init(&l->lock, NULL);
    return l;
}

static void release(struct lease *lease) {
    image_close(lease->image);
    volume_list_release(&lease->list);
    free(lease->gaps);
    *lease = (struct lease){0};
}

void leases_destroy(struct leases *l) {
    if (l == NULL)
        return;
    for (size_t i = 0; i < LEASES; i++) {
        if (l->slots[i].id != 0)
            release(&l->slots[i]);
    }
    pthread_mutex_destroy(&l->lock);
    free(l);
}

static struct lease *find(struct leases *l, uint64_t id) {
    for (size_t i = 0; i < LEASES; i++) {
        if (l->slots[i].id == id && !l->slots[i].closing)
            return &l->slots[i];
    }
    return NULL;
}

static bool is_over_limit(const struct leases *l, const struct lease *lease) {
    return l->limit_ns > 0 && !lease->closing && clock_since_ns(lease->opened) > l->limit_ns;
}

/* At once, or by the last who drops it. */
static void close_over_limit(struct lease *lease) {
    log_warning("an image of %s is closed: it was open for longer than --view-limit allows",
                lease->volume.name);
    if (lease->users == 0)
        release(lease);
    else
        lease->closing = true;
}

static void expire(struct leases *l) {
    for (size_t i = 0; i < LEASES; i++) {
        struct lease *lease = &l->slots[i];
        if (lease->id == 0)
            continue;
        if (lease->users == 0 && clock_since_ns(lease->used) > IDLE_NS)
            release(lease);
        else if (is_over_limit(l, lease))
            close_over_limit(lease);
    }
}

void leases_set_limit(struct leases *l, uint64_t limit_ns) {
    l->limit_ns = limit_ns;
}

void leases_tidy(struct leases *l) {
    pthread_mutex_lock(&l->lock);
    expire(l);
    pthread_mutex_unlock(&l->lock);
}

uint64_t leases_oldest_ns(struct leases *l) {
    uint64_t oldest = 0;
    pthread_mutex_lock(&l->lock);
    for (size_t i = 0; i < LEASES; i++) {
        uint64_t age = l->slots[i].id != 0 ? clock_since_ns(l->slots[i].opened) : 0;
        oldest = age > oldest ? age : oldest;
    }
    pthread_mutex_unlock(&l->lock);
    return oldest;
}

/* A slot that is held and closing, so that nobody else finds it while it is being filled. */
static struct lease *reserve(struct leases *l) {
    pthread_mutex_lock(&l->lock);
    expire(l);
    struct lease *lease = NULL;
    for (size_t i = 0; i < LEASES && lease == NULL; i++) {
        if (l->slots[i].id == 0)
            lease = &l->slots[i];
    }
    if (lease != NULL)
        *lease =
            (struct lease){.id = ++l->next_id, .users = 1, .closing = true, .opened = clock_mono()};
    pthread_mutex_unlock(&l->lock);
    return lease;
}

static int fill(struct lease *lease, struct store *store, const char *name, uint64_t time_ns,
                uint64_t size_bytes, struct error *err) {
    AUTO(index_reader) reader = NULL;
    const struct volume *volume;
    struct error why;
    /* On a full disk, say, what waits is a gap in the image, and all the rest is there. */
    if (settle(store, time_ns, &why) != 0)
        log_warning("cannot settle copies and audits now: %s", why.text);
    int code = index_read(store->index, &reader, err);
    if (code == 0)
        code = volume_list_read(reader, &lease->list, err);
    if (code == 0)
        code = volume_find(&lease->list, name, &volume, err);
    if (code < 0)
        return code;
    lease->volume = *volume;
    lease->volume.size_given = size_bytes > 0;
    if (size_bytes > 0)
        lease->volume.size_bytes = size_bytes;
    code = image_open(store, &lease->volume, time_ns, &lease->image, err);
    if (code < 0)
        return code;
    code = image_fingerprint(lease->image, &lease->fingerprint, err);
    return code == 0 ? image_gaps(lease->image, &lease->gaps, &lease->gap_count, err) : code;
}

int leases_open(struct leases *l, const char *volume, uint64_t time_ns, uint64_t size_bytes,
                struct lease **out, struct error *err) {
    struct lease *lease = reserve(l);
    if (lease == NULL)
        return error_set(err, ERR_BUSY,
                         "%d images are being read already: try again when one is done", LEASES);
    int code = fill(lease, l->store, volume, time_ns, size_bytes, err);
    if (code < 0) {
        leases_drop(l, lease);
        return code;
    }
    pthread_mutex_lock(&l->lock);
    lease->closing = false;
    pthread_mutex_unlock(&l->lock);
    *out = lease;
    return 0;
}

int leases_hold(struct leases *l, uint64_t id, struct lease **out, struct error *err) {
    pthread_mutex_lock(&l->lock);
    struct lease *lease = id != 0 ? find(l, id) : NULL;
    if (lease != NULL && is_over_limit(l, lease)) {
        close_over_limit(lease);
        lease = NULL;
    }
    if (lease != NULL)
        lease->users++;
    pthread_mutex_unlock(&l->lock);
    if (lease == NULL)
        return error_set(
            err, ERR_NOT_FOUND,
            "the image is no longer open (the server restarted, nothing was read for "
            "a minute, or it was open for longer than the server allows): start again");
    *out = lease;
    return 0;
}

void leases_drop(struct leases *l, struct lease *lease) {
    pthread_mutex_lock(&l->lock);
    lease->users--;
    lease->used = clock_mono();
    if (lease->closing && lease->users == 0)
        release(lease);
    pthread_mutex_unlock(&l->lock);
}

void leases_close(struct leases *l, uint64_t id) {
    pthread_mutex_lock(&l->lock);
    struct lease *lease = id != 0 ? find(l, id) : NULL;
    if (lease != NULL && lease->users == 0)
        release(lease);
    else if (lease != NULL)
        lease->closing = true;
    pthread_mutex_unlock(&l->lock);
}
