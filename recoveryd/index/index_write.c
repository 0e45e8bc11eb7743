#include "recoveryd/index/index_internal.h"
#include "recoveryd/index/tally.h"
#include "recoveryd/index/values.h"

#include <string.h>

/* One put that waits; its value lies in the writer's `values`. */
struct put {
    struct kv_key key;
    uint8_t table; /* enum index_table */
    uint16_t value_bytes;
    uint32_t value_at;
    uint32_t sequence; /* of equal keys the last one put wins */
};

struct index_writer {
    struct kv *kv;
    struct kv_txn *txn; /* NULL until something had to be written down */
    struct put *puts;
    size_t count;
    size_t capacity;
    struct buffer values;
};

int index_begin(struct index *i, struct index_writer **out, struct error *err) {
    struct index_writer *w = calloc(1, sizeof *w);
    if (w == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    w->kv = i->kv;
    buffer_init(&w->values, 2 * INDEX_PENDING_BYTES);
    *out = w;
    return 0;
}

void index_abort(struct index_writer *w) {
    if (w == NULL)
        return;
    kv_abort(w->txn);
    buffer_release(&w->values);
    free(w->puts);
    free(w);
}

static int compare_puts(const void *left, const void *right) {
    const struct put *a = left;
    const struct put *b = right;
    if (a->table != b->table)
        return a->table < b->table ? -1 : 1;
    size_t shorter = a->key.length < b->key.length ? a->key.length : b->key.length;
    int order = memcmp(a->key.bytes, b->key.bytes, shorter);
    if (order != 0)
        return order;
    if (a->key.length != b->key.length)
        return a->key.length < b->key.length ? -1 : 1;
    return a->sequence < b->sequence ? -1 : 1;
}

/* A path is put together from all that was ever said of it. */
static int put_merged_path(struct index_writer *w, const struct put *put, struct error *err) {
    struct kv_item fresh = {
        cursor_of(put->key.bytes, put->key.length),
        cursor_of(w->values.data + put->value_at, put->value_bytes),
    };
    struct kv_item stored = fresh;
    struct path_entry path;
    struct path_entry before;
    int code = value_decode_path(fresh, &path, err);
    if (code != 0)
        return code;
    code = kv_get(w->txn, TABLE_PATHS, &put->key, &stored.value, err);
    if (code == 0)
        code = value_decode_path(stored, &before, err);
    if (code != 0 && code != ERR_NOT_FOUND)
        return code;
    if (code == 0)
        path_entry_merge(&path, &before);
    AUTO_BUFFER value;
    buffer_init(&value, 4096);
    value_encode_path(&value, &path);
    if (value.failed)
        return error_set(err, ERR_NOMEM, "out of memory");
    return kv_put(w->txn, TABLE_PATHS, &put->key, value.data, value.length, err);
}

/* An event that was not there yet counts, unless it is a flush point. */
static int put_counted_event(struct index_writer *w, const struct put *put, struct tally *tally,
                             struct error *err) {
    struct kv_item item = {cursor_of(put->key.bytes, put->key.length),
                           cursor_of(w->values.data + put->value_at, put->value_bytes)};
    struct event_entry event;
    struct stamp stamp;
    uint64_t path;
    bool fresh = false;
    int code = value_decode_event(item, &path, &stamp, &event, err);
    if (code == 0)
        code = kv_put_fresh(w->txn, TABLE_EVENTS, &put->key, w->values.data + put->value_at,
                            put->value_bytes, &fresh, err);
    if (code != 0 || !fresh || event.op == UPDATE_FLUSH)
        return code;
    return tally_add(tally, w->txn, path, stamp.time_ns, err);
}

static int apply(struct index_writer *w, const struct put *put, struct tally *tally,
                 struct error *err) {
    if (put->table == TABLE_PATHS)
        return put_merged_path(w, put, err);
    if (put->table == TABLE_EVENTS)
        return put_counted_event(w, put, tally, err);
    return kv_put(w->txn, put->table, &put->key, w->values.data + put->value_at, put->value_bytes,
                  err);
}

/* What waits goes into the transaction, sorted. */
static int flush(struct index_writer *w, struct error *err) {
    struct tally tally = {0};
    int code = w->txn == NULL ? kv_write(w->kv, &w->txn, err) : 0;
    if (w->count > 1)
        qsort(w->puts, w->count, sizeof *w->puts, compare_puts);
    for (size_t i = 0; code == 0 && i < w->count; i++)
        code = apply(w, &w->puts[i], &tally, err);
    if (code == 0)
        code = tally_flush(&tally, w->txn, err);
    w->count = 0;
    buffer_clear(&w->values);
    return code;
}

int index_commit(struct index_writer *w, struct error *err) {
    int code = w->count > 0 ? flush(w, err) : 0;
    if (code == 0 && w->txn != NULL)
        code = kv_commit(take_pointer(&w->txn), err);
    index_abort(w);
    return code;
}

static bool grow(struct index_writer *w) {
    size_t capacity = w->capacity > 0 ? w->capacity * 2 : 256;
    struct put *puts = realloc(w->puts, capacity * sizeof *puts);
    if (puts == NULL)
        return false;
    w->puts = puts;
    w->capacity = capacity;
    return true;
}

/* Begins a put: the value is what the caller then appends to w->values, until end_put(). */
static int begin_put(struct index_writer *w, enum index_table table, struct kv_key key,
                     struct error *err) {
    if (w->count * sizeof *w->puts + w->values.length >= INDEX_PENDING_BYTES) {
        int code = flush(w, err);
        if (code != 0)
            return code;
    }
    if (w->count == w->capacity && !grow(w))
        return error_set(err, ERR_NOMEM, "out of memory");
    w->puts[w->count] = (struct put){.key = key,
                                     .table = (uint8_t)table,
                                     .value_at = (uint32_t)w->values.length,
                                     .sequence = (uint32_t)w->count};
    return 0;
}

static int end_put(struct index_writer *w, struct error *err) {
    struct put *put = &w->puts[w->count];
    size_t bytes = w->values.length - put->value_at;
    if (w->values.failed || bytes > UINT16_MAX)
        return error_set(err, ERR_NOMEM, "out of memory");
    put->value_bytes = (uint16_t)bytes;
    w->count++;
    return 0;
}

static int put_piece(struct index_writer *w, uint64_t path, uint64_t level_chunk,
                     const struct piece *piece, struct error *err) {
    int code = begin_put(w, TABLE_PIECES, key_piece(path, level_chunk, &piece->stamp), err);
    if (code != 0)
        return code;
    value_encode_piece(&w->values, piece);
    return end_put(w, err);
}

/* Cuts `whole` at the boundaries of the chunks of its level. */
static int put_pieces(struct index_writer *w, uint64_t path, const struct piece *whole,
                      struct error *err) {
    unsigned level = level_of_range(whole->offset_bytes, whole->length_bytes);
    uint64_t end = whole->offset_bytes + whole->length_bytes;
    for (uint64_t at = whole->offset_bytes; at < end;) {
        uint64_t number = at >> level_shift(level);
        uint64_t next = (number + 1) << level_shift(level);
        struct piece part = *whole;
        part.offset_bytes = at;
        part.length_bytes = (next < end ? next : end) - at;
        int code = put_piece(w, path, level_chunk(level, number), &part, err);
        if (code != 0)
            return code;
        at += part.length_bytes;
    }
    return 0;
}

static int put_event(struct index_writer *w, const struct stamp *stamp,
                     const struct update_record *u, struct error *err) {
    int code = begin_put(w, TABLE_EVENTS, key_stamped(u->path, stamp), err);
    if (code != 0)
        return code;
    value_encode_event(&w->values,
                       &(struct event_entry){u->offset_bytes, u->length_bytes, u->flags, u->op});
    return end_put(w, err);
}

static bool range_fits(uint64_t offset, uint64_t length) {
    return length <= INT64_MAX && offset <= INT64_MAX - length;
}

int index_put_update(struct index_writer *w, const struct stamp *stamp,
                     const struct update_record *update, const struct extent *payload,
                     struct error *err) {
    static const uint8_t kinds[] = {[UPDATE_WRITE] = PIECE_DATA,
                                    [UPDATE_ZERO] = PIECE_ZERO,
                                    [UPDATE_PATTERN] = PIECE_PATTERN,
                                    [UPDATE_FLUSH] = 0};
    if (update->op < UPDATE_WRITE || update->op > UPDATE_FLUSH ||
        !range_fits(update->offset_bytes, update->length_bytes))
        return error_set(err, ERR_FORMAT, "an update with an impossible operation or range");
    bool has_payload = update->op == UPDATE_WRITE || update->op == UPDATE_PATTERN;
    if (has_payload && (payload == NULL || payload->bytes != update->payload_bytes))
        return error_set(err, ERR_FORMAT, "an update without its payload");
    int code = put_event(w, stamp, update, err);
    if (code != 0 || update->op == UPDATE_FLUSH)
        return code;
    struct piece piece = {.stamp = *stamp,
                          .issued_ns = update->issued_ns,
                          .offset_bytes = update->offset_bytes,
                          .length_bytes = update->length_bytes,
                          .whole_offset = update->offset_bytes,
                          .payload_crc32c = update->payload_crc32c,
                          .kind = kinds[update->op]};
    if (has_payload)
        piece.extent = *payload;
    return put_pieces(w, update->path, &piece, err);
}

static int put_gap_entry(struct index_writer *w, const struct stamp *stamp,
                         const struct gap_record *gap, const char *text, struct error *err) {
    struct gap_entry entry = {.offset_bytes = gap->offset_bytes,
                              .length_bytes = gap->length_bytes,
                              .issued_ns = gap->issued_ns,
                              .reason = gap->reason};
    snprintf(entry.text, sizeof entry.text, "%s", text);
    int code = begin_put(w, TABLE_GAPS, key_stamped(gap->path, stamp), err);
    if (code != 0)
        return code;
    value_encode_gap(&w->values, &entry);
    return end_put(w, err);
}

int index_put_gap(struct index_writer *w, const struct stamp *stamp, const struct gap_record *gap,
                  struct error *err) {
    bool to_end = gap->length_bytes == GAP_TO_END;
    if (gap->path == 0 || (!to_end && !range_fits(gap->offset_bytes, gap->length_bytes)))
        return error_set(err, ERR_FORMAT, "a gap with an impossible path or range");
    char text[LIMIT_REASON_BYTES + 1];
    snprintf(text, sizeof text, "%.*s", (int)gap->text_bytes, gap->text != NULL ? gap->text : "");
    int code = put_gap_entry(w, stamp, gap, text, err);
    if (code != 0)
        return code;
    /* An offset that no volume reaches says nothing that can be relied on: the whole path. */
    if (to_end && (gap->offset_bytes == 0 || gap->offset_bytes > INT64_MAX)) {
        struct floor floor = {.stamp = *stamp, .kind = FLOOR_GAP, .reason = gap->reason};
        snprintf(floor.text, sizeof floor.text, "%s", text);
        return index_put_floor(w, gap->path, &floor, err);
    }
    struct piece piece = {.stamp = *stamp,
                          .issued_ns = gap->issued_ns,
                          .offset_bytes = gap->offset_bytes,
                          .length_bytes =
                              to_end ? (UINT64_C(1) << 63) - gap->offset_bytes : gap->length_bytes,
                          .kind = PIECE_GAP,
                          .reason = gap->reason};
    return put_pieces(w, gap->path, &piece, err);
}

int index_put_floor(struct index_writer *w, uint64_t path, const struct floor *floor,
                    struct error *err) {
    int code = begin_put(w, TABLE_FLOORS, key_floor(path, &floor->stamp, floor->kind), err);
    if (code != 0)
        return code;
    value_encode_floor(&w->values, floor);
    return end_put(w, err);
}

static void take_name(char to[LIMIT_NAME_BYTES + 1], const char *name, uint16_t bytes) {
    snprintf(to, LIMIT_NAME_BYTES + 1, "%.*s", (int)bytes, name != NULL ? name : "");
}

int index_put_path(struct index_writer *w, uint64_t monitor, uint64_t stream,
                   const struct path_record *path, struct error *err) {
    struct path_entry entry = {.path = path->path,
                               .first_ns = path->time_ns,
                               .last_ns = path->time_ns,
                               .lun = path->lun,
                               .size_bytes = path->size_bytes,
                               .size_ns = path->time_ns,
                               .designator_ns = path->time_ns,
                               .serial_ns = path->time_ns,
                               .block_ns = path->time_ns,
                               .block_bytes = path->block_bytes,
                               .flags = path->flags,
                               .protocol = path->protocol};
    take_name(entry.target, path->target, path->target_bytes);
    take_name(entry.designator, path->designator, path->designator_bytes);
    take_name(entry.serial, path->serial, path->serial_bytes);
    int code = begin_put(w, TABLE_PATHS, key_path(path->path), err);
    if (code != 0)
        return code;
    value_encode_path(&w->values, &entry);
    code = end_put(w, err);
    if (code != 0)
        return code;
    code = begin_put(w, TABLE_PATH_STREAMS, key_path_stream(path->path, monitor, stream), err);
    return code == 0 ? end_put(w, err) : code;
}

int index_put_stream(struct index_writer *w, const struct stream_entry *stream, struct error *err) {
    if (stream->run_count > STREAM_RUNS)
        return error_set(err, ERR_FULL, "a stream with more than %d open runs", STREAM_RUNS);
    int code = begin_put(w, TABLE_STREAMS, key_stream(stream->monitor, stream->stream), err);
    if (code != 0)
        return code;
    value_encode_stream(&w->values, stream);
    return end_put(w, err);
}
