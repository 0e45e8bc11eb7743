#include "recoveryd/index/index_internal.h"
#include "recoveryd/index/tally.h"
#include "recoveryd/index/values.h"

#include <string.h>

int index_begin(struct index *i, struct index_writer **out, struct error *err) {
    struct index_writer *w = calloc(1, sizeof *w);
    if (w == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    w->kv = i->kv;
    w->unmerged_most = i->unmerged_most;
    buffer_init(&w->values, 2 * INDEX_PENDING_BYTES);
    *out = w;
    return 0;
}

void index_abort(struct index_writer *w) {
    if (w == NULL)
        return;
    kv_abort(w->txn);
    buffer_release(&w->values);
    changes_release(&w->changes);
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

/* An event that was not there yet counts, unless it is a flush point. */
static int put_counted_event(struct index_writer *w, const struct put *put, struct tally *tally,
                             struct error *err) {
    struct kv_item item = put_item(w, put);
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

/* A key that was not there upsets what was settled without it. */
static int put_upsetting(struct index_writer *w, const struct put *put, bool resolved,
                         struct error *err) {
    bool fresh = false;
    int code = kv_put_fresh(w->txn, put->table, &put->key, w->values.data + put->value_at,
                            put->value_bytes, &fresh, err);
    if (code == 0 && fresh)
        upset_add(&w->upset, resolved, 0);
    return code;
}

/* A stream that begins to see a path may know of updates since then. */
static int put_path_stream(struct index_writer *w, const struct put *put, struct error *err) {
    struct kv_item item = put_item(w, put);
    bool fresh = false;
    uint64_t since_ns = cursor_le64(&item.value);
    int code = kv_put_fresh(w->txn, TABLE_PATH_STREAMS, &put->key, "", 0, &fresh, err);
    if (code == 0 && fresh)
        upset_add(&w->upset, true, since_ns);
    return code;
}

/* A baseline changes the content of everything after it. */
static int put_floor(struct index_writer *w, const struct put *put, struct error *err) {
    struct kv_item item = put_item(w, put);
    uint64_t path;
    struct floor floor;
    int code = value_decode_floor(item, &path, &floor, err);
    if (code == 0)
        code = kv_put(w->txn, TABLE_FLOORS, &put->key, item.value.next, put->value_bytes, err);
    if (code == 0 && floor.kind == FLOOR_ZERO)
        upset_add(&w->upset, true, floor.stamp.time_ns);
    return code;
}

static int take(struct index_writer *w, const struct put *put, struct error *err) {
    bool found = false;
    int code = kv_delete(w->txn, put->table, &put->key, &found, err);
    if (code != 0 || found || put->kind == PUT_DELETE)
        return code;
    return error_set(err, ERR_BUSY, "somebody else has settled the same already");
}

static int apply_value(struct index_writer *w, const struct put *put, struct tally *tally,
                       struct error *err) {
    switch ((enum index_table)put->table) {
    case TABLE_PATHS:
        return put_merged_path(w, put, err);
    case TABLE_SIZES:
        return put_merged_size(w, put, err);
    case TABLE_AUDITED:
        return put_merged_audited(w, put, err);
    case TABLE_EVENTS:
        return put_counted_event(w, put, tally, err);
    case TABLE_FLOORS:
        return put_floor(w, put, err);
    case TABLE_PATH_STREAMS:
        return put_path_stream(w, put, err);
    case TABLE_JOINS:
        return put_upsetting(w, put, true, err);
    case TABLE_RESUMES:
        return put_upsetting(w, put, false, err);
    default:
        return kv_put(w->txn, put->table, &put->key, w->values.data + put->value_at,
                      put->value_bytes, err);
    }
}

static int apply(struct index_writer *w, const struct put *put, struct tally *tally,
                 struct error *err) {
    switch ((enum put_kind)put->kind) {
    case PUT_DELETE:
    case PUT_TAKE:
        return take(w, put, err);
    case PUT_CLEAR:
        return kv_delete_prefix(w->txn, put->table, &put->key, err);
    case PUT_VALUE:
        break;
    }
    return apply_value(w, put, tally, err);
}

int writer_flush(struct index_writer *w, struct error *err) {
    struct tally tally = {0};
    int code = w->txn == NULL ? kv_write(w->kv, &w->txn, err) : 0;
    if (w->count > 1)
        qsort(w->puts, w->count, sizeof *w->puts, compare_puts);
    for (size_t i = 0; code == 0 && i < w->count; i++)
        code = apply(w, &w->puts[i], &tally, err);
    if (code == 0)
        code = tally_flush(&tally, w->txn, err);
    if (code == 0 && w->changes.count > 0)
        code = journal_append(w->txn, &w->changes, err);
    w->changes.count = 0;
    w->count = 0;
    buffer_clear(&w->values);
    return code;
}

void index_rely_on_facts(struct index_writer *w, uint64_t facts) {
    w->checks_facts = true;
    w->facts = facts;
}

static int check_facts(struct index_writer *w, struct error *err) {
    uint64_t facts;
    int code = facts_read(w->txn, &facts, err);
    if (code != 0 || facts == w->facts)
        return code;
    return error_set(err, ERR_BUSY, "what this relied on has changed meanwhile");
}

/* Whoever merges does not keep up, or there is nobody who does. */
static int bound_journal(struct index_writer *w, struct error *err) {
    uint64_t blocks;
    bool merged;
    int code = journal_blocks(w->txn, &blocks, err);
    return code == 0 && blocks > w->unmerged_most ? merge_step(w->txn, &merged, err) : code;
}

int index_commit(struct index_writer *w, struct error *err) {
    int code = w->count > 0 || w->changes.count > 0 ? writer_flush(w, err) : 0;
    if (code == 0 && w->txn != NULL && w->checks_facts)
        code = check_facts(w, err);
    if (code == 0 && w->txn != NULL)
        code = flights_upset(w, err);
    if (code == 0 && w->upset.facts)
        code = upset_apply(w, err);
    if (code == 0 && w->txn != NULL)
        code = bound_journal(w, err);
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

static int writer_make_room(struct index_writer *w, struct error *err) {
    size_t bytes = w->count * sizeof *w->puts + w->values.length +
                   w->changes.count * sizeof w->changes.list[0];
    return bytes >= INDEX_PENDING_BYTES ? writer_flush(w, err) : 0;
}

int writer_begin(struct index_writer *w, enum index_table table, enum put_kind kind,
                 const struct kv_key *key, struct error *err) {
    int code = writer_make_room(w, err);
    if (code != 0)
        return code;
    if (w->count == w->capacity && !grow(w))
        return error_set(err, ERR_NOMEM, "out of memory");
    w->puts[w->count] = (struct put){.key = *key,
                                     .table = (uint8_t)table,
                                     .kind = (uint8_t)kind,
                                     .value_at = (uint32_t)w->values.length,
                                     .sequence = (uint32_t)w->count};
    return 0;
}

int writer_end(struct index_writer *w, struct error *err) {
    struct put *put = &w->puts[w->count];
    size_t bytes = w->values.length - put->value_at;
    if (w->values.failed || bytes > UINT16_MAX)
        return error_set(err, ERR_NOMEM, "out of memory");
    put->value_bytes = (uint16_t)bytes;
    w->count++;
    return 0;
}

int writer_mark(struct index_writer *w, enum index_table table, enum put_kind kind,
                const struct kv_key *key, struct error *err) {
    int code = writer_begin(w, table, kind, key, err);
    return code == 0 ? writer_end(w, err) : code;
}

static int begin_put(struct index_writer *w, enum index_table table, struct kv_key key,
                     struct error *err) {
    return writer_begin(w, table, PUT_VALUE, &key, err);
}

static int put_piece(struct index_writer *w, uint64_t path, uint64_t level_chunk,
                     const struct piece *piece, bool clear, struct error *err) {
    struct kv_key key = key_piece(path, level_chunk, &piece->stamp);
    int code = clear ? writer_mark(w, TABLE_PIECES, PUT_CLEAR, &key, err) : 0;
    key_add_part(&key, piece->part);
    if (code == 0)
        code = begin_put(w, TABLE_PIECES, key, err);
    if (code != 0)
        return code;
    value_encode_piece(&w->values, piece);
    return writer_end(w, err);
}

int writer_put_pieces(struct index_writer *w, uint64_t path, const struct piece *whole, bool clear,
                      struct error *err) {
    unsigned level = level_of_range(whole->offset_bytes, whole->length_bytes);
    uint64_t end = whole->offset_bytes + whole->length_bytes;
    for (uint64_t at = whole->offset_bytes; at < end;) {
        uint64_t number = at >> level_shift(level);
        uint64_t next = (number + 1) << level_shift(level);
        struct piece part = *whole;
        part.offset_bytes = at;
        part.length_bytes = (next < end ? next : end) - at;
        int code = put_piece(w, path, level_chunk(level, number), &part, clear, err);
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
    return writer_end(w, err);
}

static bool range_fits(uint64_t offset, uint64_t length) {
    return length <= INT64_MAX && offset <= INT64_MAX - length;
}

/* Into the journal: nothing else has to be done at the commit. */
static int put_change(struct index_writer *w, const struct stamp *stamp,
                      const struct update_record *u, const struct extent *payload,
                      struct error *err) {
    struct change c = {.stamp = *stamp,
                       .path = u->path,
                       .issued_ns = u->issued_ns,
                       .offset_bytes = u->offset_bytes,
                       .length_bytes = u->length_bytes,
                       .whole_offset = u->offset_bytes,
                       .payload_crc32c = u->payload_crc32c,
                       .flags = u->flags,
                       .op = u->op};
    if (u->op == UPDATE_WRITE || u->op == UPDATE_PATTERN)
        c.extent = *payload;
    if (!change_is_sound(&c))
        return error_set(err, ERR_FORMAT, "an update with an impossible range or payload");
    int code = writer_make_room(w, err);
    if (code == 0 && !changes_add(&w->changes, &c))
        code = error_set(err, ERR_NOMEM, "out of memory");
    return code;
}

static bool is_derived(const struct update_record *u) {
    return u->op == UPDATE_COPY || u->op == UPDATE_OR || u->op == UPDATE_XOR;
}

int index_put_update(struct index_writer *w, const struct stamp *stamp,
                     const struct update_record *update, const struct extent *payload,
                     struct error *err) {
    if (update->op < UPDATE_WRITE || update->op > UPDATE_XOR ||
        !range_fits(update->offset_bytes, update->length_bytes))
        return error_set(err, ERR_FORMAT, "an update with an impossible operation or range");
    bool has_payload = update->op == UPDATE_WRITE || update->op == UPDATE_PATTERN ||
                       update->op == UPDATE_OR || update->op == UPDATE_XOR;
    if (has_payload && (payload == NULL || payload->bytes != update->payload_bytes))
        return error_set(err, ERR_FORMAT, "an update without its payload");
    if (update->op != UPDATE_FLUSH)
        flights_add(&w->flights, update->issued_ns, stamp->time_ns, update->offset_bytes,
                    update->length_bytes);
    if (!is_derived(update))
        return put_change(w, stamp, update, payload, err);
    int code = put_event(w, stamp, update, err);
    if (code != 0 || update->length_bytes == 0)
        return code;
    return derived_put(w, stamp, update, payload, err);
}

int writer_put_gap_entry(struct index_writer *w, const struct stamp *stamp, uint64_t part,
                         const struct gap_record *gap, struct error *err) {
    struct gap_entry entry = {.offset_bytes = gap->offset_bytes,
                              .length_bytes = gap->length_bytes,
                              .issued_ns = gap->issued_ns,
                              .reason = gap->reason};
    snprintf(entry.text, sizeof entry.text, "%.*s", (int)gap->text_bytes,
             gap->text != NULL ? gap->text : "");
    struct kv_key key = key_stamped(gap->path, stamp);
    key_add_part(&key, part);
    int code = begin_put(w, TABLE_GAPS, key, err);
    if (code != 0)
        return code;
    value_encode_gap(&w->values, &entry);
    return writer_end(w, err);
}

int index_put_gap(struct index_writer *w, const struct stamp *stamp, const struct gap_record *gap,
                  struct error *err) {
    bool to_end = gap->length_bytes == GAP_TO_END;
    if (gap->path == 0 || (!to_end && !range_fits(gap->offset_bytes, gap->length_bytes)))
        return error_set(err, ERR_FORMAT, "a gap with an impossible path or range");
    int code = writer_put_gap_entry(w, stamp, 0, gap, err);
    if (code != 0)
        return code;
    flights_add(&w->flights, gap->issued_ns, stamp->time_ns, gap->offset_bytes, gap->length_bytes);
    /* An offset that no volume reaches says nothing that can be relied on: the whole path. */
    if (to_end && (gap->offset_bytes == 0 || gap->offset_bytes > INT64_MAX)) {
        struct floor floor = {.stamp = *stamp, .kind = FLOOR_GAP, .reason = gap->reason};
        snprintf(floor.text, sizeof floor.text, "%.*s", (int)gap->text_bytes,
                 gap->text != NULL ? gap->text : "");
        return index_put_floor(w, gap->path, &floor, err);
    }
    struct piece piece = {.stamp = *stamp,
                          .issued_ns = gap->issued_ns,
                          .offset_bytes = gap->offset_bytes,
                          .length_bytes =
                              to_end ? (UINT64_C(1) << 63) - gap->offset_bytes : gap->length_bytes,
                          .kind = PIECE_GAP,
                          .reason = gap->reason};
    return writer_put_pieces(w, gap->path, &piece, false, err);
}

int index_put_floor(struct index_writer *w, uint64_t path, const struct floor *floor,
                    struct error *err) {
    int code = begin_put(w, TABLE_FLOORS, key_floor(path, &floor->stamp, floor->kind), err);
    if (code != 0)
        return code;
    value_encode_floor(&w->values, floor);
    return writer_end(w, err);
}

static void take_name(char to[LIMIT_NAME_BYTES + 1], const char *name, uint16_t bytes) {
    snprintf(to, LIMIT_NAME_BYTES + 1, "%.*s", (int)bytes, name != NULL ? name : "");
}

/*
 * What a stream may know of a path it may have seen a little before it says that it sees it, and
 * that may have been in flight before.
 */
#define ANNOUNCED_LATE_NS (UINT64_C(2000000000) + INDEX_IN_FLIGHT_NS)

/* Who sees the path, how large it is now, and which other path it is. */
static int put_announcement(struct index_writer *w, uint64_t monitor, uint64_t stream,
                            const struct path_record *path, struct error *err) {
    uint64_t late = path->time_ns < ANNOUNCED_LATE_NS ? path->time_ns : ANNOUNCED_LATE_NS;
    int code = begin_put(w, TABLE_PATH_STREAMS, key_path_stream(path->path, monitor, stream), err);
    if (code == 0) {
        buffer_put_le64(&w->values, path->time_ns - late);
        code = writer_end(w, err);
    }
    if (code == 0 && (path->size_bytes > 0 || path->block_bytes > 0)) {
        struct size_entry size = {.size_bytes = path->size_bytes, .block_bytes = path->block_bytes};
        code = begin_put(w, TABLE_SIZES, key_size(path->path, path->time_ns), err);
        value_encode_size(&w->values, &size);
        code = code == 0 ? writer_end(w, err) : code;
    }
    if (code != 0 || path->same_as == 0 || path->same_as == path->path)
        return code;
    struct kv_key join = key_join(path->path, path->same_as);
    return writer_mark(w, TABLE_JOINS, PUT_VALUE, &join, err);
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
    code = writer_end(w, err);
    if (code != 0)
        return code;
    return put_announcement(w, monitor, stream, path, err);
}

int index_put_stream(struct index_writer *w, const struct stream_entry *stream, struct error *err) {
    if (stream->run_count > STREAM_RUNS)
        return error_set(err, ERR_FULL, "a stream with more than %d open runs", STREAM_RUNS);
    int code = begin_put(w, TABLE_STREAMS, key_stream(stream->monitor, stream->stream), err);
    if (code != 0)
        return code;
    value_encode_stream(&w->values, stream);
    return writer_end(w, err);
}

int index_put_resume(struct index_writer *w, const struct resume_entry *resume, struct error *err) {
    struct kv_key key = key_resume(resume);
    return writer_mark(w, TABLE_RESUMES, PUT_VALUE, &key, err);
}

int index_put_audit(struct index_writer *w, const struct stamp *stamp,
                    const struct audit_record *audit, struct error *err) {
    struct audit_entry entry = {.issued_ns = audit->issued_ns,
                                .offset_bytes = audit->offset_bytes,
                                .block_bytes = audit->block_bytes,
                                .blocks = audit->blocks,
                                .kind = audit->kind,
                                .sums = audit->sums};
    int code = begin_put(w, TABLE_AUDITS, key_waiting(stamp, audit->path), err);
    if (code != 0)
        return code;
    value_encode_audit(&w->values, &entry);
    return writer_end(w, err);
}
