/*
 * values: the bytes of the index's keys and values. Internal to the index; docs/store-format.md has
 * the tables.
 *
 * Keys are big-endian, so that memcmp orders them; values are little-endian. Decoders validate
 * every field: what they refuse is ERR_FORMAT, and never reaches an image.
 */
#ifndef SANREWIND_RECOVERYD_VALUES_H
#define SANREWIND_RECOVERYD_VALUES_H

#include "common/buffer.h"
#include "common/cursor.h"
#include "recoveryd/index/index.h"
#include "recoveryd/index/kv.h"
#include "recoveryd/index/thinned.h"

enum { INDEX_VERSION = 4 };

enum index_table {
    TABLE_META,
    TABLE_PIECES,
    TABLE_FLOORS,
    TABLE_GAPS,
    TABLE_EVENTS,
    TABLE_PATHS,
    TABLE_STREAMS,
    TABLE_PATH_STREAMS,
    TABLE_TALLIES,
    /* Since version 2. */
    TABLE_SIZES,
    TABLE_JOINS,
    TABLE_RESUMES,
    TABLE_DERIVED,
    TABLE_DERIVED_DONE,
    TABLE_DERIVED_STUCK,
    TABLE_AUDITS,
    TABLE_AUDITED,
    /* Since version 3: ordinary updates, which were in TABLE_PIECES and TABLE_EVENTS before. */
    TABLE_JOURNAL,
    TABLE_RUNS,
    TABLE_KEYFRAMES,
    TABLE_HISTORY,
    /* Since version 4: what retention has taken out. */
    TABLE_THINNED,
    TABLE_THINNING,
    TABLE_HELD,
    TABLE_DEAD,
    TABLE_RETENTIONS,
    TABLE_COUNT,
    TABLE_COUNT_V1 = TABLE_SIZES
};

/*
 * Chunks come in levels: those of level n are 64^n times INDEX_CHUNK_BYTES. A piece lies in the
 * lowest level at which its range touches at most 64 chunks. The level is the first byte of the
 * chunk's number in the key.
 */
enum { LEVELS = 8, LEVEL_STEP_BITS = 6, CHUNK_BITS = 20, LEVEL_CHUNKS = 64 };

static inline unsigned level_shift(unsigned level) {
    return CHUNK_BITS + LEVEL_STEP_BITS * level;
}
static inline uint64_t level_chunk(unsigned level, uint64_t number) {
    return (uint64_t)level << 56 | number;
}
/* For ranges that end at 2^63 or before. */
unsigned level_of_range(uint64_t offset_bytes, uint64_t length_bytes);

struct event_entry {
    uint64_t offset_bytes;
    uint64_t length_bytes;
    uint16_t flags; /* enum update_flags */
    uint8_t op;
};

struct meta_entry {
    uint32_t version;
    uint64_t store_id;
};

struct kv_key key_meta(void);
struct kv_key key_facts(void);
/* Behind a key with a stamp: tells several of one stamp apart. Nothing for part 0. */
void key_add_part(struct kv_key *key, uint64_t part);
struct kv_key key_size(uint64_t path, uint64_t time_ns);
struct kv_key key_join(uint64_t path, uint64_t other);
struct kv_key key_resume(const struct resume_entry *r);
struct kv_key key_waiting(const struct stamp *stamp, uint64_t path); /* derived, audits */
struct kv_key key_piece(uint64_t path, uint64_t level_chunk, const struct stamp *stamp);
struct kv_key key_floor(uint64_t path, const struct stamp *stamp, uint8_t kind);
struct kv_key key_stamped(uint64_t path, const struct stamp *stamp); /* gaps, events */
struct kv_key key_path(uint64_t path);
struct kv_key key_stream(uint64_t monitor, uint64_t stream);
struct kv_key key_journal(uint64_t sequence);
/* What comes before the stamp in a key of TABLE_RUNS and TABLE_KEYFRAMES. */
struct kv_key key_run(uint64_t path, uint64_t level_chunk);
void key_add_stamp(struct kv_key *key, const struct stamp *stamp);
struct kv_key key_tally(uint64_t path, uint8_t level, uint64_t bucket);
struct kv_key key_thinned(uint64_t path, uint64_t until_ns);
struct kv_key key_segment(uint32_t segment);
struct kv_key key_retention(const char *volume);
struct kv_key key_path_stream(uint64_t path, uint64_t monitor, uint64_t stream);

