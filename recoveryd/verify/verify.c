#include "recoveryd/verify/verify.h"

#include "common/stop.h"
#include "recoveryd/verify/verify_internal.h"

#include <stdlib.h>

bool verify_grow(struct verify *v, void *items, size_t count, size_t *capacity, size_t item_bytes) {
    void **array = items;
    if (count < *capacity)
        return true;
    size_t wanted = *capacity > 0 ? *capacity * 2 : 16;
    void *grown = realloc(*array, wanted * item_bytes);
    v->no_memory = v->no_memory || grown == NULL;
    if (grown == NULL)
        return false;
    *array = grown;
    *capacity = wanted;
    return true;
}

int verify_advance(struct verify *v, uint64_t bytes, struct error *err) {
    v->done_bytes += bytes;
    if (v->done_bytes > v->total_bytes)
        v->total_bytes = v->done_bytes;
    if (v->options->progress != NULL)
        v->options->progress(v->options->progress_context, v->done_bytes, v->total_bytes);
    return stop_requested() ? error_set(err, ERR_STOPPED, "stopped before it was done") : 0;
}

/* --- segments ------------------------------------------------------------------------------------
 */

static void take_segment(void *context, uint32_t segment, uint64_t bytes) {
    struct verify *v = context;
    if (!verify_grow(v, &v->segments, v->segment_count, &v->segment_capacity, sizeof *v->segments))
        return;
    v->segments[v->segment_count++] = (struct segment_entry){.segment = segment, .bytes = bytes};
}

static int compare_segments(const void *left, const void *right) {
    const struct segment_entry *a = left;
    const struct segment_entry *b = right;
    return a->segment < b->segment ? -1 : a->segment > b->segment;
}

struct segment_entry *verify_segment(struct verify *v, uint32_t segment) {
    struct segment_entry key = {.segment = segment};
    if (v->segment_count == 0)
        return NULL;
    return bsearch(&key, v->segments, v->segment_count, sizeof key, compare_segments);
}

/* A file that may not be read, say, is no damage. */
static int open_each(struct verify *v, struct error *err) {
    for (size_t i = 0; i < v->segment_count; i++) {
        struct error why;
        struct extent first = {v->segments[i].segment, 1, 0};
        uint8_t byte;
        int code = segments_read(v->store->segments, &first, 0, &byte, 1, &why);
        if (code == 0 || code == ERR_FORMAT || code == ERR_VERSION)
            continue;
        if (err != NULL)
            *err = why;
        return code;
    }
    return 0;
}

static int list_segments(struct verify *v, struct error *err) {
    int code = segments_each(v->store->segments, take_segment, v, err);
    if (code == 0 && v->no_memory)
        code = error_set(err, ERR_NOMEM, "out of memory");
    if (code == 0 && v->segment_count > 1)
        qsort(v->segments, v->segment_count, sizeof *v->segments, compare_segments);
    return code;
}

/* --- volumes -------------------------------------------------------------------------------------
 */

static void add_target(struct verify *v, uint64_t path, size_t volume, bool base) {
    if (verify_grow(v, &v->targets, v->target_count, &v->target_capacity, sizeof *v->targets))
        v->targets[v->target_count++] = (struct target){path, volume, base};
}

struct floor_visit {
    struct verify *v;
    size_t volume;
};

static bool take_base(void *context, const struct floor *floor) {
    struct floor_visit *visit = context;
    if (floor->kind == FLOOR_ZERO && floor->base_path != 0)
        add_target(visit->v, floor->base_path, visit->volume, true);
    return true;
}

static int add_volume(struct verify *v, struct index_reader *r, const struct volume *volume,
                      struct error *err) {
    struct verify_result *result = v->result;
    for (size_t i = 0; i < result->volume_count; i++) {
        if (result->volumes[i].volume == volume)
            return 0; /* named twice */
    }
    struct floor_visit visit = {v, result->volume_count};
    result->volumes[result->volume_count++] = (struct verify_volume){.volume = volume};
    int code = 0;
    for (size_t i = 0; code == 0 && i < volume->path_count; i++) {
        uint64_t path = volume->paths[i].path;
        add_target(v, path, visit.volume, false);
        code = index_each_floor(r, path, UINT64_MAX, take_base, &visit, err);
    }
    return code;
}

static int choose(struct verify *v, struct index_reader *r, struct error *err) {
    const struct verify_options *o = v->options;
    struct volume_list *list = &v->result->list;
    size_t most = list->count > 0 ? list->count : 1;
    int code = 0;
    v->result->volumes = calloc(most, sizeof *v->result->volumes);
    if (v->result->volumes == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    for (size_t i = 0; code == 0 && o->volume_count == 0 && i < list->count; i++)
        code = add_volume(v, r, &list->volumes[i], err);
    for (size_t i = 0; code == 0 && i < o->volume_count; i++) {
        const struct volume *volume;
        code = volume_find(list, o->volumes[i], &volume, err);
        if (code == 0)
            code = add_volume(v, r, volume, err);
    }
    return code == 0 && v->no_memory ? error_set(err, ERR_NOMEM, "out of memory") : code;
}

static int choose_targets(struct verify *v, struct error *err) {
    AUTO(index_reader) reader = NULL;
    int code = index_read(v->store->index, &reader, err);
    if (code == 0)
        code = volume_list_read(reader, &v->result->list, err);
    return code == 0 ? choose(v, reader, err) : code;
}

/* --- all -----------------------------------------------------------------------------------------
 */

static int measure(struct verify *v, bool segments, struct error *err) {
    int code = 0;
    if (v->options->progress != NULL)
        code = verify_measure(v, &v->total_bytes, err);
    for (size_t i = 0; segments && i < v->segment_count; i++)
        v->total_bytes += v->segments[i].bytes;
    return code;
}

int verify_run(struct store *s, const struct verify_options *options, struct verify_result *result,
               struct error *err) {
    *result = (struct verify_result){.has_segments = options->volume_count == 0};
    struct verify v = {.store = s, .options = options, .result = result};
    /* Segments first: what the index knows of them a moment later was in them. */
    int code = list_segments(&v, err);
    if (code == 0)
        code = open_each(&v, err);
    if (code == 0)
        code = choose_targets(&v, err);
    if (code == 0)
        code = measure(&v, result->has_segments, err);
    if (code == 0)
        code = verify_payloads(&v, err);
    if (code == 0 && result->has_segments)
        code = verify_batches(&v, err);
    free(v.targets);
    free(v.segments);
    return code;
}

bool verify_is_good(const struct verify_result *result) {
    return result->damage_count == 0 && result->stretch_count == 0;
}

void verify_release(struct verify_result *result) {
    volume_list_release(&result->list);
    free(result->volumes);
    free(result->damages);
    free(result->stretches);
    free(result->unused);
    *result = (struct verify_result){0};
}
