#include "recoveryd/index/index_internal.h"

#include <inttypes.h>
#include <string.h>

/*
 * Updates whose content follows from other content. Until it is derived, the update is a gap; then
 * pieces of the same stamp lie above the gap, or in its place, and the entry moves from `derived`
 * (it waits) to `derived_done`, or, when it cannot be resolved, to `derived_stuck`. From there it
 * comes back, with its gap, when a fact has changed that may make it otherwise.
 */

static const char *const state_texts[DERIVED_STATES] = {
    [DERIVED_RESOLVED] = "",
    [DERIVED_WAITING] = "not looked at yet",
    [DERIVED_NO_SOURCE] = "no monitor has announced the source",
    [DERIVED_INEXACT_SOURCE] = "the source was not known exactly, or changed meanwhile",
    [DERIVED_INEXACT_BEFORE] = "what was there before is not known exactly",
    [DERIVED_TOO_LARGE] = "it is too large",
    [DERIVED_DAMAGED] = "the store has damaged bytes that it needs",
};

/* --- the gap -------------------------------------------------------------------------------------
 */

static struct gap_record gap_of(const struct derived_entry *d, char text[LIMIT_REASON_BYTES + 1]) {
    const char *why = state_texts[d->state];
    if (d->op == UPDATE_COPY)
        snprintf(text, LIMIT_REASON_BYTES + 1,
                 "a copy of bytes %" PRIu64 " and following of path %016" PRIx64 ": %s",
                 d->source_offset_bytes, d->source_path, why);
    else
        snprintf(text, LIMIT_REASON_BYTES + 1, "%s of data with what was there: %s",
                 d->op == UPDATE_OR ? "an OR" : "an exclusive OR", why);
    return (struct gap_record){.time_ns = d->stamp.time_ns,
                               .issued_ns = d->issued_ns,
                               .path = d->path,
                               .offset_bytes = d->offset_bytes,
                               .length_bytes = d->length_bytes,
                               .reason = GAP_UNRESOLVED,
                               .text = text,
                               .text_bytes = (uint16_t)strlen(text)};
}

static int put_gap_text(struct index_writer *w, const struct derived_entry *d, struct error *err) {
    char text[LIMIT_REASON_BYTES + 1];
    struct gap_record gap = gap_of(d, text);
    return writer_put_gap_entry(w, &d->stamp, 0, &gap, err);
}

static struct piece gap_piece(const struct derived_entry *d, uint64_t offset, uint64_t length) {
    return (struct piece){.stamp = d->stamp,
                          .issued_ns = d->issued_ns,
                          .offset_bytes = offset,
                          .length_bytes = length,
                          .kind = PIECE_GAP,
                          .reason = GAP_UNRESOLVED};
}

static bool is_small(const struct derived_entry *d) {
    return level_of_range(d->offset_bytes, d->length_bytes) == 0;
}

int index_clear_derived(struct index_writer *w, const struct derived_entry *d,
                        uint64_t offset_bytes, uint64_t length_bytes, struct error *err) {
    struct piece gap = gap_piece(d, offset_bytes, length_bytes);
    if (is_small(d))
        return writer_put_pieces(w, d->path, &gap, true, err);
    struct kv_key key =
        key_piece(d->path, level_chunk(0, offset_bytes / INDEX_CHUNK_BYTES), &d->stamp);
    return writer_mark(w, TABLE_PIECES, PUT_CLEAR, &key, err);
}

/* The gap over all of it, and nothing else of its stamp. */
static int clear_all(struct index_writer *w, const struct derived_entry *d, struct error *err) {
    struct piece gap = gap_piece(d, d->offset_bytes, d->length_bytes);
    int code = writer_put_pieces(w, d->path, &gap, true, err);
    if (code != 0 || is_small(d))
        return code;
    uint64_t last = (d->offset_bytes + d->length_bytes - 1) / INDEX_CHUNK_BYTES;
    for (uint64_t chunk = d->offset_bytes / INDEX_CHUNK_BYTES; code == 0 && chunk <= last;
         chunk++) {
        struct kv_key key = key_piece(d->path, level_chunk(0, chunk), &d->stamp);
        code = writer_mark(w, TABLE_PIECES, PUT_CLEAR, &key, err);
    }
    return code;
}

