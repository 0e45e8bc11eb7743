/*
 * backend: where recoveryctl's answers come from: a store on this machine, or a recoveryd.
 *
 * Both run the functions of control/: requests, answers and errors are the same.
 */
#ifndef SANREWIND_RECOVERYD_BACKEND_H
#define SANREWIND_RECOVERYD_BACKEND_H

#include "common/error.h"
#include "recoveryd/control/control.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct backend {
    /* As control_run(), without bytes. */
    int (*run)(struct backend *b, const json_t *request, json_t **result, struct error *err);
    /* As control_chunk(). Thread-safe. */
    int (*chunk)(struct backend *b, uint64_t image, uint64_t chunk, uint8_t *to, size_t *bytes,
                 bool *all_zero, struct error *err);
    /* As control_range(). Thread-safe. */
    int (*range)(struct backend *b, uint64_t image, uint64_t offset_bytes, uint64_t length_bytes,
                 uint8_t *to, struct error *err);
    void (*destroy)(struct backend *b);
};

/* Opens the store beside whoever has it open. `writes`: for baselines, and to settle what waits
 * before an image is opened. */
int backend_local(const char *dir, bool writes, struct backend **out, struct error *err);
/* ERR_NET: nobody answers at the endpoint. */
int backend_remote(const char *endpoint, struct backend **out, struct error *err);

static inline void backend_destroy(struct backend *b) {
    if (b != NULL)
        b->destroy(b);
}

DEFINE_AUTO(backend, backend_destroy)

#endif
