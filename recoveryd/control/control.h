/*
 * control: what recoveryctl can ask, as functions from JSON to JSON.
 *
 * The same code answers for recoveryctl --store in its own process, and for recoveryctl --server in
 * recoveryd on threads that ingest never waits for. Requests are {"command": NAME, ...}; control.c
 * has the table. Requests come from outside: every field is checked for its type and its range.
 */
#ifndef SANREWIND_RECOVERYD_CONTROL_H
#define SANREWIND_RECOVERYD_CONTROL_H

#include "common/buffer.h"
#include "common/cleanup.h"
#include "common/error.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct control;
struct store;

/* The store is borrowed. For baselines it must be open for writing. NULL: out of memory. */
struct control *control_create(struct store *store);
void control_destroy(struct control *c);
/* How long an image may be open; 0: as long as it is read. Before the first request. */
void control_set_view_limit(struct control *c, uint64_t limit_ns);
/* Closes images that are open for too long, and clears what killed readers of the index left.
 * Thread-safe; does it every five seconds, however often it is called. */
void control_tidy(struct control *c);

/*
 * Answers a request: 0 with *result (a new reference), or an error with its sentence. Bytes that
 * belong to the answer are appended to `data`. Thread-safe.
 */
int control_run(struct control *c, const json_t *request, json_t **result, struct buffer *data,
                struct error *err);

/* Chunk number `chunk` of an image that "image.open" opened, as image_chunk_read(). Thread-safe. */
int control_chunk(struct control *c, uint64_t image, uint64_t chunk, uint8_t *to, size_t *bytes,
                  bool *all_zero, struct error *err);

/* Bytes of it, as image_runs_read() gives them, inside of one chunk. Thread-safe. */
int control_range(struct control *c, uint64_t image, uint64_t offset_bytes, uint64_t length_bytes,
                  uint8_t *to, struct error *err);

static inline void cleanup_json(json_t **json) {
    json_decref(*json);
}
#define AUTO_JSON __attribute__((cleanup(cleanup_json))) json_t *

DEFINE_AUTO(control, control_destroy)

#endif
