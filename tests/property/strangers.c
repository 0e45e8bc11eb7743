/*
 * strangers DIRECTORY CAPTURE SECONDS
 *
 * Two monitors with a path of a volume each, one of which begins at a random packet, so that no
 * login is seen. What both send goes into a recovery store, and at any time a block of an image
 * that is called exact must be what all paths together say, for the volume with the name as for
 * that of the address. The seed is printed, and taken from SANREWIND_SEED.
 */
#include "common/clock.h"
#include "recoveryd/image/baseline.h"
#include "recoveryd/image/image.h"
#include "recoveryd/store/store.h"
#include "tests/property/mangle.h"
#include "tests/property/model.h"
#include "tests/property/truth.h"

#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOMENTS = 12, SHOWN = 10 };
#define SERVER_PORT 3260

struct trial {
    struct truth truth;
    struct packets all;
    struct packets paths[2];
    struct packets cut;
    struct replay reference;
    struct replay replays[2];
    struct model model;
    struct models right;
    char dir[64];
    struct store *store;
    struct segment_writer *segment;
    uint64_t state; /* of the random numbers */
    uint64_t begun_ns;
    uint8_t *chunk;
    uint64_t runs;
    uint64_t images;
    uint64_t exact; /* bytes that were compared */
    uint64_t doubtful;
    uint64_t strange; /* images of the volume without a name */
    uint64_t failures;
    struct error err;
};

/* A test that cannot go on. */
static void must(const struct trial *t, int code) {
    if (code == 0)
        return;
    fprintf(stderr, "strangers: %s\n", t->err.text);
    exit(1);
}

/* --- the store -----------------------------------------------------------------------------------
 */

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *ftw) {
    (void)status;
    (void)kind;
    (void)ftw;
    return remove(path);
}

static void make_store(struct trial *t) {
    const char *place = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    char store[80];
    snprintf(t->dir, sizeof t->dir, "%s/sanrewind-property-XXXXXX", place);
    if (mkdtemp(t->dir) == NULL)
        abort();
    snprintf(store, sizeof store, "%s/store", t->dir);
    must(t, store_open(store, STORE_OWN, &t->store, &t->err));
    t->segment = segments_writer_create(t->store->segments);
}

