#include "recoveryd/image/restore.h"

#include "common/clock.h"
#include "common/stop.h"
#include "recoveryd/image/restore_target.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <string.h>

enum { WORKERS_DEFAULT = 2, WORKERS_MAX = 8, SLOTS_PER_WORKER = 4 };

/* A checkpoint waits for the disk: often at first, then seldom. */
#define CHECKPOINT_FIRST_BYTES (UINT64_C(16) << 20)
#define CHECKPOINT_MOST_BYTES  (UINT64_C(1) << 30)
/* While what is there is read again: a server closes images that nobody reads for a minute. */
#define SIGN_OF_LIFE_NS (20 * NS_PER_SECOND)

/* One chunk on its way from a worker to the hash. */
struct slot {
    uint8_t *data; /* INDEX_CHUNK_BYTES */
    size_t bytes;
    bool ready;
};

struct restore {
    const struct restore_source *source;
    const struct restore_options *options;
    struct restore_target *target;
    struct sha256 *hash; /* of what is hashed, in order */
    bool took_over;      /* an interrupted restore: all of it that is there is hashed */
    uint64_t resumed_bytes;
    uint64_t next_checkpoint; /* bytes */
    uint64_t checkpoint_step;
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

static uint64_t bytes_of_chunks(const struct restore *r, uint64_t chunks) {
    return chunks < r->chunk_count ? chunks * INDEX_CHUNK_BYTES : r->source->size_bytes;
}

static int checkpoint(struct restore *r, struct error *err) {
    struct restore_state state = {.done_bytes = bytes_of_chunks(r, r->hashed)};
    if (!sha256_hex_so_far(r->hash, state.sha256))
        return error_set(err, ERR_NOMEM, "out of memory");
    return restore_target_checkpoint(r->target, &state, err);
}

/* Workers have written all that is hashed. */
static int checkpoint_when_due(struct restore *r, struct error *err) {
    uint64_t done = bytes_of_chunks(r, r->hashed);
    if (restore_target_partial(r->target) == NULL || done < r->next_checkpoint)
        return 0;
    if (r->options->checkpoint_bytes == 0 && r->checkpoint_step < CHECKPOINT_MOST_BYTES)
        r->checkpoint_step *= 2;
    r->next_checkpoint = done + r->checkpoint_step;
    return checkpoint(r, err);
}

static void hash_in_order(struct restore *r) {
    for (uint64_t chunk = r->hashed; chunk < r->chunk_count; chunk++) {
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
        sha256_update(r->hash, slot->data, slot->bytes);
        give_back(r, slot);
        code = checkpoint_when_due(r, &err);
        if (code != 0) {
            fail(r, code, &err);
            return;
        }
        if (r->options->progress != NULL)
            r->options->progress(r->options->progress_context, bytes_of_chunks(r, chunk + 1),
                                 r->source->size_bytes);
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

static void init(struct restore *r, const struct restore_source *source,
                 const struct restore_options *options) {
    unsigned workers = options->workers;
    *r = (struct restore){.source = source, .options = options};
    r->checkpoint_step =
        options->checkpoint_bytes > 0 ? options->checkpoint_bytes : CHECKPOINT_FIRST_BYTES;
    r->next_checkpoint = r->checkpoint_step;
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

/* Reads, writes and hashes all chunks that are not there. */
static int transfer(struct restore *r, struct error *err) {
    int code = start(r, err);
    if (code == 0)
        hash_in_order(r);
    else
        fail(r, code, &(struct error){0});
    end(r);
    if (code == 0 && r->code != 0 && err != NULL)
        *err = r->err;
    return code != 0 ? code : r->code;
}

/* --- an interrupted restore ----------------------------------------------------------------------
 */

__attribute__((format(printf, 2, 3))) static void notice(const struct restore *r,
                                                         const char *format, ...) {
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (r->options->notice != NULL)
        r->options->notice(r->options->progress_context, text);
}

static int say_alive(const struct restore *r, uint8_t *room, struct mono *last, struct error *err) {
    size_t bytes;
    bool all_zero;
    if (clock_since_ns(*last) < SIGN_OF_LIFE_NS)
        return 0;
    *last = clock_mono();
    return r->source->read(r->source->context, 0, room, &bytes, &all_zero, err);
}

static int hash_again(struct restore *r, uint64_t done_bytes, struct error *err) {
    AUTO_FREE uint8_t *room = malloc(INDEX_CHUNK_BYTES);
    struct mono alive = clock_mono();
    int code = room != NULL ? 0 : error_set(err, ERR_NOMEM, "out of memory");
    for (uint64_t at = 0; code == 0 && at < done_bytes; at += INDEX_CHUNK_BYTES) {
        uint64_t left = done_bytes - at;
        size_t bytes = left < INDEX_CHUNK_BYTES ? (size_t)left : (size_t)INDEX_CHUNK_BYTES;
        code = restore_target_read(r->target, at, room, bytes, err);
        if (code == 0)
            sha256_update(r->hash, room, bytes);
        if (code == 0 && stop_requested())
            code = error_set(err, ERR_STOPPED, "stopped before it was done");
        if (code == 0)
            code = say_alive(r, room, &alive, err);
    }
    return code;
}

static int begin_anew(struct restore *r, struct error *err) {
    sha256_destroy(take_pointer(&r->hash));
    r->hash = sha256_create();
    if (r->hash == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    return restore_target_rewind(r->target, 0, err);
}

/* Believed only when it has the hash that it had: whoever else wrote to it did not know that. */
static int go_on(struct restore *r, const struct restore_state *begun, struct error *err) {
    char sum[SHA256_HEX_BYTES];
    const char *partial = restore_target_partial(r->target);
    bool is_place =
        begun->done_bytes % INDEX_CHUNK_BYTES == 0 || begun->done_bytes == r->source->size_bytes;
    int code = is_place ? hash_again(r, begun->done_bytes, err) : 0;
    if (code != 0)
        return code;
    r->took_over = true;
    if (!is_place || !sha256_hex_so_far(r->hash, sum) || strcmp(sum, begun->sha256) != 0) {
        notice(r, "%s is not as it was left: starting anew", partial);
        return begin_anew(r, err);
    }
    r->resumed_bytes = begun->done_bytes;
    r->hashed = r->claimed = (begun->done_bytes + INDEX_CHUNK_BYTES - 1) / INDEX_CHUNK_BYTES;
    r->next_checkpoint = begun->done_bytes + r->checkpoint_step;
    notice(r, "going on with %s: %" PRIu64 " of %" PRIu64 " bytes are there", partial,
           begun->done_bytes, r->source->size_bytes);
    return restore_target_rewind(r->target, begun->done_bytes, err);
}

static int take_over(struct restore *r, struct error *err) {
    const struct restore_state *begun = restore_target_begun(r->target);
    if (begun->done_bytes > 0)
        return go_on(r, begun, err);
    r->took_over = true;
    if (restore_target_was_other(r->target))
        notice(r,
               "%s was of another volume or time, or the store has learned more since: starting "
               "anew",
               restore_target_partial(r->target));
    return 0;
}

/* A signal, or the server went away: the same again may well succeed. Nothing else is worth room.
 */
static void keep(struct restore *r, int code, struct error *err) {
    bool is_interruption = code == ERR_STOPPED || code == ERR_NET || code == ERR_NOT_FOUND;
    const char *partial = restore_target_partial(r->target);
    bool has_begun = r->took_over ? r->hashed > 0 : restore_target_begun(r->target)->done_bytes > 0;
    if (!is_interruption || partial == NULL || !has_begun)
        return;
    /* One that fails leaves what was said before, which still holds. */
    if (r->took_over && checkpoint(r, NULL) != 0 && r->resumed_bytes == 0)
        return;
    restore_target_keep(r->target);
    struct error why = err != NULL ? *err : (struct error){0};
    error_set(err, code, "%.300s; the same command goes on with %.180s", why.text, partial);
}

int restore_from(const struct restore_source *source, const char *path,
                 const struct restore_options *options, struct restore_result *result,
                 struct error *err) {
    AUTO(restore_target) target = NULL;
    struct restore r;
    int code = restore_target_open(path, source->size_bytes, options->identity, &target, err);
    if (code != 0)
        return code;
    init(&r, source, options);
    r.target = target;
    r.hash = sha256_create();
    code = r.hash != NULL ? take_over(&r, err) : error_set(err, ERR_NOMEM, "out of memory");
    if (code == 0)
        code = transfer(&r, err);
    if (code == 0)
        code = restore_target_finish(target, err);
    else
        keep(&r, code, err);
    if (code == 0) {
        sha256_finish_hex(r.hash, result->sha256);
        result->bytes = source->size_bytes;
        result->written_bytes = r.written_bytes;
        result->resumed_bytes = r.resumed_bytes;
    }
    sha256_destroy(r.hash);
    return code;
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
