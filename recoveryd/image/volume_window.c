#include "recoveryd/image/volume_window.h"

#include "recoveryd/image/volume_kept.h"

#include <stdlib.h>

static bool take_stream(void *context, const struct stream_entry *s) {
    struct stream_table *table = context;
    if (table->count == table->capacity) {
        size_t capacity = table->capacity > 0 ? table->capacity * 2 : 16;
        void *streams = realloc(table->streams, capacity * sizeof *table->streams);
        if (streams == NULL)
            return false;
        table->streams = streams;
        table->capacity = capacity;
    }
    table->streams[table->count++] = (struct stream_facts){
        .monitor = s->monitor,
        .stream = s->stream,
        .first_ns = s->first_ns,
        .frontier_ns = s->frontier_ns,
        .ended = s->ended,
    };
    return true;
}

static bool count_stream(void *context, const struct stream_entry *s) {
    size_t *count = context;
    (void)s;
    (*count)++;
    return true;
}

/* The index gives streams by monitor, then stream: the newest is the last of its monitor. */
static void set_promises(struct stream_table *table) {
    for (size_t i = 0; i < table->count;) {
        uint64_t greatest = 0;
        size_t end = i;
        for (; end < table->count && table->streams[end].monitor == table->streams[i].monitor;
             end++) {
            if (table->streams[end].frontier_ns > greatest)
                greatest = table->streams[end].frontier_ns;
        }
        const struct stream_facts *newest = &table->streams[end - 1];
        uint64_t promise = newest->ended ? greatest : newest->frontier_ns;
        for (; i < end; i++)
            table->streams[i].promise_ns = promise;
    }
}

int stream_table_read(struct index_reader *r, struct stream_table *table, struct error *err) {
    size_t expected = 0;
    *table = (struct stream_table){0};
    int code = index_each_stream(r, count_stream, &expected, err);
    if (code == 0)
        code = index_each_stream(r, take_stream, table, err);
    if (code == 0 && table->count != expected)
        code = error_set(err, ERR_NOMEM, "out of memory");
    if (code != 0)
        stream_table_release(table);
    set_promises(table);
    return code;
}

void stream_table_release(struct stream_table *table) {
    free(table->streams);
    *table = (struct stream_table){0};
}

static int compare_streams(const void *left, const void *right) {
    const struct stream_facts *a = left;
    const struct stream_facts *b = right;
    if (a->monitor != b->monitor)
        return a->monitor < b->monitor ? -1 : 1;
    return a->stream < b->stream ? -1 : a->stream > b->stream;
}

struct window_scan {
    const struct stream_table *table;
    uint64_t first_ns;     /* of the streams; UINT64_MAX: none */
    uint64_t watermark_ns; /* UINT64_MAX: none */
    bool has_baseline;
    struct stamp oldest_baseline;
    struct stamp newest_sized;
    uint64_t baseline_size;
};

static const struct stream_facts *stream_of(const struct stream_table *table, uint64_t monitor,
                                            uint64_t stream) {
    struct stream_facts key = {.monitor = monitor, .stream = stream};
    if (table->count == 0)
        return NULL;
    return bsearch(&key, table->streams, table->count, sizeof key, compare_streams);
}

/* A stream that has announced a path and is not known otherwise promises nothing. */
static bool scan_stream(void *context, uint64_t monitor, uint64_t stream) {
    struct window_scan *scan = context;
    const struct stream_facts *s = stream_of(scan->table, monitor, stream);
    uint64_t promise = s != NULL ? s->promise_ns : 0;
    if (s != NULL && s->first_ns < scan->first_ns)
        scan->first_ns = s->first_ns;
    if (promise < scan->watermark_ns)
        scan->watermark_ns = promise;
    return true;
}

static bool scan_floor(void *context, const struct floor *floor) {
    struct window_scan *scan = context;
    if (floor->kind != FLOOR_ZERO)
        return true;
    if (!scan->has_baseline || stamp_compare(&floor->stamp, &scan->oldest_baseline) < 0)
        scan->oldest_baseline = floor->stamp;
    if (floor->size_bytes > 0 &&
        (scan->baseline_size == 0 || stamp_compare(&floor->stamp, &scan->newest_sized) > 0)) {
        scan->newest_sized = floor->stamp;
        scan->baseline_size = floor->size_bytes;
    }
    scan->has_baseline = true;
    return true;
}

static int scan_path(struct index_reader *r, uint64_t path, struct window_scan *scan,
                     uint64_t *latest_ns, struct error *err) {
    struct stamp newest;
    int code = index_each_stream_of_path(r, path, scan_stream, scan, err);
    if (code == 0)
        code = index_each_floor(r, path, UINT64_MAX, scan_floor, scan, err);
    if (code != 0)
        return code;
    code = index_newest_update(r, path, UINT64_MAX, &newest, err);
    if (code == 0 && newest.time_ns > *latest_ns)
        *latest_ns = newest.time_ns;
    return code == ERR_NOT_FOUND ? 0 : code;
}

int volume_window_read(struct index_reader *r, const struct stream_table *table, struct volume *v,
                       struct error *err) {
    struct window_scan scan = {.table = table, .first_ns = UINT64_MAX, .watermark_ns = UINT64_MAX};
    for (size_t i = 0; i < v->path_count; i++) {
        int code = scan_path(r, v->paths[i].path, &scan, &v->latest_ns, err);
        if (code != 0)
            return code;
    }
    v->first_ns = scan.first_ns != UINT64_MAX ? scan.first_ns : 0;
    v->watermark_ns = scan.watermark_ns != UINT64_MAX ? scan.watermark_ns : 0;
    if (scan.has_baseline && scan.oldest_baseline.time_ns > v->first_ns)
        v->first_ns = scan.oldest_baseline.time_ns;
    if (v->size_bytes == 0)
        v->size_bytes = scan.baseline_size;
    uint64_t horizon_ns;
    int code = volume_kept_horizon(r, v, &horizon_ns, err);
    if (code == 0 && v->first_ns > 0 && horizon_ns > v->first_ns)
        v->first_ns = horizon_ns;
    return code;
}

struct bound_scan {
    const struct stream_table *table;
    const struct stamp *end;
    uint64_t *bound_ns;
};

static bool scan_bound(void *context, uint64_t monitor, uint64_t stream) {
    struct bound_scan *scan = context;
    const struct stream_facts *s = stream_of(scan->table, monitor, stream);
    uint64_t promise = s != NULL ? s->promise_ns : 0;
    bool is_over = monitor == scan->end->monitor && promise >= scan->end->time_ns;
    if (!is_over && promise < *scan->bound_ns)
        *scan->bound_ns = promise;
    return true;
}

int volume_window_bound(struct index_reader *r, const struct stream_table *table, uint64_t path,
                        const struct stamp *end, uint64_t *bound_ns, struct error *err) {
    struct bound_scan scan = {.table = table, .end = end, .bound_ns = bound_ns};
    return index_each_stream_of_path(r, path, scan_bound, &scan, err);
}
