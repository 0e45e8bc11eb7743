#include "spool_world.h"

#include "common/crc32c.h"
#include "proto/limits.h"
#include "proto/message.h"
#include "proto/record.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { POOL = 32 };

void spoolworld_open(struct spool_world *w) {
    *w = (struct spool_world){.pool = batch_pool_create(POOL)};
    strcpy(w->dir, "/tmp/sanrewind-unit.XXXXXX");
    cr_assert_not_null(mkdtemp(w->dir));
}

static bool is_spool_file(const char *name) {
    const char *dot = strrchr(name, '.');
    return dot != NULL && strcmp(dot, ".spool") == 0;
}

unsigned spoolworld_files(const struct spool_world *w, uint64_t *bytes) {
    unsigned count = 0;
    DIR *dir = opendir(w->dir);
    *bytes = 0;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        struct stat status;
        if (!is_spool_file(entry->d_name) || fstatat(dirfd(dir), entry->d_name, &status, 0) != 0)
            continue;
        count++;
        *bytes += (uint64_t)status.st_size;
    }
    closedir(dir);
    return count;
}

void spoolworld_close(struct spool_world *w) {
    spoolworld_stop(w);
    batch_pool_destroy(w->pool);
    DIR *dir = opendir(w->dir);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
        unlinkat(dirfd(dir), entry->d_name, 0);
    closedir(dir);
    cr_expect_eq(rmdir(w->dir), 0);
}

struct spool_options spoolworld_options(struct spool_world *w, unsigned sinks, unsigned required) {
    return (struct spool_options){.dir = w->dir,
                                  .monitor = WORLD_MONITOR,
                                  .stream = WORLD_STREAM,
                                  .bound_bytes = 16 << 20,
                                  .sinks = sinks,
                                  .required = required,
                                  .pool = w->pool,
                                  .pool_count = POOL};
}

void spoolworld_start(struct spool_world *w, const struct spool_options *options) {
    struct error err = {0};
    cr_assert_eq(spool_create(options, &w->spool, &err), 0, "%s", err.text);
    w->outlet = spool_outlet(w->spool);
    w->next_order = 0;
}

void spoolworld_stop(struct spool_world *w) {
    spool_destroy(w->spool);
    w->spool = NULL;
}

void spoolworld_fill(struct buffer *frame, uint64_t stream, uint64_t order) {
    uint8_t payload[WORLD_PAYLOAD];
    memset(payload, (int)(order % 251) + 1, sizeof payload);
    uint32_t crc = crc32c(0, payload, sizeof payload);
    struct record update = {.type = RECORD_UPDATE,
                            .order = order,
                            .update = {.time_ns = 1000 + order,
                                       .issued_ns = 990 + order,
                                       .path = 7,
                                       .offset_bytes = order * 65536,
                                       .length_bytes = WORLD_PAYLOAD,
                                       .block_bytes = 512,
                                       .op = UPDATE_WRITE,
                                       .payload_bytes = WORLD_PAYLOAD,
                                       .payload_crc32c = crc}};
    struct record data = {.type = RECORD_PAYLOAD,
                          .order = order,
                          .payload = {.bytes = WORLD_PAYLOAD, .crc32c = crc, .data = payload}};
    struct record flush = {
        .type = RECORD_UPDATE,
        .order = order + 1,
        .update = {.time_ns = 1000 + order, .path = 7, .block_bytes = 512, .op = UPDATE_FLUSH}};
    record_encode(frame, &update);
    record_encode(frame, &data);
    record_encode(frame, &flush);
    message_batch_finish(frame, &(struct message_batch){WORLD_MONITOR, stream, 3});
}

void spoolworld_put(struct spool_world *w, unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        struct batch *batch = batch_pool_take(w->pool);
        cr_assert_not_null(batch);
        batch->first_order = w->next_order;
        spoolworld_fill(&batch->frame, spool_stream(w->spool), w->next_order);
        w->next_order += w->marks > 0 ? w->marks : WORLD_MARKS;
        batch->end_order = w->next_order;
        batch->records = 3;
        w->outlet.send(w->outlet.context, batch);
        batch_put(batch);
    }
}

/* Byte for byte, or what is left of it. */
static bool is_gap(const struct spool_piece *piece, uint64_t stream) {
    AUTO_BUFFER whole;
    struct message m;
    struct cursor body;
    struct record r;
    struct error err = {0};
    buffer_init(&whole, LIMIT_BATCH_BYTES);
    message_batch_begin(&whole);
    spoolworld_fill(&whole, stream, piece->first_order);
    if (piece->bytes == whole.length && memcmp(piece->data, whole.data, whole.length) == 0)
        return false;
    cr_assert_eq(message_decode(piece->data, piece->bytes, &m, &body, &err), 0, "%s", err.text);
    cr_assert(m.kind == MESSAGE_BATCH && m.batch.records == 2 && m.batch.stream == stream);
    cr_assert_eq(record_decode(&body, &r, &err), 0, "%s", err.text);
    cr_assert(r.type == RECORD_GAP && r.order == piece->first_order);
    cr_assert(r.gap.path == 7 && r.gap.reason == GAP_OVERFLOW);
    cr_assert(r.gap.time_ns == 1000 + r.order && r.gap.issued_ns == 990 + r.order);
    cr_assert(r.gap.offset_bytes == r.order * 65536 && r.gap.length_bytes == WORLD_PAYLOAD);
    cr_assert_eq(record_decode(&body, &r, &err), 0, "%s", err.text);
    cr_assert(r.type == RECORD_UPDATE && r.order == piece->first_order + 1);
    cr_assert_eq(cursor_left(&body), 0);
    return true;
}

unsigned spoolworld_read(struct spool_world *w, struct spool_reader *r, unsigned count) {
    unsigned gaps = 0;
    for (unsigned i = 0; i < count; i++) {
        struct spool_piece piece = {0};
        struct error err = {0};
        uint64_t order = r->order;
        cr_assert_eq(spool_read(w->spool, r, &piece, &err), SPOOL_PIECE, "at %llu: %s",
                     (unsigned long long)order, err.text);
        cr_assert(piece.first_order == order && piece.end_order == order + WORLD_MARKS);
        cr_assert_eq(r->order, order + WORLD_MARKS);
        gaps += is_gap(&piece, r->stream);
        spool_give_back(&piece);
    }
    return gaps;
}

void spoolworld_acknowledge(struct spool_world *w, unsigned sink, uint64_t frontier) {
    spool_acknowledge(w->spool, sink, spool_stream(w->spool), frontier, NULL);
}
