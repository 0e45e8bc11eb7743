/*
 * view: one image of one volume at one time, held open through a backend.
 */
#ifndef SANREWIND_RECOVERYD_VIEW_H
#define SANREWIND_RECOVERYD_VIEW_H

#include "common/error.h"
#include "recoveryd/ctl/backend.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct view {
    struct backend *backend; /* borrowed */
    uint64_t image;
    json_t *facts; /* what "image.open" answered; owned */
};

/*
 * What `at` means for all of the volumes: time_ns, asked_ns (greater when it was lowered), and
 * their names. Refusals come out as the server words them.
 */
int view_resolve(struct backend *b, const json_t *volumes, const char *at, bool latest_safe,
                 json_t **resolved, struct error *err);

/* size_bytes 0: as the volume says. */
int view_open(struct view *v, struct backend *b, const char *volume, uint64_t time_ns,
              uint64_t size_bytes, struct error *err);
void view_close(struct view *v);
/* All gaps, as an array (a new reference). */
int view_gaps(struct view *v, json_t **gaps, struct error *err);

bool view_is_exact(const struct view *v);
uint64_t view_gap_count(const struct view *v);

#endif