static void remove_store(struct trial *t) {
    segments_writer_destroy(take_pointer(&t->segment));
    store_close(take_pointer(&t->store));
    nftw(t->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void put_record(struct trial *t, struct index_writer *w, uint64_t monitor,
                       const struct replay_record *r) {
    const struct record *record = &r->record;
    struct stamp stamp = {record_time_ns(record), monitor, 1, r->number};
    struct extent extent = {0};
    bool has_payload = record->type == RECORD_UPDATE && record->update.payload_bytes > 0;
    if (has_payload)
        must(t,
             segments_append(t->segment, r->data, record->update.payload_bytes, &extent, &t->err));
    if (record->type == RECORD_UPDATE)
        must(t,
             index_put_update(w, &stamp, &record->update, has_payload ? &extent : NULL, &t->err));
    else if (record->type == RECORD_GAP)
        must(t, index_put_gap(w, &stamp, &record->gap, &t->err));
    else if (record->type == RECORD_PATH)
        must(t, index_put_path(w, monitor, 1, &record->path, &t->err));
}

static void put_monitor(struct trial *t, uint64_t monitor, const struct replay *r,
                        const struct packets *seen) {
    struct index_writer *w;
    struct stream_entry stream = {.monitor = monitor,
                                  .stream = 1,
                                  .name = "monitor",
                                  .first_ns = seen->list[0].time_ns,
                                  .frontier = UINT32_MAX,
                                  .ended = true};
    for (size_t i = 0; i < seen->count; i++) {
        if (seen->list[i].time_ns > stream.frontier_ns)
            stream.frontier_ns = seen->list[i].time_ns;
    }
    must(t, index_begin(t->store->index, &w, &t->err));
    for (size_t i = 0; i < r->count; i++)
        put_record(t, w, monitor, &r->records[i]);
    must(t, index_put_stream(w, &stream, &t->err));
    must(t, segments_sync(t->segment, &t->err));
    must(t, index_commit(w, &t->err));
}

/* --- volumes -------------------------------------------------------------------------------------
 */

static void reset_right(struct trial *t) {
    model_reset(&t->model, t->truth.volumes[0].base, &t->reference);
    models_rewind(&t->right);
}

static struct volume_list volumes_of(struct trial *t) {
    struct volume_list list;
    AUTO(index_reader) r = NULL;
    must(t, index_read(t->store->index, &r, &t->err));
    must(t, volume_list_read(r, &list, &t->err));
    return list;
}

/* What the volume held when the second monitor began, of which only the first one knows parts. */
static void give_baseline(struct trial *t) {
    char file[80];
    struct volume_list list = volumes_of(t);
    struct baseline_result result;
    snprintf(file, sizeof file, "%s/baseline", t->dir);
    FILE *f = fopen(file, "w");
    if (f == NULL || fwrite(t->model.image, 1, t->model.size, f) != t->model.size || fclose(f) != 0)
        abort();
    struct baseline_options options = {.file = file, .time_ns = t->begun_ns};
    const struct volume *v = volume_of_path(&list, t->truth.volumes[0].path);
    if (v == NULL)
        abort();
    must(t, baseline_from_file(t->store, v, &options, &result, &t->err));
    volume_list_release(&list);
}

/* --- images --------------------------------------------------------------------------------------
 */

static void check_run(struct trial *t, const struct volume *v, uint64_t time_ns,
                      const struct image_run *run, const uint8_t *bytes) {
    if (!run->exact) {
        t->doubtful += run->length_bytes;
        return;
    }
    t->exact += run->length_bytes;
    for (uint64_t i = 0; i < run->length_bytes; i += MODEL_BLOCK) {
        struct range part;
        uint64_t at = run->offset_bytes + i;
        uint64_t length = run->length_bytes - i < MODEL_BLOCK ? run->length_bytes - i : MODEL_BLOCK;
        if (memcmp(t->model.image + at, bytes + i, length) == 0 ||
            rangeset_overlap(&t->model.gaps, at, at + length, &part))
            continue;
        if (t->failures++ < SHOWN)
            printf("FAILED %s at %" PRIu64 ", the second monitor from %" PRIu64
                   " on: silently wrong at byte %" PRIu64 "\n",
                   v->name, time_ns, t->begun_ns, at);
        return;
    }
}

static void check_chunk(struct trial *t, const struct volume *v, uint64_t time_ns, struct image *im,
                        uint64_t chunk) {
    AUTO_FREE struct image_run *runs = NULL;
    size_t count = 0;
    uint64_t start = chunk * INDEX_CHUNK_BYTES;
    must(t, image_chunk_map(im, chunk, &runs, &count, &t->err));
    must(t, image_runs_read(im, runs, count, start, t->chunk, &t->err));
    for (size_t i = 0; i < count; i++)
        check_run(t, v, time_ns, &runs[i], t->chunk + (runs[i].offset_bytes - start));
}

static void check_image(struct trial *t, const struct volume *v, uint64_t time_ns) {
    AUTO(image) im = NULL;
    struct volume sized = *v;
    sized.size_given = true;
    sized.size_bytes = t->model.size;
    int code = image_open(t->store, &sized, time_ns, &im, &t->err);
    if (code == ERR_INEXACT)
        return; /* refused */
    must(t, code);
    t->images++;
    t->strange += v->provisional;
    for (uint64_t chunk = 0; chunk < image_chunk_count(im); chunk++)
        check_chunk(t, v, time_ns, im, chunk);
}

static int compare_times(const void *left, const void *right) {
    const uint64_t *a = left;
    const uint64_t *b = right;
    return *a < *b ? -1 : *a > *b;
}

static void check_moments(struct trial *t) {
    uint64_t times[MOMENTS];
    struct volume_list list = volumes_of(t);
    for (size_t i = 0; i < MOMENTS; i++) {
        size_t at = (size_t)(mangle_random(&t->state) % t->reference.count);
        times[i] = record_time_ns(&t->reference.records[at].record) +
                   (i % 2 == 0 ? 0 : mangle_random(&t->state) % NS_PER_SECOND);
    }
    qsort(times, MOMENTS, sizeof times[0], compare_times);
    for (size_t i = 0; i < MOMENTS && t->failures < SHOWN; i++) {
        if (times[i] < t->begun_ns)
            continue;
        models_advance(&t->right, &t->reference, times[i]);
        for (size_t k = 0; k < list.count; k++)
            check_image(t, &list.volumes[k], times[i]);
    }
    volume_list_release(&list);
}

/* --- runs ----------------------------------------------------------------------------------------
 */

static void run(struct trial *t) {
    size_t late = (size_t)(mangle_random(&t->state) % 2);
    struct packets *whole = &t->paths[1 - late];
    struct mangle m = {.kind = MANGLE_BEHEAD, .server_port = SERVER_PORT};
    m.at = (size_t)(mangle_random(&t->state) % (t->paths[late].count * 3 / 4));
    mangle_apply(&m, &t->paths[late], &t->cut);
    t->begun_ns = t->cut.list[0].time_ns;
    replay_run(&t->replays[0], whole);
    replay_run(&t->replays[1], &t->cut);
    make_store(t);
    put_monitor(t, 1, &t->replays[0], whole);
    put_monitor(t, 2, &t->replays[1], &t->cut);
    reset_right(t);
    models_advance(&t->right, &t->reference, t->begun_ns);
    give_baseline(t);
    check_moments(t);
    remove_store(t);
    t->runs++;
}

static int prepare(struct trial *t, const char *directory, const char *capture, struct error *err) {
    int code = truth_load(&t->truth, directory, capture, err);
    if (code == 0 && t->truth.file_count != 2)
        code = error_set(err, ERR_USAGE, "%s is not a capture of two paths", capture);
    if (code == 0)
        code = packets_load(&t->all, (const char *const *)t->truth.files, 2, err);
    for (size_t i = 0; code == 0 && i < 2; i++)
        code = packets_load(&t->paths[i], (const char *const *)&t->truth.files[i], 1, err);
    if (code < 0)
        return code;
    model_init(&t->model, t->truth.volumes[0].path, t->truth.volumes[0].size);
    t->right = (struct models){.list = &t->model, .count = 1};
    t->chunk = malloc(INDEX_CHUNK_BYTES);
    replay_run(&t->reference, &t->all);
    return t->chunk != NULL ? 0 : error_set(err, ERR_NOMEM, "out of memory");
}

static void release(struct trial *t) {
    free(t->chunk);
    model_release(&t->model);
    replay_release(&t->reference);
    for (size_t i = 0; i < 2; i++) {
        replay_release(&t->replays[i]);
        packets_release(&t->paths[i]);
    }
    packets_release(&t->cut);
    packets_release(&t->all);
    truth_release(&t->truth);
}

int main(int argc, char **argv) {
    static struct trial t;
    struct error err;
    const char *seed = getenv("SANREWIND_SEED");
    if (argc < 4) {
        fprintf(stderr, "usage: %s DIRECTORY CAPTURE SECONDS\n", argv[0]);
        return 2;
    }
    t.state = seed != NULL ? strtoull(seed, NULL, 0) : clock_wall_ns() / NS_PER_MS;
    printf("SANREWIND_SEED=%" PRIu64 "\n", t.state);
    if (prepare(&t, argv[1], argv[2], &err) < 0) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    struct mono start = clock_mono();
    uint64_t seconds = strtoull(argv[3], NULL, 10);
    do {
        run(&t);
    } while (clock_since_ns(start) < seconds * NS_PER_SECOND && t.failures < SHOWN);
    printf("%s: %" PRIu64 " runs, %" PRIu64 " images (%" PRIu64
           " of a volume without a name), %" PRIu64 " MiB exact, %" PRIu64 " MiB in doubt, %" PRIu64
           " failures\n",
           argv[2], t.runs, t.images, t.strange, t.exact >> 20, t.doubtful >> 20, t.failures);
    release(&t);
    return t.failures == 0 && t.exact > 0 ? 0 : 1;
}
