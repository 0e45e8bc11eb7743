#include "common/digest.h"
#include "recoveryd/index/values.h"

#include <string.h>

void key_add_stamp(struct kv_key *key, const struct stamp *stamp) {
    kv_key_add(key, stamp->time_ns, 8);
    kv_key_add(key, stamp->monitor, 8);
    kv_key_add(key, stamp->stream, 8);
    kv_key_add(key, stamp->order, 8);
}

static struct kv_key key_word(const char *word) {
    struct kv_key key = {.length = 0};
    for (const char *c = word; *c != '\0'; c++)
        kv_key_add(&key, (uint8_t)*c, 1);
    return key;
}

struct kv_key key_meta(void) {
    return key_word("format");
}

struct kv_key key_facts(void) {
    return key_word("facts");
}

void key_add_part(struct kv_key *key, uint64_t part) {
    if (part != 0)
        kv_key_add(key, part, 8);
}

static struct kv_key key_path_number(uint64_t path, uint64_t number) {
    struct kv_key key = key_path(path);
    kv_key_add(&key, number, 8);
    return key;
}

struct kv_key key_size(uint64_t path, uint64_t time_ns) {
    return key_path_number(path, time_ns);
}

struct kv_key key_join(uint64_t path, uint64_t other) {
    return key_path_number(path, other);
}

struct kv_key key_resume(const struct resume_entry *r) {
    struct kv_key key = key_path(r->path);
    kv_key_add(&key, r->monitor, 8);
    kv_key_add(&key, r->stream, 8);
    kv_key_add(&key, r->earlier, 8);
    kv_key_add(&key, r->order, 8);
    return key;
}

struct kv_key key_waiting(const struct stamp *stamp, uint64_t path) {
    struct kv_key key = {.length = 0};
    key_add_stamp(&key, stamp);
    kv_key_add(&key, path, 8);
    return key;
}

struct kv_key key_piece(uint64_t path, uint64_t level_chunk, const struct stamp *stamp) {
    struct kv_key key = {.length = 0};
    kv_key_add(&key, path, 8);
    kv_key_add(&key, level_chunk, 8);
    key_add_stamp(&key, stamp);
    return key;
}

struct kv_key key_floor(uint64_t path, const struct stamp *stamp, uint8_t kind) {
    struct kv_key key = key_stamped(path, stamp);
    kv_key_add(&key, kind, 1);
    return key;
}

struct kv_key key_stamped(uint64_t path, const struct stamp *stamp) {
    struct kv_key key = key_path(path);
    key_add_stamp(&key, stamp);
    return key;
}

struct kv_key key_path(uint64_t path) {
    struct kv_key key = {.length = 0};
    kv_key_add(&key, path, 8);
    return key;
}

struct kv_key key_stream(uint64_t monitor, uint64_t stream) {
    struct kv_key key = {.length = 0};
    kv_key_add(&key, monitor, 8);
    kv_key_add(&key, stream, 8);
    return key;
}

struct kv_key key_path_stream(uint64_t path, uint64_t monitor, uint64_t stream) {
    struct kv_key key = key_path(path);
    kv_key_add(&key, monitor, 8);
    kv_key_add(&key, stream, 8);
    return key;
}

struct kv_key key_journal(uint64_t sequence) {
    struct kv_key key = {.length = 0};
    kv_key_add(&key, sequence, 8);
    return key;
}

struct kv_key key_thinned(uint64_t path, uint64_t until_ns) {
    return key_path_number(path, until_ns);
}

struct kv_key key_segment(uint32_t segment) {
    struct kv_key key = {.length = 0};
    kv_key_add(&key, segment, 4);
    return key;
}

/* The common rule comes first. */
struct kv_key key_retention(const char *volume) {
    struct kv_key key = {.length = 0};
    kv_key_add(&key, volume[0] != '\0' ? digest_id64(volume, strlen(volume)) : 0, 8);
    return key;
}

struct kv_key key_run(uint64_t path, uint64_t level_chunk) {
    return key_path_number(path, level_chunk);
}

struct kv_key key_tally(uint64_t path, uint8_t level, uint64_t bucket) {
    struct kv_key key = key_path(path);
    kv_key_add(&key, level, 1);
    kv_key_add(&key, bucket, 8);
    return key;
}

struct stamp key_take_stamp(struct cursor *key) {
    struct stamp stamp;
    stamp.time_ns = cursor_be64(key);
    stamp.monitor = cursor_be64(key);
    stamp.stream = cursor_be64(key);
    stamp.order = cursor_be64(key);
    return stamp;
}

unsigned level_of_range(uint64_t offset_bytes, uint64_t length_bytes) {
    uint64_t last = offset_bytes + (length_bytes > 0 ? length_bytes - 1 : 0);
    unsigned level = 0;
    while (level < LEVELS - 1 &&
           (last >> level_shift(level)) - (offset_bytes >> level_shift(level)) >= LEVEL_CHUNKS)
        level++;
    return level;
}
