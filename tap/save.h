/*
 * save: texts in what the rooms of the monitor save of themselves for the next start.
 *
 * S_save(const struct S *, struct buffer *) writes, S_load(struct S *, struct cursor *) makes the
 * same again in a new object; false: it cannot be read, and the object is to be thrown away.
 */
#ifndef SANREWIND_TAP_SAVE_H
#define SANREWIND_TAP_SAVE_H

#include "common/buffer.h"
#include "common/cursor.h"

#include <string.h>

static inline void save_text(struct buffer *b, const char *text) {
    size_t bytes = strlen(text);
    buffer_put_le16(b, (uint16_t)bytes);
    buffer_put(b, text, bytes);
}

/* False, and the cursor failed: it does not fit, or holds a NUL. */
static inline bool load_text(struct cursor *c, char *text, size_t size) {
    size_t bytes = cursor_le16(c);
    const uint8_t *from = cursor_bytes(c, bytes);
    text[0] = '\0';
    if (from == NULL || bytes >= size || memchr(from, 0, bytes) != NULL) {
        c->failed = true;
        return false;
    }
    memcpy(text, from, bytes);
    text[bytes] = '\0';
    return true;
}

#endif