/* What was derived lies in chunks of its own: the gap in the larger ones goes away. */
static int remove_large_gap(struct index_writer *w, const struct derived_entry *d,
                            struct error *err) {
    unsigned level = level_of_range(d->offset_bytes, d->length_bytes);
    uint64_t last = (d->offset_bytes + d->length_bytes - 1) >> level_shift(level);
    int code = 0;
    for (uint64_t n = d->offset_bytes >> level_shift(level); code == 0 && n <= last; n++) {
        struct kv_key key = key_piece(d->path, level_chunk(level, n), &d->stamp);
        code = writer_mark(w, TABLE_PIECES, PUT_CLEAR, &key, err);
    }
    return code;
}

/* --- entries -------------------------------------------------------------------------------------
 */

static int put_entry(struct index_writer *w, enum index_table table, const struct derived_entry *d,
                     struct error *err) {
    struct kv_key key = key_waiting(&d->stamp, d->path);
    int code = writer_begin(w, table, PUT_VALUE, &key, err);
    if (code != 0)
        return code;
    value_encode_derived(&w->values, d);
    return writer_end(w, err);
}

/* The gap, and what is to be done about it. */
static int put_waiting(struct index_writer *w, struct derived_entry *d, struct error *err) {
    d->state = DERIVED_WAITING;
    int code = clear_all(w, d, err);
    if (code == 0)
        code = put_gap_text(w, d, err);
    return code == 0 ? put_entry(w, TABLE_DERIVED, d, err) : code;
}

int derived_put(struct index_writer *w, const struct stamp *stamp, const struct update_record *u,
                const struct extent *payload, struct error *err) {
    struct derived_entry d = {.stamp = *stamp,
                              .path = u->path,
                              .issued_ns = u->issued_ns,
                              .offset_bytes = u->offset_bytes,
                              .length_bytes = u->length_bytes,
                              .op = u->op,
                              .block_bytes = u->block_bytes,
                              .source_path = u->source_path,
                              .source_offset_bytes = u->source_offset_bytes,
                              .source_from_ns = u->source_from_ns,
                              .source_until_ns = u->source_until_ns,
                              .payload_crc32c = u->payload_crc32c};
    if (payload != NULL)
        d.payload = *payload;
    if (u->length_bytes <= DERIVED_MOST_BYTES)
        return put_waiting(w, &d, err);
    struct piece gap = gap_piece(&d, d.offset_bytes, d.length_bytes);
    d.state = DERIVED_TOO_LARGE;
    int code = writer_put_pieces(w, d.path, &gap, false, err);
    return code == 0 ? put_gap_text(w, &d, err) : code;
}

int index_put_derived_piece(struct index_writer *w, uint64_t path, const struct piece *piece,
                            struct error *err) {
    return writer_put_pieces(w, path, piece, false, err);
}

int index_end_derived(struct index_writer *w, const struct derived_entry *d, struct error *err) {
    struct kv_key key = key_waiting(&d->stamp, d->path);
    struct kv_key gap = key_stamped(d->path, &d->stamp);
    int code = writer_mark(w, TABLE_DERIVED, PUT_TAKE, &key, err);
    bool resolved = d->state == DERIVED_RESOLVED;
    if (code == 0)
        code = put_entry(w, resolved ? TABLE_DERIVED_DONE : TABLE_DERIVED_STUCK, d, err);
    if (code != 0)
        return code;
    if (!resolved)
        return put_gap_text(w, d, err);
    if (!is_small(d))
        code = remove_large_gap(w, d, err);
    return code == 0 ? writer_mark(w, TABLE_GAPS, PUT_DELETE, &gap, err) : code;
}

