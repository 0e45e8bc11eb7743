#include "proto/limits.h"
#include "tap/publish/spool_state.h"

/* The held batch that ends behind `order`, or count. */
static size_t find_held(struct spool *s, uint64_t order) {
    size_t low = 0;
    size_t high = s->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (spool_held(s, middle)->batch->end_order <= order)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool read_held(struct spool *s, struct spool_reader *r, struct spool_piece *piece,
                      uint64_t *next) {
    size_t index = r->stream == s->o.stream ? find_held(s, r->order) : s->count;
    if (index == s->count)
        return false;
    struct batch *batch = spool_held(s, index)->batch;
    if (batch->first_order > r->order) {
        *next = batch->first_order;
        return false;
    }
    batch_hold(batch);
    *piece = (struct spool_piece){.data = batch->frame.data,
                                  .bytes = batch->frame.length,
                                  .first_order = batch->first_order,
                                  .end_order = batch->end_order,
                                  .batch = batch};
    return true;
}

/* Needs no lock, as the file is held: it is in it, and `end` is how far it was written. */
static int read_file(const struct shelf_file *file, uint64_t end, struct spool_reader *r,
                     struct spool_piece *piece, struct error *err) {
    struct spool_entry entry;
    uint64_t at = SPOOL_FILE_HEAD_BYTES;
    if (r->file == file->id &&
        spool_file_entry(file->fd, r->offset, end, file->head.number, &entry, err) == 0 &&
        entry.first_order <= r->order)
        at = r->offset;
    int code = spool_file_entry(file->fd, at, end, file->head.number, &entry, err);
    while (code == 0 && entry.end_order <= r->order) {
        at += spool_entry_room(entry.bytes);
        code = spool_file_entry(file->fd, at, end, file->head.number, &entry, err);
    }
    if (code == 0)
        code = spool_file_frame(file->fd, at, &entry, &r->frame, err);
    if (code < 0)
        return code == ERR_NOT_FOUND ? ERR_FORMAT : code;
    r->file = file->id;
    r->offset = at + spool_entry_room(entry.bytes);
    *piece = (struct spool_piece){.data = r->frame.data,
                                  .bytes = r->frame.length,
                                  .first_order = entry.first_order,
                                  .end_order = entry.end_order};
    return 0;
}

static int found(struct spool_reader *r, const struct spool_piece *piece) {
    r->order = piece->end_order;
    return SPOOL_PIECE;
}

int spool_read(struct spool *s, struct spool_reader *r, struct spool_piece *piece,
               struct error *err) {
    uint64_t held_next = UINT64_MAX;
    uint64_t file_next = UINT64_MAX;
    struct shelf_file *file = NULL;
    uint64_t end = 0;
    if (r->frame.limit == 0)
        buffer_init(&r->frame, LIMIT_BATCH_BYTES);
    pthread_mutex_lock(&s->lock);
    bool in_memory = read_held(s, r, piece, &held_next);
    if (!in_memory && s->shelf != NULL)
        file = shelf_find(s->shelf, r->stream, r->order, &file_next);
    if (file != NULL) {
        end = file->extent.bytes;
        shelf_hold(file);
    }
    pthread_mutex_unlock(&s->lock);
    if (in_memory)
        return found(r, piece);
    if (file == NULL)
        return held_next != UINT64_MAX || file_next != UINT64_MAX ? SPOOL_HOLE : SPOOL_NOTHING;
    int code = read_file(file, end, r, piece, err);
    pthread_mutex_lock(&s->lock);
    bool last = shelf_let_go(file);
    pthread_mutex_unlock(&s->lock);
    if (last)
        shelf_close_file(file);
    return code == 0 ? found(r, piece) : code;
}

void spool_give_back(struct spool_piece *piece) {
    if (piece->batch != NULL)
        batch_put(piece->batch);
    *piece = (struct spool_piece){0};
}

void spool_reader_release(struct spool_reader *r) {
    buffer_release(&r->frame);
}
