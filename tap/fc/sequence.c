#include "tap/fc/internal.h"

#include <utlist.h>

/* An information unit that is being put together (FC-FS-5, 13: a Sequence). */
enum { MAX_OPEN = 256, UNIT_BYTES = 8192 };

struct sequence {
    struct seen *seen; /* the first frame, grown by the payload of those that followed */
    uint16_t next_cnt;
    struct sequence *prev, *next;
};

struct sequences {
    struct sequence *open; /* oldest first */
    size_t count;
};

struct sequences *sequences_create(void) {
    return calloc(1, sizeof(struct sequences));
}

static void drop(struct sequences *s, struct sequence *q) {
    DL_DELETE(s->open, q);
    s->count--;
    seen_free(q->seen);
    free(q);
}

void sequences_destroy(struct sequences *s) {
    if (s == NULL)
        return;
    while (s->open != NULL)
        drop(s, s->open);
    free(s);
}

static bool is_of(const struct sequence *q, const struct frame *f) {
    const struct frame *g = &q->seen->frame;
    return g->s_id == f->s_id && g->d_id == f->d_id && g->vsan == f->vsan && g->ox_id == f->ox_id &&
           g->seq_id == f->seq_id && g->r_ctl == f->r_ctl && g->type == f->type;
}

static struct seen *begin(struct sequences *s, struct seen *seen) {
    struct sequence *q = calloc(1, sizeof *q);
    if (s->count >= MAX_OPEN)
        drop(s, s->open);
    seen = seen_keep(seen);
    if (q == NULL || seen == NULL) {
        seen_free(seen);
        free(q);
        return NULL;
    }
    *q = (struct sequence){.seen = seen, .next_cnt = (uint16_t)(seen->frame.seq_cnt + 1)};
    DL_APPEND(s->open, q);
    s->count++;
    return NULL;
}

static bool grow(struct sequence *q, const struct seen *more) {
    uint32_t bytes = q->seen->frame.bytes;
    struct seen *grown = realloc(q->seen, sizeof *grown + bytes + more->frame.bytes);
    if (grown == NULL)
        return false;
    memcpy(grown->data + bytes, more->data, more->frame.bytes);
    q->seen = grown;
    grown->frame.payload = grown->data;
    grown->frame.bytes += more->frame.bytes;
    grown->frame.wire_bytes += more->frame.wire_bytes;
    grown->frame.checksum ^= more->frame.checksum * 31;
    grown->again = grown->again && more->again;
    q->next_cnt++;
    return true;
}

struct seen *sequences_add(struct sequences *s, struct seen *seen) {
    struct sequence *q = s->open;
    bool ends = (seen->frame.f_ctl & F_CTL_END_SEQUENCE) != 0;
    while (q != NULL && !is_of(q, &seen->frame))
        q = q->next;
    if (q == NULL)
        return ends ? seen : begin(s, seen);
    if (seen->frame.seq_cnt != q->next_cnt) {
        /* A copy, or one is missing: then the unit never ends, and pushes out of the list. */
        seen_free(seen);
        return NULL;
    }
    bool cut = q->seen->frame.bytes < q->seen->frame.wire_bytes;
    bool fits =
        !cut && q->seen->frame.wire_bytes + seen->frame.wire_bytes <= UNIT_BYTES && grow(q, seen);
    seen_free(seen);
    if (!fits) {
        drop(s, q);
        return NULL;
    }
    if (!ends)
        return NULL;
    struct seen *whole = q->seen;
    q->seen = NULL;
    drop(s, q);
    return whole;
}
