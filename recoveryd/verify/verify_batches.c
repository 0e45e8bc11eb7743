/* From the segments to the index: is every batch whole, and does the index know what is in it? */
#include "proto/message.h"
#include "proto/record.h"
#include "recoveryd/store/segment_file.h"
#include "recoveryd/verify/verify_internal.h"

#include <stdlib.h>
#include <string.h>

enum {
    WINDOW_BYTES = 2 * LIMIT_BATCH_BYTES, /* of a segment, in memory */
    STRETCHES = 256,                      /* of one segment; what is beyond goes to the last */
};

struct walk {
    struct verify *v;
    struct stream_entry *streams; /* by monitor, then stream */
    size_t stream_count;
    size_t stream_capacity;
    struct stream_entry key; /* to look one up with */
    struct segment_entry *segment;
    uint8_t *window;
    uint64_t window_at; /* where in the segment it begins */
    size_t window_bytes;
    struct rangeset absent; /* in the window: payloads that were reclaimed */
    uint64_t end;           /* of the segment, as far as it can be read */
    uint64_t known_end;     /* the index knows of nothing from here on */
    struct verify_stretch *stretches;
    size_t stretch_count;
    size_t unused_capacity;
    size_t listed_capacity;
    struct error *err;
};

/* --- what the index knows ------------------------------------------------------------------------
 */

static bool take_stream(void *context, const struct stream_entry *stream) {
    struct walk *w = context;
    if (!verify_grow(w->v, &w->streams, w->stream_count, &w->stream_capacity, sizeof *w->streams))
        return false;
    w->streams[w->stream_count++] = *stream;
    return true;
}

static int compare_streams(const void *left, const void *right) {
    const struct stream_entry *a = left;
    const struct stream_entry *b = right;
    if (a->monitor != b->monitor)
        return a->monitor < b->monitor ? -1 : 1;
    return a->stream < b->stream ? -1 : a->stream > b->stream;
}

static int read_streams(struct walk *w) {
    AUTO(index_reader) reader = NULL;
    int code = index_read(w->v->store->index, &reader, w->err);
    if (code == 0)
        code = index_each_stream(reader, take_stream, w, w->err);
    if (code == 0 && w->v->no_memory)
        code = error_set(w->err, ERR_NOMEM, "out of memory");
    if (code == 0 && w->stream_count > 1)
        qsort(w->streams, w->stream_count, sizeof *w->streams, compare_streams);
    return code;
}

static const struct stream_entry *find_stream(struct walk *w, const struct message_batch *batch) {
    w->key.monitor = batch->monitor;
    w->key.stream = batch->stream;
    if (w->stream_count == 0)
        return NULL;
    return bsearch(&w->key, w->streams, w->stream_count, sizeof w->key, compare_streams);
}

static bool has_mark(const struct stream_entry *stream, uint64_t order) {
    if (stream == NULL || order < stream->frontier)
        return stream != NULL;
    for (uint32_t i = 0; i < stream->run_count; i++) {
        if (order >= stream->runs[i].start && order < stream->runs[i].end)
            return true;
    }
    return false;
}

static bool is_base(const struct walk *w, uint64_t path) {
    for (size_t i = 0; i < w->v->target_count; i++) {
        if (w->v->targets[i].base && w->v->targets[i].path == path)
            return true;
    }
    return false;
}

/* --- what is wrong -------------------------------------------------------------------------------
 */

static void note(struct walk *w, uint64_t from, uint64_t to, const char *why) {
    struct verify_stretch *last = w->stretch_count > 0 ? &w->stretches[w->stretch_count - 1] : NULL;
    if (from >= to)
        return;
    if (last != NULL && (w->stretch_count == STRETCHES || last->offset + last->bytes >= from)) {
        last->bytes = to - last->offset;
        return;
    }
    struct verify_stretch *s = &w->stretches[w->stretch_count++];
    *s =
        (struct verify_stretch){.segment = w->segment->segment, .offset = from, .bytes = to - from};
    snprintf(s->why, sizeof s->why, "%s", why);
}

static bool list(struct walk *w, const struct verify_stretch *s) {
    struct verify_result *r = w->v->result;
    if (r->stretch_count == VERIFY_LISTED) {
        r->stretches_left_out++;
        return true;
    }
    if (!verify_grow(w->v, &r->stretches, r->stretch_count, &w->listed_capacity,
                     sizeof *r->stretches))
        return false;
    r->stretches[r->stretch_count++] = *s;
    return true;
}

