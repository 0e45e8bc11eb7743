/*
 * forecast: how fast a store grows, and when that fills it. Pure, but for reading the segments.
 *
 * The history is in the segments themselves: each says when it was made, and its file when it was
 * last written to. So the rate is there after any restart, and needs nothing that is written down.
 */
#ifndef SANREWIND_RECOVERYD_FORECAST_H
#define SANREWIND_RECOVERYD_FORECAST_H

#include "common/error.h"
#include "recoveryd/store/segments.h"

#include <stddef.h>
#include <stdint.h>

/* The growth of the last week; of less than a minute, nothing can be said. */
#define FORECAST_HISTORY_NS (UINT64_C(7) * 86400 * 1000000000)
#define FORECAST_LEAST_NS   (UINT64_C(60) * 1000000000)

/* A stretch of time in which so many bytes came. */
struct forecast_span {
    uint64_t start_ns;
    uint64_t end_ns;
    uint64_t bytes;
};

/* Zero-initialised: not known. */
struct forecast {
    uint64_t now_ns;
    uint64_t measured_ns;   /* over how long; 0: too short */
    uint64_t bytes_per_day; /* 0: it does not grow, or it is not known */
};

/* Bytes count evenly over their span; what is before the history's beginning, or after now, does
 * not count. */
void forecast_of(const struct forecast_span *spans, size_t count, uint64_t now_ns,
                 struct forecast *f);
/* From the segments. The index grows with them: `index_bytes` is its size now. ERR_IO. */
int forecast_read(struct segments *s, uint64_t index_bytes, uint64_t now_ns, struct forecast *f,
                  struct error *err);

/* When `free_bytes` more are there, at this rate; 0: never, or not known. */
uint64_t forecast_full_ns(const struct forecast *f, uint64_t free_bytes);
/*
 * When a promise to keep `window_ns` of history breaks, of which `held_bytes` are there now: 0 when
 * a whole window of this rate fits into what is held and free, or when nothing is known.
 */
uint64_t forecast_window_breaks_ns(const struct forecast *f, uint64_t window_ns,
                                   uint64_t held_bytes, uint64_t free_bytes);

#endif
