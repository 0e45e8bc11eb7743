/*
 * index_scale DIR: what the index costs as the history grows. Updates of 4 KiB at random places of
 * one volume are committed as recoveryd would (without their payloads) and merged beside it; at
 * 1/100, 1/10 and all of them: updates a second, bytes on disk for each, and what a view at a
 * random time takes. At last the older half is thinned out as retention does it.
 */
#include "common/clock.h"
#include "common/options.h"
#include "recoveryd/image/image.h"
#include "recoveryd/index/thinned.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { UPDATE_BYTES = 4096, COMMIT_UPDATES = 5000, VIEWS = 9 };
#define START_NS (UINT64_C(1795000000) * NS_PER_SECOND)
#define STEP_NS  UINT64_C(10000)

struct scale {
    uint64_t updates;
    uint64_t volume_bytes;
    struct store *store;
    uint64_t path;
    uint64_t made;
    uint64_t random;
    double seconds; /* spent on `made` */
    atomic_bool ending;
};

static uint64_t next_random(struct scale *s) {
    s->random ^= s->random << 13;
    s->random ^= s->random >> 7;
    s->random ^= s->random << 17;
    return s->random;
}

static double seconds_since(struct mono start) {
    return (double)clock_since_ns(start) / (double)NS_PER_SECOND;
}

/* --- filling --- */

static int put_one(struct scale *s, struct index_writer *w, struct error *err) {
    uint64_t number = s->made++;
    uint64_t time_ns = START_NS + number * STEP_NS;
    struct stamp stamp = {time_ns, 1, START_NS, number + 1};
    struct update_record update = {.time_ns = time_ns,
                                   .issued_ns = time_ns - 80000 - next_random(s) % 50000,
                                   .path = s->path,
                                   .offset_bytes = next_random(s) %
                                                   (s->volume_bytes / UPDATE_BYTES) * UPDATE_BYTES,
                                   .length_bytes = UPDATE_BYTES,
                                   .payload_bytes = UPDATE_BYTES,
                                   .payload_crc32c = (uint32_t)next_random(s),
                                   .block_bytes = 512,
                                   .op = UPDATE_WRITE};
    uint64_t at = number * (UPDATE_BYTES + 96);
    struct extent extent = {(uint32_t)(1 + (at >> 30)), UPDATE_BYTES,
                            4096 + (at & ((1 << 30) - 1))};
    return index_put_update(w, &stamp, &update, &extent, err);
}