/* The last stamp that a time may have. */
static inline struct stamp stamp_end_of(uint64_t time_ns) {
    return (struct stamp){time_ns, UINT64_MAX, UINT64_MAX, UINT64_MAX};
}

/* Takes a stamp off a key. */
struct stamp key_take_stamp(struct cursor *key);

/* For decoders: the sentence, and whether all of key and value was taken, and nothing is behind. */
static inline int value_damaged(struct error *err, const char *what) {
    return error_set(err, ERR_FORMAT, "the index is damaged: %s", what);
}
static inline bool value_is_whole(const struct kv_item *item) {
    return cursor_ok(&item->key) && cursor_ok(&item->value) && cursor_left(&item->key) == 0 &&
           cursor_left(&item->value) == 0;
}

void value_encode_meta(struct buffer *b, const struct meta_entry *m);
void value_encode_piece(struct buffer *b, const struct piece *p);
void value_encode_floor(struct buffer *b, const struct floor *f);
void value_encode_gap(struct buffer *b, const struct gap_entry *g);
void value_encode_event(struct buffer *b, const struct event_entry *e);
void value_encode_path(struct buffer *b, const struct path_entry *p);
void value_encode_stream(struct buffer *b, const struct stream_entry *s);
void value_encode_facts(struct buffer *b, uint64_t facts);
void value_encode_size(struct buffer *b, const struct size_entry *s);
void value_encode_derived(struct buffer *b, const struct derived_entry *d);
void value_encode_audit(struct buffer *b, const struct audit_entry *a);
void value_encode_audited(struct buffer *b, const struct audited_entry *a);

/* What is in the key comes out of it; *level_chunk may be what a piece's range is checked against.
 */
int value_decode_meta(struct kv_item item, struct meta_entry *m, struct error *err);
int value_decode_piece(struct kv_item item, uint64_t *path, uint64_t *level_chunk, struct piece *p,
                       struct error *err);
int value_decode_floor(struct kv_item item, uint64_t *path, struct floor *f, struct error *err);
int value_decode_gap(struct kv_item item, struct gap_entry *g, struct error *err);
int value_decode_event(struct kv_item item, uint64_t *path, struct stamp *stamp,
                       struct event_entry *e, struct error *err);
int value_decode_path(struct kv_item item, struct path_entry *p, struct error *err);
int value_decode_stream(struct kv_item item, struct stream_entry *s, struct error *err);
/* As version 1 wrote it: without the clock's error. */
int value_decode_stream_v1(struct kv_item item, struct stream_entry *s, struct error *err);
int value_decode_facts(struct kv_item item, uint64_t *facts, struct error *err);
int value_decode_size(struct kv_item item, struct size_entry *s, struct error *err);
int value_decode_join(struct kv_item item, uint64_t *path, uint64_t *other, struct error *err);
int value_decode_resume(struct kv_item item, struct resume_entry *r, struct error *err);
int value_decode_derived(struct kv_item item, struct derived_entry *d, struct error *err);
/* The checksums are borrowed. */
int value_decode_audit(struct kv_item item, struct audit_entry *a, struct error *err);
int value_decode_audited(struct kv_item item, struct audited_entry *a, struct error *err);
void value_encode_tally(struct buffer *b, uint64_t updates);
int value_decode_tally(struct kv_item item, uint64_t *path, uint8_t *level, uint64_t *bucket,
                       uint64_t *updates, struct error *err);
void value_encode_thinned(struct buffer *b, const struct thinned_entry *e);
int value_decode_thinned(struct kv_item item, struct thinned_entry *e, struct error *err);
void value_encode_retention(struct buffer *b, const struct retention_entry *e);
int value_decode_retention(struct kv_item item, struct retention_entry *e, struct error *err);

/*
 * Two entries of one path as one, whatever the order in which they came: of each fact the known
 * one, then the later one, then the greater one.
 */
void path_entry_merge(struct path_entry *into, const struct path_entry *other);
/* Likewise: known beats unknown, then the greater one. */
void size_entry_merge(struct size_entry *into, const struct size_entry *other);

#endif
