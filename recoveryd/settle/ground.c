#include "recoveryd/settle/internal.h"

#include "recoveryd/store/made_write.h"

#include <stdlib.h>

int ground_create(struct store *s, struct ground *g, struct error *err) {
    *g = (struct ground){.store = s};
    buffer_init(&g->batch, INDEX_CHUNK_BYTES + MADE_WRITE_ROOM_BYTES);
    g->segment = segments_writer_create(s->segments);
    g->content = malloc(INDEX_CHUNK_BYTES);
    g->operand = malloc(INDEX_CHUNK_BYTES);
    if (g->segment == NULL || g->content == NULL || g->operand == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    return 0;
}

static void leave(struct ground *g) {
    index_abort(take_pointer(&g->writer));
    volume_list_release(&g->volumes);
    index_reader_close(take_pointer(&g->reader));
}

void ground_release(struct ground *g) {
    leave(g);
    segments_writer_destroy(g->segment);
    buffer_release(&g->batch);
    free(g->content);
    free(g->operand);
}

/* The facts come first: what changes between them and an image that is opened later shows when the
 * writer commits. */
int ground_renew(struct ground *g, struct error *err) {
    leave(g);
    int code = index_read(g->store->index, &g->reader, err);
    if (code == 0)
        code = index_facts(g->reader, &g->facts, err);
    if (code == 0)
        code = volume_list_read(g->reader, &g->volumes, err);
    g->latest_ns = 0;
    for (size_t i = 0; i < g->volumes.count; i++) {
        if (g->volumes.volumes[i].watermark_ns > g->latest_ns)
            g->latest_ns = g->volumes.volumes[i].watermark_ns;
    }
    return code;
}

struct index_writer *ground_writer(struct ground *g, struct error *err) {
    if (g->writer == NULL && index_begin(g->store->index, &g->writer, err) == 0)
        index_rely_on_facts(g->writer, g->facts);
    return g->writer;
}

int ground_commit(struct ground *g, struct error *err) {
    int code = g->bytes > 0 ? segments_sync(g->segment, err) : 0;
    if (code == 0 && g->writer != NULL)
        code = index_commit(take_pointer(&g->writer), err);
    if (code == 0)
        g->bytes = 0;
    return code;
}

int ground_append(struct ground *g, const struct derived_entry *d, uint64_t offset, uint32_t bytes,
                  const uint8_t *content, struct extent *extent, uint32_t *crc, struct error *err) {
    struct record update = {.type = RECORD_UPDATE,
                            .order = d->stamp.order,
                            .update = {.time_ns = d->stamp.time_ns,
                                       .issued_ns = d->issued_ns,
                                       .path = d->path,
                                       .offset_bytes = offset,
                                       .length_bytes = bytes,
                                       .block_bytes = d->block_bytes,
                                       .op = UPDATE_WRITE,
                                       .payload_bytes = bytes}};
    int code = made_write_append(g->segment, &g->batch, d->stamp.monitor, d->stamp.stream, &update,
                                 content, extent, err);
    if (code != 0)
        return code;
    *crc = update.update.payload_crc32c;
    g->bytes += g->batch.length;
    return 0;
}

int ground_clock_error(struct ground *g, const struct volume *v, uint64_t monitor,
                       uint64_t *error_ns, bool *alone, struct error *err) {
    struct clock_table clocks = {0};
    int code = 0;
    for (size_t i = 0; code == 0 && i < v->path_count; i++)
        code = clock_table_add_path(&clocks, g->reader, v->paths[i].path, err);
    for (size_t i = 0; code == 0 && i < v->stranger_count; i++)
        code = clock_table_add_path(&clocks, g->reader, v->strangers[i]->path, err);
    clock_table_add(&clocks, monitor);
    if (code == 0)
        code = clock_table_read_errors(&clocks, g->reader, err);
    *error_ns = 0;
    *alone = clocks.count == 1;
    for (size_t i = 0; i < clocks.count; i++) {
        uint64_t apart = clock_table_between(&clocks, monitor, clocks.rows[i].monitor);
        if (apart > *error_ns)
            *error_ns = apart;
    }
    return code;
}

struct flight {
    struct rangeset *busy;
    uint64_t start;
    uint64_t end;
    uint64_t moment_ns;
    bool failed;
};

static bool see_flight(void *context, const struct piece *p) {
    struct flight *f = context;
    uint64_t end = p->offset_bytes + p->length_bytes;
    if (p->stamp.time_ns <= f->moment_ns)
        return false;
    if (p->issued_ns == 0 || p->issued_ns > f->moment_ns || p->offset_bytes >= f->end ||
        end <= f->start)
        return true;
    uint64_t from = p->offset_bytes > f->start ? p->offset_bytes : f->start;
    f->failed = !rangeset_add(f->busy, from, end < f->end ? end : f->end);
    return !f->failed;
}

int ground_in_flight(struct ground *g, const struct volume *v, uint64_t start, uint64_t end,
                     uint64_t moment_ns, struct rangeset *busy, struct error *err) {
    struct flight f = {.busy = busy, .start = start, .end = end, .moment_ns = moment_ns};
    uint64_t chunk = start / INDEX_CHUNK_BYTES;
    uint64_t until_ns = clock_plus(moment_ns, INDEX_IN_FLIGHT_NS);
    int code = 0;
    for (size_t i = 0; code == 0 && i < v->path_count; i++)
        code = index_each_piece(g->reader, v->paths[i].path, chunk, until_ns, see_flight, &f, err);
    for (size_t i = 0; code == 0 && i < v->stranger_count; i++)
        code = index_each_piece(g->reader, v->strangers[i]->path, chunk, until_ns, see_flight, &f,
                                err);
    if (code == 0 && f.failed)
        code = error_set(err, ERR_NOMEM, "out of memory");
    return code;
}

struct other_gaps {
    uint64_t monitor;
    uint64_t moment_ns;
    bool found;
};

static bool see_other_gap(void *context, const struct floor *floor) {
    struct other_gaps *o = context;
    if (floor->stamp.time_ns <= o->moment_ns)
        return false;
    o->found = floor->kind == FLOOR_GAP && floor->stamp.monitor != o->monitor;
    return !o->found;
}

static bool see_strange_gap(void *context, const struct floor *floor) {
    return gap_is_hearsay(floor->reason) || see_other_gap(context, floor);
}

int ground_others_lost(struct ground *g, const struct volume *v, uint64_t monitor,
                       uint64_t moment_ns, bool *lost, struct error *err) {
    struct other_gaps o = {.monitor = monitor, .moment_ns = moment_ns};
    uint64_t until_ns = clock_plus(moment_ns, INDEX_IN_FLIGHT_NS);
    int code = 0;
    for (size_t i = 0; code == 0 && !o.found && i < v->path_count; i++)
        code = index_each_floor(g->reader, v->paths[i].path, until_ns, see_other_gap, &o, err);
    for (size_t i = 0; code == 0 && !o.found && i < v->stranger_count; i++)
        code =
            index_each_floor(g->reader, v->strangers[i]->path, until_ns, see_strange_gap, &o, err);
    *lost = o.found;
    return code;
}