/* Bytes that were durable once, as the index knows of something in or behind them, are damage. */
static int judge(struct walk *w) {
    struct verify_result *r = w->v->result;
    uint64_t known_end = w->segment->pointed_end;
    uint64_t torn = 0;
    if (w->known_end > known_end)
        known_end = w->known_end;
    for (size_t i = 0; i < w->stretch_count; i++) {
        const struct verify_stretch *s = &w->stretches[i];
        if (s->offset >= known_end)
            torn += s->bytes;
        else if (!list(w, s))
            return error_set(w->err, ERR_NOMEM, "out of memory");
    }
    r->torn_ends += torn > 0;
    r->torn_bytes += torn;
    return 0;
}

/* --- bytes ---------------------------------------------------------------------------------------
 */

/*
 * `bytes` of the segment from `at` on; NULL: they end before, or cannot be read (then the segment
 * ends here, w->end says where).
 */
static const uint8_t *see(struct walk *w, uint64_t at, size_t bytes, struct error *why) {
    if (at >= w->window_at && at + bytes <= w->window_at + w->window_bytes)
        return w->window + (at - w->window_at);
    if (at + bytes > w->end)
        return NULL;
    uint64_t left = w->end - at;
    uint32_t wanted = (uint32_t)(left < WINDOW_BYTES ? left : WINDOW_BYTES);
    struct extent extent = {w->segment->segment, wanted, at};
    w->window_bytes = 0;
    rangeset_clear(&w->absent);
    if (segments_read_present(w->v->store->segments, &extent, w->window, &w->absent, why) != 0)
        return NULL;
    w->window_at = at;
    w->window_bytes = wanted;
    return w->window;
}

/* The next place from `at` on where a batch begins; the end of the segment when there is none. */
static int find_batch(struct walk *w, uint64_t at, uint64_t *found) {
    struct error why;
    int code = 0;
    const uint8_t *head = see(w, at, BATCH_HEAD_BYTES, &why);
    while (code == 0 && head != NULL && message_batch_length(head) == 0) {
        at += SEGMENT_ALIGN;
        head = see(w, at, BATCH_HEAD_BYTES, &why);
        if (at % WINDOW_BYTES < SEGMENT_ALIGN)
            code = verify_advance(w->v, 0, w->err);
    }
    *found = head != NULL ? at : w->end;
    return code;
}

/* --- records -------------------------------------------------------------------------------------
 */

struct batch_walk {
    struct walk *w;
    const struct stream_entry *stream;
    uint64_t at; /* of the batch in the segment */
    const uint8_t *frame;
    bool made; /* a baseline's: known by its path */
    bool made_known;
    bool known; /* any record */
};

static void count_record(struct batch_walk *b, const struct record *r) {
    if (b->made && r->type == RECORD_UPDATE)
        b->made_known = is_base(b->w, r->update.path);
    bool known = b->made ? b->made_known : has_mark(b->stream, r->order);
    b->w->v->result->records++;
    b->w->v->result->unknown_records += !known;
    b->known = b->known || known;
}

static uint64_t place_of(const struct batch_walk *b, const uint8_t *byte) {
    return b->at + (uint64_t)(byte - b->frame);
}

/* Nothing points at it: verify_payloads() has found what does. */
static bool is_reclaimed(const struct batch_walk *b, const struct payload_record *p) {
    struct range part;
    uint64_t start = place_of(b, p->data);
    return rangeset_overlap(&b->w->absent, start, start + p->bytes, &part);
}

static void walk_records(struct batch_walk *b, const struct message_batch *batch,
                         struct cursor *body) {
    for (uint32_t i = 0; i < batch->records; i++) {
        struct record r;
        struct error why;
        uint64_t start = place_of(b, body->next);
        if (record_decode(body, &r, &why) != 0) {
            note(b->w, start, place_of(b, body->end), why.text);
            return;
        }
        count_record(b, &r);
        if (r.type == RECORD_PAYLOAD && is_reclaimed(b, &r.payload))
            b->w->v->result->reclaimed_bytes += r.payload.bytes;
        else if (r.type == RECORD_PAYLOAD && !record_payload_ok(&r.payload))
            note(b->w, place_of(b, r.payload.data), place_of(b, r.payload.data) + r.payload.bytes,
                 "the checksum of a payload does not match");
    }
    if (cursor_left(body) > 0)
        note(b->w, place_of(b, body->next), place_of(b, body->end),
             "bytes behind the last record of a batch");
}

