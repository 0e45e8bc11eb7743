#include "recoveryd/image/restore.h"

#include "common/stop.h"
#include "recoveryd/image/restore_target.h"

#include <inttypes.h>
#include <pthread.h>
#include <string.h>

enum { WORKERS_DEFAULT = 2, WORKERS_MAX = 8, SLOTS_PER_WORKER = 4 };

/* One chunk on its way from a worker to the hash. */
struct slot {
    uint8_t *data; /* INDEX_CHUNK_BYTES */
    size_t bytes;
    bool ready;
};

struct restore {
    const struct restore_source *source;
    struct restore_target *target;
    uint64_t chunk_count;
    unsigned workers;
    pthread_t threads[WORKERS_MAX];
    unsigned started;
    size_t slot_count;
    struct slot slots[WORKERS_MAX * SLOTS_PER_WORKER];
    pthread_mutex_t lock;     /* guards all below, and the slots' `ready` */
    pthread_cond_t slot_free; /* the hash went on */
    pthread_cond_t slot_full; /* a worker is done with a chunk, or failed */
    uint64_t claimed;         /* chunks that workers have taken on */
    uint64_t hashed;
    uint64_t written_bytes;
    int code; /* of the first failure */
    struct error err;
};

/* The next chunk to read, as far ahead of the hash as there are slots; false: no more. */
static bool claim(struct restore *r, uint64_t *chunk) {
    pthread_mutex_lock(&r->lock);
    while (r->code == 0 && r->claimed < r->chunk_count && r->claimed - r->hashed >= r->slot_count)
        pthread_cond_wait(&r->slot_free, &r->lock);
    bool more = r->code == 0 && r->claimed < r->chunk_count;
    if (more)
        *chunk = r->claimed++;
    pthread_mutex_unlock(&r->lock);
    return more;
}

static void fail(struct restore *r, int code, const struct error *err) {
    pthread_mutex_lock(&r->lock);
    if (r->code == 0) {
        r->code = code;
        r->err = *err;
    }
    pthread_cond_broadcast(&r->slot_full);
    pthread_cond_broadcast(&r->slot_free);
    pthread_mutex_unlock(&r->lock);
}

static void *run_worker(void *context) {
    struct restore *r = context;
    uint64_t chunk;
    while (claim(r, &chunk)) {
        struct slot *slot = &r->slots[chunk % r->slot_count];
        struct error err = {0};
        bool all_zero = false;
        uint64_t written = 0;
        int code =
            r->source->read(r->source->context, chunk, slot->data, &slot->bytes, &all_zero, &err);
        if (code == 0)
            code = restore_target_put(r->target, chunk * INDEX_CHUNK_BYTES, slot->data, slot->bytes,
                                      all_zero, &written, &err);
        if (code != 0) {
            fail(r, code, &err);
            break;
        }
        pthread_mutex_lock(&r->lock);
        slot->ready = true;
        r->written_bytes += written;
        pthread_cond_signal(&r->slot_full);
        pthread_mutex_unlock(&r->lock);
    }
    return NULL;
}

/* Waits for the chunk that comes next in order; NULL: something failed. */
static struct slot *wait_for(struct restore *r, uint64_t chunk) {
    struct slot *slot = &r->slots[chunk % r->slot_count];
    pthread_mutex_lock(&r->lock);
    while (r->code == 0 && !slot->ready)
        pthread_cond_wait(&r->slot_full, &r->lock);
    bool ok = r->code == 0;
    pthread_mutex_unlock(&r->lock);
    return ok ? slot : NULL;
}

static void give_back(struct restore *r, struct slot *slot) {
    pthread_mutex_lock(&r->lock);
    slot->ready = false;
    r->hashed++;
    pthread_cond_broadcast(&r->slot_free);
    pthread_mutex_unlock(&r->lock);
}

static int check_chunk(const struct restore *r, uint64_t chunk, const struct slot *slot,
                       struct error *err) {
    uint64_t left = r->source->size_bytes - chunk * INDEX_CHUNK_BYTES;
    if (slot->bytes == (left < INDEX_CHUNK_BYTES ? left : INDEX_CHUNK_BYTES))
        return 0;
    return error_set(err, ERR_FORMAT, "chunk %" PRIu64 " of the image has the wrong size", chunk);
}