/* --- what a commit upsets ------------------------------------------------------------------------
 */

void upset_add(struct upset *u, bool resolved, uint64_t from_ns) {
    if (resolved && (!u->resolved || from_ns < u->from_ns))
        u->from_ns = from_ns;
    u->resolved = u->resolved || resolved;
    u->facts = true;
}

int facts_read(struct kv_txn *txn, uint64_t *facts, struct error *err) {
    struct kv_item item = {0};
    struct kv_key key = key_facts();
    *facts = 0;
    int code = kv_get(txn, TABLE_META, &key, &item.value, err);
    if (code == 0)
        return value_decode_facts(item, facts, err);
    return index_ended(code);
}

/*
 * What it came from was thinned out: it cannot be derived again, and stays as it was derived when
 * it still could be.
 */
static bool is_final(struct kv_txn *t, const struct derived_entry *d) {
    struct thinned_entry e;
    return d->state == DERIVED_RESOLVED &&
           (d->op == UPDATE_COPY
                ? thinned_at(t, d->source_path, d->source_until_ns, false, &e, NULL) == 0
                : thinned_at(t, d->path, d->stamp.time_ns, true, &e, NULL) == 0);
}

/* Back to `derived`, all that the table has since from_ns. */
static int reopen(struct index_writer *w, enum index_table table, uint64_t from_ns,
                  struct error *err) {
    AUTO(kv_cursor) c = NULL;
    struct kv_item item;
    struct kv_key key = key_waiting(&(struct stamp){.time_ns = from_ns}, 0);
    int code = kv_cursor_open(w->txn, table, &c, err);
    while (code == 0 && (code = kv_seek_up(c, &key, &item, err)) == 0) {
        struct derived_entry d;
        code = value_decode_derived(item, &d, err);
        if (code != 0)
            return code;
        struct kv_key entry = key_waiting(&d.stamp, d.path);
        key = entry;
        kv_key_add(&key, 0, 1); /* behind it */
        if (is_final(w->txn, &d))
            continue;
        code = writer_mark(w, table, PUT_DELETE, &entry, err);
        if (code == 0)
            code = put_waiting(w, &d, err);
    }
    return index_ended(code);
}

static int count_facts(struct index_writer *w, struct error *err) {
    struct kv_key key = key_facts();
    uint64_t facts;
    int code = facts_read(w->txn, &facts, err);
    if (code == 0)
        code = writer_begin(w, TABLE_META, PUT_VALUE, &key, err);
    if (code != 0)
        return code;
    value_encode_facts(&w->values, facts + 1);
    return writer_end(w, err);
}

int upset_apply(struct index_writer *w, struct error *err) {
    struct upset upset = w->upset;
    int code = reopen(w, TABLE_DERIVED_STUCK, 0, err);
    if (code == 0 && upset.resolved)
        code = reopen(w, TABLE_DERIVED_DONE, upset.from_ns, err);
    if (code == 0)
        code = count_facts(w, err);
    return code == 0 ? writer_flush(w, err) : code;
}

/* --- what was in flight while it was copied -----------------------------------------------------
 */

void flights_add(struct flights *f, uint64_t issued_ns, uint64_t ended_ns, uint64_t offset_bytes,
                 uint64_t length_bytes) {
    uint64_t left = UINT64_MAX - offset_bytes;
    struct flight flight = {issued_ns, ended_ns, offset_bytes,
                            offset_bytes + (length_bytes < left ? length_bytes : left)};
    if (issued_ns == 0 || issued_ns >= ended_ns || length_bytes == 0)
        return;
    if (f->count < FLIGHTS) {
        f->list[f->count++] = flight;
        return;
    }
    struct flight *last = &f->list[FLIGHTS - 1];
    last->issued_ns = issued_ns < last->issued_ns ? issued_ns : last->issued_ns;
    last->ended_ns = ended_ns > last->ended_ns ? ended_ns : last->ended_ns;
    last->start = flight.start < last->start ? flight.start : last->start;
    last->end = flight.end > last->end ? flight.end : last->end;
}