static int put_stream(struct scale *s, struct index_writer *w, struct error *err) {
    static const char name[] = "bench";
    struct stream_entry *stream = calloc(1, sizeof *stream);
    if (stream == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    *stream = (struct stream_entry){.monitor = 1,
                                    .stream = START_NS,
                                    .first_ns = START_NS - 1,
                                    .frontier = s->made + 1,
                                    .frontier_ns = START_NS + s->made * STEP_NS,
                                    .updates = s->made};
    memcpy(stream->name, name, sizeof name);
    int code = index_put_stream(w, stream, err);
    free(stream);
    return code;
}

static int commit_some(struct scale *s, uint64_t until, struct error *err) {
    struct index_writer *w;
    int code = index_begin(s->store->index, &w, err);
    if (code != 0)
        return code;
    for (int i = 0; code == 0 && i < COMMIT_UPDATES && s->made < until; i++)
        code = put_one(s, w, err);
    if (code == 0)
        code = put_stream(s, w, err);
    if (code == 0)
        return index_commit(w, err);
    index_abort(w);
    return code;
}

static int announce(struct scale *s, struct error *err) {
    static const char target[] = "iqn.2026-11.lab.bench:disk";
    struct index_writer *w;
    s->path = record_path_id(PATH_ISCSI, target, sizeof target - 1, 0);
    struct path_record path = {.time_ns = START_NS - 1,
                               .path = s->path,
                               .size_bytes = s->volume_bytes,
                               .block_bytes = 512,
                               .protocol = PATH_ISCSI,
                               .target = target,
                               .target_bytes = sizeof target - 1};
    struct floor zeros = {.kind = FLOOR_ZERO, .size_bytes = s->volume_bytes, .text = "zeros"};
    int code = index_begin(s->store->index, &w, err);
    if (code != 0)
        return code;
    code = index_put_path(w, 1, START_NS, &path, err);
    if (code == 0)
        code = index_put_floor(w, s->path, &zeros, err);
    if (code == 0)
        return index_commit(w, err);
    index_abort(w);
    return code;
}

static void *merge_thread(void *context) {
    struct scale *s = context;
    struct error err = {0};
    bool again = true;
    while (!atomic_load(&s->ending)) {
        if (index_merge_due(s->store->index, &again, &err) != 0)
            fprintf(stderr, "index_scale: %s\n", err.text);
        if (!again)
            nanosleep(&(struct timespec){.tv_nsec = 50 * 1000 * 1000}, NULL);
    }
    return NULL;
}

static int fill(struct scale *s, uint64_t until, struct error *err) {
    pthread_t merging;
    struct mono start = clock_mono();
    int code = 0;
    atomic_store(&s->ending, false);
    if (pthread_create(&merging, NULL, merge_thread, s) != 0)
        return error_set(err, ERR_NOMEM, "cannot start a thread");
    while (code == 0 && s->made < until)
        code = commit_some(s, until, err);
    atomic_store(&s->ending, true);
    pthread_join(merging, NULL);
    s->seconds = seconds_since(start);
    return code;
}

static int merge_rest(struct scale *s, struct error *err) {
    bool merged = true;
    int code = 0;
    while (code == 0 && merged)
        code = index_merge(s->store->index, &merged, err);
    return code;
}

/* --- measuring --- */

struct view {
    double open_seconds;
    double map_seconds;
};

static int look(struct scale *s, struct view *v, struct error *err) {
    AUTO(index_reader) r = NULL;
    AUTO(image) image = NULL;
    struct volume_list list = {0};
    const struct volume *volume;
    uint64_t time_ns = START_NS + next_random(s) % s->made * STEP_NS;
    struct mono start = clock_mono();
    int code = index_read(s->store->index, &r, err);
    if (code == 0)
        code = volume_list_read(r, &list, err);
    if (code == 0)
        code = volume_find(&list, "disk/0", &volume, err);
    if (code == 0)
        code = image_open(s->store, volume, time_ns, &image, err);
    v->open_seconds = seconds_since(start);
    start = clock_mono();
    for (uint64_t chunk = 0; code == 0 && chunk < image_chunk_count(image); chunk++) {
        struct image_run *runs;
        size_t count;
        code = image_chunk_map(image, chunk, &runs, &count, err);
        if (code == 0)
            free(runs);
    }
    v->map_seconds = seconds_since(start);
    image_close(take_pointer(&image));
    volume_list_release(&list);
    return code;
}

static int compare_seconds(const void *a, const void *b) {
    double left = *(const double *)a;
    double right = *(const double *)b;
    return left < right ? -1 : left > right;
}

static int report(struct scale *s, uint64_t fresh, struct error *err) {
    double opens[VIEWS];
    double maps[VIEWS];
    char file[4096];
    struct stat status;
    double seconds = s->seconds;
    struct mono start = clock_mono();
    int code = merge_rest(s, err);
    double rest = seconds_since(start);
    for (int i = 0; code == 0 && i < VIEWS; i++) {
        struct view v;
        code = look(s, &v, err);
        opens[i] = v.open_seconds;
        maps[i] = v.map_seconds;
    }
    if (code != 0)
        return code;
    snprintf(file, sizeof file, "%s/index/data.mdb", s->store->dir);
    if (stat(file, &status) != 0)
        return error_set(err, ERR_IO, "cannot look at %s", file);
    qsort(opens, VIEWS, sizeof opens[0], compare_seconds);
    qsort(maps, VIEWS, sizeof maps[0], compare_seconds);
    printf("%10" PRIu64 " %10.0f %8.2f %8.1f %10.2f %10.0f\n", s->made, (double)fresh / seconds,
           rest, (double)status.st_size / (double)s->made, opens[VIEWS / 2] * 1000,
           maps[VIEWS / 2] * 1000);
    fflush(stdout);
    return 0;
}

/* The older half is folded into one moment. */
static int thin(struct scale *s, struct error *err) {
    struct thinned_entry e = {.path = s->path, .until_ns = START_NS + s->made / 2 * STEP_NS};
    const struct thin_ground ground = {0};
    struct thin_result result = {0};
    double longest = 0;
    struct mono start = clock_mono();
    int code = index_put_thinned(s->store->index, &e, 1, err);
    while (code == 0 && e.next_chunk != THINNED_DONE) {
        struct mono step = clock_mono();
        code = index_thin(s->store->index, &e, &ground, &result, err);
        double seconds = seconds_since(step);
        longest = seconds > longest ? seconds : longest;
    }
    double seconds = seconds_since(start);
    if (code == 0)
        printf("thinned: %" PRIu64 " of %" PRIu64 " updates in %.1f s, %.0f a second, the longest "
               "step %.0f ms\n",
               result.changes, s->made / 2, seconds, (double)result.changes / seconds,
               longest * 1000);
    return code;
}

static int run(struct scale *s, const char *dir, struct error *err) {
    int code = store_open(dir, STORE_OWN, &s->store, err);
    if (code == 0)
        code = announce(s, err);
    printf("%10s %10s %8s %8s %10s %10s\n", "updates", "updates/s", "rest s", "bytes", "open ms",
           "map ms");
    for (uint64_t part = 100; code == 0 && part >= 1; part /= 10) {
        uint64_t before = s->made;
        code = fill(s, s->updates / part, err);
        if (code == 0)
            code = report(s, s->made - before, err);
    }
    if (code == 0)
        code = thin(s, err);
    store_close(s->store);
    return code;
}

static int set_updates(void *into, const char *value, struct error *err) {
    struct scale *s = into;
    return options_number("updates", value, 100, UINT32_MAX, &s->updates, err);
}

static int set_volume(void *into, const char *value, struct error *err) {
    struct scale *s = into;
    return options_bytes("volume", value, 1 << 20, UINT64_C(1) << 44, &s->volume_bytes, err);
}

static const struct option_row rows[] = {
    {0, "updates", "NUMBER", "how many (default 1000000)", set_updates},
    {0, "volume", "BYTES", "size of the volume (default 4G)", set_volume},
    {0},
};

static const struct option_set options = {
    .program = "index_scale",
    .usage = "index_scale DIR [OPTION]...",
    .summary = "Fills an index in DIR, which must not exist, and says what it costs.",
    .rows = rows};

int main(int argc, char **argv) {
    static struct scale s = {
        .updates = 1000000, .volume_bytes = UINT64_C(4) << 30, .random = 88172645463325252ull};
    struct error err = {0};
    int operand = argc;
    int code = options_parse(&options, &s, argc, argv, false, &operand, &err);
    if (code == OPTIONS_EXIT)
        return 0;
    if (code == 0 && operand != argc - 1)
        code = error_set(&err, ERR_USAGE, "one directory is to be given; see --help");
    if (code == 0)
        code = run(&s, argv[operand], &err);
    if (code < 0)
        fprintf(stderr, "index_scale: %s\n", err.text);
    return code < 0 ? error_exit_status(code) : 0;
}