static void hash_in_order(struct restore *r, struct sha256 *hash,
                          const struct restore_options *options) {
    for (uint64_t chunk = 0; chunk < r->chunk_count; chunk++) {
        struct error err = {0};
        struct slot *slot = wait_for(r, chunk);
        if (slot == NULL)
            return;
        int code = check_chunk(r, chunk, slot, &err);
        if (code == 0 && stop_requested())
            code = error_set(&err, ERR_STOPPED, "stopped before it was done");
        if (code != 0) {
            fail(r, code, &err);
            return;
        }
        sha256_update(hash, slot->data, slot->bytes);
        uint64_t done = chunk * INDEX_CHUNK_BYTES + slot->bytes;
        give_back(r, slot);
        if (options->progress != NULL)
            options->progress(options->progress_context, done, r->source->size_bytes);
    }
}

static int start(struct restore *r, struct error *err) {
    for (size_t i = 0; i < r->slot_count; i++) {
        r->slots[i].data = malloc(INDEX_CHUNK_BYTES);
        if (r->slots[i].data == NULL)
            return error_set(err, ERR_NOMEM, "out of memory");
    }
    for (unsigned i = 0; i < r->workers; i++) {
        int rc = pthread_create(&r->threads[i], NULL, run_worker, r);
        if (rc != 0)
            return error_errno(err, rc, "cannot start a thread");
        r->started++;
    }
    return 0;
}

static void init(struct restore *r, const struct restore_source *source, unsigned workers) {
    *r = (struct restore){.source = source};
    r->chunk_count = (source->size_bytes + INDEX_CHUNK_BYTES - 1) / INDEX_CHUNK_BYTES;
    r->workers = workers == 0 ? WORKERS_DEFAULT : workers;
    if (r->workers > WORKERS_MAX)
        r->workers = WORKERS_MAX;
    r->slot_count = (size_t)r->workers * SLOTS_PER_WORKER;
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->slot_free, NULL);
    pthread_cond_init(&r->slot_full, NULL);
}

static void end(struct restore *r) {
    for (unsigned i = 0; i < r->started; i++)
        pthread_join(r->threads[i], NULL);
    for (size_t i = 0; i < r->slot_count; i++)
        free(r->slots[i].data);
    pthread_cond_destroy(&r->slot_full);
    pthread_cond_destroy(&r->slot_free);
    pthread_mutex_destroy(&r->lock);
}

/* Reads, writes and hashes all chunks. */
static int transfer(struct restore *r, const struct restore_options *options,
                    struct restore_result *result, struct error *err) {
    AUTO(sha256) hash = sha256_create();
    int code = hash != NULL ? start(r, err) : error_set(err, ERR_NOMEM, "out of memory");
    if (code == 0)
        hash_in_order(r, hash, options);
    else
        fail(r, code, &(struct error){0});
    end(r);
    if (code != 0)
        return code;
    if (r->code != 0) {
        if (err != NULL)
            *err = r->err;
        return r->code;
    }
    sha256_finish_hex(hash, result->sha256);
    result->bytes = r->source->size_bytes;
    result->written_bytes = r->written_bytes;
    return 0;
}

int restore_from(const struct restore_source *source, const char *path,
                 const struct restore_options *options, struct restore_result *result,
                 struct error *err) {
    AUTO(restore_target) target = NULL;
    int code = restore_target_open(path, source->size_bytes, &target, err);
    if (code != 0)
        return code;
    struct restore restore;
    init(&restore, source, options->workers);
    restore.target = target;
    code = transfer(&restore, options, result, err);
    return code == 0 ? restore_target_finish(target, err) : code;
}

static int read_image(void *context, uint64_t chunk, uint8_t *to, size_t *bytes, bool *all_zero,
                      struct error *err) {
    return image_chunk_read(context, chunk, to, bytes, all_zero, err);
}

static int refuse_gaps(struct image *im, struct error *err) {
    AUTO_FREE struct image_gap *gaps = NULL;
    size_t count = 0;
    int code = image_gaps(im, &gaps, &count, err);
    if (code != 0 || count == 0)
        return code;
    return error_set(err, ERR_INEXACT,
                     "the image is not exact: %zu ranges are not known for certain, the first at "
                     "byte %" PRIu64 ": see \"recoveryctl gaps\", or use --allow-gaps",
                     count, gaps[0].offset_bytes);
}

int restore_to_file(struct image *im, const char *path, const struct restore_options *options,
                    struct restore_result *result, struct error *err) {
    struct restore_source source = {im, image_info(im)->size_bytes, read_image};
    int code = options->allow_gaps ? 0 : refuse_gaps(im, err);
    return code == 0 ? restore_from(&source, path, options, result, err) : code;
}