static uint64_t flights_begin(const struct flights *f) {
    uint64_t from_ns = UINT64_MAX;
    for (size_t i = 0; i < f->count; i++)
        from_ns = f->list[i].issued_ns < from_ns ? f->list[i].issued_ns : from_ns;
    return from_ns;
}

/* Which path it was does not matter: that several are one volume may be found later. */
static bool was_disturbed(const struct flights *f, const struct derived_entry *d) {
    uint64_t end = d->source_offset_bytes + d->length_bytes;
    for (size_t i = 0; d->op == UPDATE_COPY && i < f->count; i++) {
        const struct flight *flight = &f->list[i];
        if (flight->issued_ns <= d->source_until_ns && d->source_until_ns < flight->ended_ns &&
            flight->start < end && d->source_offset_bytes < flight->end)
            return true;
    }
    return false;
}

/*
 * The first copy that was disturbed: others may rest upon it. Of one that waits nothing is known
 * yet, but whoever is about to settle it has to look again. (No copy has a stamp before the time of
 * its source.)
 */
static int upset_disturbed(struct index_writer *w, enum index_table table, struct error *err) {
    AUTO(kv_cursor) c = NULL;
    struct kv_item item;
    struct kv_key from = key_waiting(&(struct stamp){.time_ns = flights_begin(&w->flights)}, 0);
    int code = kv_cursor_open(w->txn, table, &c, err);
    if (code != 0)
        return code;
    for (code = kv_seek_up(c, &from, &item, err); code == 0; code = kv_next(c, &item, err)) {
        struct derived_entry d;
        code = value_decode_derived(item, &d, err);
        if (code != 0)
            return code;
        if (!was_disturbed(&w->flights, &d))
            continue;
        upset_add(&w->upset, table != TABLE_DERIVED, d.stamp.time_ns);
        return 0;
    }
    return index_ended(code);
}

int flights_upset(struct index_writer *w, struct error *err) {
    static const enum index_table tables[] = {TABLE_DERIVED, TABLE_DERIVED_DONE,
                                              TABLE_DERIVED_STUCK};
    int code = 0;
    for (size_t i = 0; code == 0 && i < 3 && w->flights.count > 0; i++)
        code = upset_disturbed(w, tables[i], err);
    return code;
}

/* --- audits --------------------------------------------------------------------------------------
 */

int index_put_audited_piece(struct index_writer *w, uint64_t path, const struct piece *piece,
                            const char *text, struct error *err) {
    struct gap_record gap = {.time_ns = piece->stamp.time_ns,
                             .issued_ns = piece->issued_ns,
                             .path = path,
                             .offset_bytes = piece->offset_bytes,
                             .length_bytes = piece->length_bytes,
                             .reason = piece->reason,
                             .text = text,
                             .text_bytes = (uint16_t)strlen(text)};
    bool contradicts = piece->kind == PIECE_GAP;
    upset_add(&w->upset, contradicts, piece->stamp.time_ns);
    int code = writer_put_pieces(w, path, piece, false, err);
    if (code == 0 && contradicts)
        code = writer_put_gap_entry(w, &piece->stamp, piece->part, &gap, err);
    return code;
}

int index_end_audit(struct index_writer *w, const struct audit_entry *audit,
                    const struct audited_entry *found, struct error *err) {
    struct kv_key waiting = key_waiting(&audit->stamp, audit->path);
    struct kv_key total = key_path(audit->path);
    int code = writer_mark(w, TABLE_AUDITS, PUT_TAKE, &waiting, err);
    if (code == 0)
        code = writer_begin(w, TABLE_AUDITED, PUT_VALUE, &total, err);
    if (code != 0)
        return code;
    value_encode_audited(&w->values, found);
    return writer_end(w, err);
}
