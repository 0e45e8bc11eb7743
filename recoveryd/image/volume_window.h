/*
 * volume_window: from when to when a volume can be restored. Internal to the image folder.
 *
 * Watermark: the least over the monitors that have announced one of its paths of what each of them
 * promises: the frontier time of its newest stream, or, when that one has ended, the greatest of
 * all its streams. First time: the least first time mark of the streams that announced a path, or
 * the oldest baseline when that is later, or what retention has left when that is.
 */
#ifndef SANREWIND_RECOVERYD_VOLUME_WINDOW_H
#define SANREWIND_RECOVERYD_VOLUME_WINDOW_H

#include "recoveryd/image/volume.h"

/* Every stream that the store knows, by monitor and stream. */
struct stream_table {
    struct stream_facts {
        uint64_t monitor;
        uint64_t stream;
        uint64_t first_ns;
        uint64_t frontier_ns;
        uint64_t promise_ns; /* of its monitor: nothing up to this is missing */
        bool ended;
    } * streams;
    size_t count;
    size_t capacity;
};

int stream_table_read(struct index_reader *r, struct stream_table *table, struct error *err);
void stream_table_release(struct stream_table *table);
/* Fills first_ns, watermark_ns, latest_ns, and a size that only a baseline knows. */
int volume_window_read(struct index_reader *r, const struct stream_table *table, struct volume *v,
                       struct error *err);

/*
 * Lowers *bound_ns to what the streams that announced the path promise, without those of the
 * monitor that saw it end, once they promise everything up to then.
 */
int volume_window_bound(struct index_reader *r, const struct stream_table *table, uint64_t path,
                        const struct stamp *end, uint64_t *bound_ns, struct error *err);

#endif
