/*
 * change: an ordinary update (WRITE, ZERO, PATTERN, or a flush point) as the index keeps it, and
 * many of them packed into few bytes. Internal to the index; docs/store-format.md has the bytes.
 *
 * Each is written as its difference from the one before: time, order mark and place in the segments
 * go on in small steps, and most other fields are the same. A packed block stands for itself. About
 * 20 bytes for a write of 4 KiB somewhere, 8 where nothing is said of its payload.
 */
#ifndef SANREWIND_RECOVERYD_CHANGE_H
#define SANREWIND_RECOVERYD_CHANGE_H

#include "common/buffer.h"
#include "common/cursor.h"
#include "recoveryd/index/index.h"

struct change {
    struct stamp stamp;
    uint64_t path;
    uint64_t issued_ns;    /* 0 unknown */
    uint64_t offset_bytes; /* with length: at most INT64_MAX */
    uint64_t length_bytes;
    uint64_t whole_offset; /* where the payload's first byte belongs */
    struct extent extent;  /* bytes 0: there is no payload, or nothing is said of it */
    uint32_t payload_crc32c;
    uint16_t flags; /* enum update_flags */
    uint8_t op;     /* UPDATE_WRITE, _ZERO, _PATTERN, _FLUSH */
};

/* The same for packing and unpacking at the start. */
struct change_state {
    struct change last;
};

/* Nothing is known of the first change... */
static inline struct change_state change_state_none(void) {
    return (struct change_state){0};
}
/* ... or its stamp is. */
static inline struct change_state change_state_at(const struct stamp *first) {
    struct change_state s = {.last = {.stamp = *first}};
    s.last.stamp.order--;
    return s;
}

/* Appends one. The most that it can take: */
enum { CHANGE_MOST_BYTES = 128 };
void change_pack(struct change_state *s, struct buffer *b, const struct change *c);
/* The next one; 0, or ERR_FORMAT. Call while cursor_left(). Every field is validated. */
int change_unpack(struct change_state *s, struct cursor *from, struct change *c, struct error *err);

/* What unpacking would refuse must not be packed. */
bool change_is_sound(const struct change *c);

/* As the pieces of an image; not of a flush point. */
struct piece change_piece(const struct change *c);

/* Many, in memory. All zeros is empty. */
struct changes {
    struct change *list; /* owned */
    size_t count;
    size_t capacity;
};
void changes_release(struct changes *c);
/* False: no memory. */
bool changes_add(struct changes *c, const struct change *change);
/* All of a packed block that began with this state, behind what is there. */
int changes_unpack(struct changes *c, struct change_state state, struct cursor block,
                   struct error *err);

#define AUTO_CHANGES __attribute__((cleanup(changes_release))) struct changes

#endif
