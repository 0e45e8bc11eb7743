#include "recoveryd/receive/commit.h"

#include "recoveryd/receive/marks.h"
#include "recoveryd/receive/restart.h"

#include <stdlib.h>

void touched_release(struct touched *t) {
    free(t->done);
    t->done = NULL;
}

static bool is_end(const struct record *r) {
    return r->type == RECORD_FRONTIER && (r->frontier.flags & FRONTIER_END) != 0;
}

static void count_record(struct stream_entry *entry, const struct record *r) {
    if (r->order == 0)
        entry->first_ns = record_time_ns(r);
    if (r->type == RECORD_UPDATE && r->update.op != UPDATE_FLUSH) {
        entry->updates++;
        entry->bytes += r->update.length_bytes;
    }
    if (r->type != RECORD_FRONTIER)
        return;
    const struct frontier_record *f = &r->frontier;
    if (f->wall_ns >= entry->heard_ns) {
        entry->heard_ns = f->wall_ns;
        entry->clock_error_ns = f->clock_error_ns;
    }
    if (f->clock_error_ns > entry->clock_error_max_ns)
        entry->clock_error_max_ns = f->clock_error_ns;
    if (f->packets > entry->packets)
        entry->packets = f->packets;
    if (f->dropped > entry->dropped)
        entry->dropped = f->dropped;
    if (is_end(r))
        entry->ended = true;
}

/* True: in this commit, and `next` says so. */
static bool take(struct touched *t, const struct arrival *a) {
    bool begun = t->next.frontier > 0;
    if (!begun && a->order != 0)
        return false;
    if (is_end(&a->control) && a->order != t->next.frontier)
        return false;
    if (!marks_add(&t->next, a->order, marks_promise(&a->control)))
        return false;
    count_record(&t->next, &a->control);
    return true;
}

int commit_plan(struct touched *t, struct stream *stream, struct error *err) {
    waiting_sort(&stream->waiting);
    size_t count = stream->waiting.whole_count;
    *t = (struct touched){.stream = stream, .next = stream->entry};
    t->done = calloc(count > 0 ? count : 1, sizeof *t->done);
    if (t->done == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    for (size_t i = 0; i < count; i++) {
        const struct arrival *a = &stream->waiting.whole[i];
        t->done[i] = marks_have(&stream->entry, a->order);
        if (t->done[i] || !take(t, a))
            continue;
        t->done[i] = true;
        t->fresh++;
    }
    return 0;
}

static int put_resume(struct index_writer *w, const struct stream_entry *entry,
                      const struct resume_record *r, struct error *err) {
    struct resume_entry resume = {.path = r->path,
                                  .monitor = entry->monitor,
                                  .stream = entry->stream,
                                  .earlier = r->stream,
                                  .order = r->order};
    return index_put_resume(w, &resume, err);
}

static int put_record(struct index_writer *w, const struct stream_entry *entry,
                      const struct arrival *a, struct error *err) {
    const struct record *r = &a->control;
    struct stamp stamp = {record_time_ns(r), entry->monitor, entry->stream, a->order};
    switch (r->type) {
    case RECORD_UPDATE:
        return index_put_update(w, &stamp, &r->update, a->has_payload ? &a->payload : NULL, err);
    case RECORD_GAP:
        return index_put_gap(w, &stamp, &r->gap, err);
    case RECORD_PATH:
        return index_put_path(w, entry->monitor, entry->stream, &r->path, err);
    case RECORD_AUDIT:
        return index_put_audit(w, &stamp, &r->audit, err);
    case RECORD_RESUME:
        return put_resume(w, entry, &r->resume, err);
    default:
        return 0; /* a FRONTIER is in the stream's entry */
    }
}

static int put_stream(struct index *index, struct index_writer *w, const struct touched *t,
                      struct error *err) {
    const struct stream *stream = t->stream;
    int code = 0;
    if (!stream->stored)
        code = restart_put_gaps(index, w, &t->next, t->next.first_ns, err);
    for (size_t i = 0; i < stream->waiting.whole_count && code == 0; i++) {
        const struct arrival *a = &stream->waiting.whole[i];
        if (t->done[i] && !marks_have(&stream->entry, a->order))
            code = put_record(w, &t->next, a, err);
    }
    return code < 0 ? code : index_put_stream(w, &t->next, err);
}

int commit_write(struct index *index, const struct touched *touched, size_t count,
                 struct error *err) {
    struct index_writer *w;
    int code = index_begin(index, &w, err);
    if (code < 0)
        return code;
    for (size_t i = 0; i < count && code == 0; i++) {
        if (touched[i].fresh > 0)
            code = put_stream(index, w, &touched[i], err);
    }
    if (code == 0)
        return index_commit(w, err);
    index_abort(w);
    return code;
}

void commit_finish(struct streams *streams, struct touched *t) {
    if (t->fresh > 0)
        streams_install(streams, t->stream, &t->next);
    waiting_remove(&t->stream->waiting, t->done);
}
