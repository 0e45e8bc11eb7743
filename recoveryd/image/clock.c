#include "recoveryd/image/clock.h"

#include "common/clock.h"

void clock_table_add(struct clock_table *t, uint64_t monitor) {
    for (size_t i = 0; i < t->count; i++) {
        if (t->rows[i].monitor == monitor)
            return;
    }
    if (t->count < CLOCK_MONITORS)
        t->rows[t->count++] = (struct clock_row){.monitor = monitor};
}

static bool see_stream(void *context, uint64_t monitor, uint64_t stream) {
    (void)stream;
    clock_table_add(context, monitor);
    return true;
}

int clock_table_add_path(struct clock_table *t, struct index_reader *r, uint64_t path,
                         struct error *err) {
    return index_each_stream_of_path(r, path, see_stream, t, err);
}

static bool see_error(void *context, const struct stream_entry *stream) {
    struct clock_table *t = context;
    for (size_t i = 0; i < t->count; i++) {
        bool last = i == CLOCK_MONITORS - 1;
        if ((t->rows[i].monitor == stream->monitor || last) &&
            t->rows[i].error_ns < stream->clock_error_max_ns)
            t->rows[i].error_ns = stream->clock_error_max_ns;
    }
    return true;
}

int clock_table_read_errors(struct clock_table *t, struct index_reader *r, struct error *err) {
    return t->count > 1 ? index_each_stream(r, see_error, t, err) : 0;
}

static uint64_t error_of(const struct clock_table *t, uint64_t monitor) {
    for (size_t i = 0; i < t->count; i++) {
        if (t->rows[i].monitor == monitor)
            return t->rows[i].error_ns;
    }
    return t->count == CLOCK_MONITORS ? t->rows[CLOCK_MONITORS - 1].error_ns : 0;
}

uint64_t clock_table_between(const struct clock_table *t, uint64_t a, uint64_t b) {
    return a == b ? 0 : clock_plus(error_of(t, a), error_of(t, b));
}

uint64_t clock_table_reach(const struct clock_table *t) {
    uint64_t greatest = 0;
    uint64_t second = 0;
    for (size_t i = 0; t->count > 1 && i < t->count; i++) {
        uint64_t error = t->rows[i].error_ns;
        if (error > greatest) {
            second = greatest;
            greatest = error;
        } else if (error > second) {
            second = error;
        }
    }
    return clock_plus(greatest, second);
}
