/* What happened to a volume, interval by interval. */
#include "recoveryd/control/commands.h"

enum { DEFAULT_ROWS = 20, MAX_ROWS = 10000 };

struct row {
    uint64_t updates;
    uint64_t bytes;
    uint64_t zeros;
    uint64_t flushes;
    uint64_t gaps;
};

struct timeline {
    uint64_t from_ns;
    uint64_t to_ns; /* inclusive */
    uint64_t every_ns;
    size_t count;
    struct row *rows;
};

static struct row *row_of(struct timeline *t, uint64_t time_ns) {
    if (time_ns < t->from_ns || time_ns > t->to_ns)
        return NULL;
    return &t->rows[(time_ns - t->from_ns) / t->every_ns];
}

static bool add_event(void *context, const struct stamp *stamp, uint8_t op, uint64_t offset_bytes,
                      uint64_t length_bytes) {
    struct row *row = row_of(context, stamp->time_ns);
    (void)offset_bytes;
    if (row == NULL)
        return true;
    if (op == UPDATE_FLUSH) {
        row->flushes++;
        return true;
    }
    row->updates++;
    row->bytes += length_bytes;
    row->zeros += op == UPDATE_ZERO;
    return true;
}

static bool add_gap(void *context, const struct gap_entry *gap) {
    struct row *row = row_of(context, gap->stamp.time_ns);
    if (row != NULL)
        row->gaps++;
    return true;
}

/* What a stranger changed may have changed the volume. */
static bool add_strange_event(void *context, const struct stamp *stamp, uint8_t op,
                              uint64_t offset_bytes, uint64_t length_bytes) {
    struct row *row = row_of(context, stamp->time_ns);
    (void)offset_bytes;
    (void)length_bytes;
    if (row != NULL && op != UPDATE_FLUSH)
        row->gaps++;
    return true;
}

static bool add_strange_gap(void *context, const struct gap_entry *gap) {
    return gap_is_hearsay(gap->reason) || add_gap(context, gap);
}

static int fill_strange(struct timeline *t, const struct snapshot *s, const struct volume *v,
                        struct error *err) {
    int code = 0;
    for (size_t i = 0; i < v->stranger_count && code == 0; i++) {
        uint64_t path = v->strangers[i]->path;
        code = index_each_event(s->reader, path, t->from_ns, t->to_ns, add_strange_event, t, err);
        if (code == 0)
            code = index_each_gap(s->reader, path, t->to_ns, add_strange_gap, t, err);
    }
    return code;
}

static int fill(struct timeline *t, const struct snapshot *s, const struct volume *v,
                struct error *err) {
    int code = 0;
    for (size_t i = 0; i < v->path_count && code == 0; i++) {
        code =
            index_each_event(s->reader, v->paths[i].path, t->from_ns, t->to_ns, add_event, t, err);
        if (code == 0)
            code = index_each_gap(s->reader, v->paths[i].path, t->to_ns, add_gap, t, err);
    }
    return code;
}

static int plan(struct timeline *t, const struct volume *v, const json_t *request,
                struct error *err) {
    uint64_t last_ns = v->latest_ns > v->watermark_ns ? v->latest_ns : v->watermark_ns;
    int code = argument_number(request, "from_ns", v->first_ns, &t->from_ns, err);
    if (code == 0)
        code = argument_number(request, "to_ns", last_ns, &t->to_ns, err);
    if (code == 0)
        code = argument_number(request, "every_ns", 0, &t->every_ns, err);
    if (code < 0)
        return code;
    if (t->to_ns < t->from_ns)
        return error_set(err, ERR_NOT_FOUND, "nothing is known of %s in that time", v->name);
    uint64_t span = t->to_ns - t->from_ns;
    if (t->every_ns == 0)
        t->every_ns = span / DEFAULT_ROWS + 1;
    if (span / t->every_ns >= MAX_ROWS)
        return error_set(err, ERR_USAGE,
                         "--every: that makes more than %d rows; use longer intervals", MAX_ROWS);
    t->count = (size_t)(span / t->every_ns) + 1;
    t->rows = calloc(t->count, sizeof *t->rows);
    return t->rows != NULL ? 0 : error_set(err, ERR_NOMEM, "out of memory");
}

static json_t *row_fact(const struct timeline *t, size_t index) {
    const struct row *row = &t->rows[index];
    uint64_t from_ns = t->from_ns + index * t->every_ns;
    uint64_t left_ns = t->to_ns - from_ns;
    json_t *fact = json_pack("{s:o,s:o,s:o,s:o,s:o}", "updates", fact_number(row->updates), "bytes",
                             fact_number(row->bytes), "zeros", fact_number(row->zeros), "flushes",
                             fact_number(row->flushes), "gaps", fact_number(row->gaps));
    fact_put_time(fact, "from", from_ns);
    fact_put_time(fact, "to", left_ns < t->every_ns ? t->to_ns : from_ns + t->every_ns - 1);
    return fact;
}

int command_timeline(struct control *c, const json_t *request, json_t **result, struct buffer *data,
                     struct error *err) {
    AUTO_SNAPSHOT s = {0};
    const struct volume *v = NULL;
    struct timeline t = {0};
    (void)data;
    int code = snapshot_open(&s, c->store, err);
    if (code == 0)
        code = snapshot_volume(&s, request, &v, err);
    if (code == 0)
        code = plan(&t, v, request, err);
    if (code == 0)
        code = fill(&t, &s, v, err);
    if (code == 0)
        code = fill_strange(&t, &s, v, err);
    if (code == 0)
        *result = json_array();
    for (size_t i = 0; code == 0 && i < t.count; i++)
        json_array_append_new(*result, row_fact(&t, i));
    free(t.rows);
    return code;
}