static void walk_batch(struct walk *w, uint64_t at, const uint8_t *frame, size_t bytes) {
    struct message m;
    struct cursor body;
    struct error why;
    if (message_decode(frame, bytes, &m, &body, &why) != 0) {
        note(w, at, at + bytes, why.text);
        return;
    }
    struct batch_walk b = {.w = w,
                           .stream = find_stream(w, &m.batch),
                           .at = at,
                           .frame = frame,
                           .made = m.batch.monitor == 0};
    w->v->result->batches++;
    walk_records(&b, &m.batch, &body);
    if (b.known)
        w->known_end = at + bytes;
}

/* --- a segment -----------------------------------------------------------------------------------
 */

static int walk_batches(struct walk *w) {
    uint64_t at = SEGMENT_HEAD_BYTES;
    int code = verify_advance(w->v, at < w->end ? at : w->end, w->err);
    while (code == 0 && at < w->end) {
        struct error why = {.text = "no batch begins here"};
        const uint8_t *head = see(w, at, BATCH_HEAD_BYTES, &why);
        size_t length = head != NULL ? message_batch_length(head) : 0;
        const uint8_t *frame = length > 0 ? see(w, at, length, &why) : NULL;
        uint64_t next = w->end;
        if (frame != NULL) {
            walk_batch(w, at, frame, length);
            next = (at + length + SEGMENT_ALIGN - 1) / SEGMENT_ALIGN * SEGMENT_ALIGN;
        } else if (length > 0) {
            note(w, at, w->end, "the segment ends inside of a batch");
        } else {
            code = find_batch(w, at + SEGMENT_ALIGN, &next);
            note(w, at, next, why.text);
        }
        if (code == 0)
            code = verify_advance(w->v, (next < w->end ? next : w->end) - at, w->err);
        at = next;
    }
    return code;
}

static int list_unused(struct walk *w) {
    struct verify_result *r = w->v->result;
    if (r->unused_count == VERIFY_LISTED) {
        r->unused_left_out++;
        return 0;
    }
    if (!verify_grow(w->v, &r->unused, r->unused_count, &w->unused_capacity, sizeof *r->unused))
        return error_set(w->err, ERR_NOMEM, "out of memory");
    r->unused[r->unused_count++] = (struct verify_unused){w->segment->segment, w->segment->bytes};
    return 0;
}

/* A packed one takes less than its offsets say; one that grows has grown since. */
static uint64_t logical_end(const struct walk *w) {
    struct segment_size size;
    bool packed =
        segments_size(w->v->store->segments, w->segment->segment, &size, NULL) == 0 && size.packed;
    return packed ? size.logical_bytes : w->segment->bytes;
}

static int walk_segment(struct walk *w) {
    struct error why = {0};
    uint8_t byte;
    struct extent first = {w->segment->segment, 1, 0};
    w->window_bytes = 0;
    w->stretch_count = 0;
    w->known_end = 0;
    w->end = w->segment->bytes;
    w->v->result->segments++;
    w->v->result->segment_bytes += w->segment->bytes;
    /* Opening it looks at its head. One that was cut short when it was made holds nothing. */
    int code = segments_read(w->v->store->segments, &first, 0, &byte, 1, &why);
    if (code == ERR_IO) {
        if (w->err != NULL)
            *w->err = why;
        return code;
    }
    if (code != 0) {
        note(w, 0, w->end, why.text);
        w->known_end = w->end > SEGMENT_HEAD_BYTES ? w->end : 0;
        code = verify_advance(w->v, w->end, w->err);
    } else {
        w->end = logical_end(w);
        code = walk_batches(w);
    }
    if (code == 0)
        code = judge(w);
    return code == 0 && w->segment->pointed_end == 0 ? list_unused(w) : code;
}

int verify_batches(struct verify *v, struct error *err) {
    AUTO_FREE uint8_t *window = malloc(WINDOW_BYTES);
    AUTO_FREE struct verify_stretch *stretches = calloc(STRETCHES, sizeof *stretches);
    struct walk w = {.v = v, .window = window, .stretches = stretches, .err = err};
    if (window == NULL || stretches == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    rangeset_init(&w.absent, WINDOW_BYTES);
    int code = read_streams(&w);
    for (size_t i = 0; code == 0 && i < v->segment_count; i++) {
        w.segment = &v->segments[i];
        code = walk_segment(&w);
    }
    rangeset_release(&w.absent);
    free(w.streams);
    return code;
}
