#include "recoveryd/store/forecast.h"

#include "common/clock.h"
#include "recoveryd/store/segment_file.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define DAY_NS (UINT64_C(86400) * NS_PER_SECOND)

static uint64_t least(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

/* The part of the span's bytes that came between two times. */
static double bytes_between(const struct forecast_span *span, uint64_t from_ns, uint64_t to_ns) {
    uint64_t start = span->start_ns > from_ns ? span->start_ns : from_ns;
    uint64_t end = least(span->end_ns, to_ns);
    if (span->end_ns < from_ns || span->start_ns > to_ns)
        return 0;
    if (span->end_ns <= span->start_ns)
        return (double)span->bytes;
    return (double)span->bytes * (double)(end - start) / (double)(span->end_ns - span->start_ns);
}

void forecast_of(const struct forecast_span *spans, size_t count, uint64_t now_ns,
                 struct forecast *f) {
    uint64_t begin = now_ns > FORECAST_HISTORY_NS ? now_ns - FORECAST_HISTORY_NS : 0;
    uint64_t first = now_ns;
    double bytes = 0;
    *f = (struct forecast){.now_ns = now_ns};
    for (size_t i = 0; i < count; i++) {
        first = least(first, spans[i].start_ns);
        bytes += bytes_between(&spans[i], begin, now_ns);
    }
    uint64_t span_ns = now_ns - (first > begin ? first : begin);
    if (span_ns < FORECAST_LEAST_NS)
        return;
    f->measured_ns = span_ns;
    double rate = bytes * (double)DAY_NS / (double)span_ns;
    f->bytes_per_day = rate < (double)INT64_MAX ? (uint64_t)rate : INT64_MAX;
}

/* Far beyond what anybody plans for, it is never. */
static uint64_t after(const struct forecast *f, uint64_t free_bytes) {
    double ns = (double)free_bytes / (double)f->bytes_per_day * (double)DAY_NS;
    return ns < (double)(INT64_MAX - f->now_ns) ? f->now_ns + (uint64_t)ns : 0;
}

uint64_t forecast_full_ns(const struct forecast *f, uint64_t free_bytes) {
    return f->bytes_per_day > 0 && f->now_ns < INT64_MAX ? after(f, free_bytes) : 0;
}

uint64_t forecast_window_breaks_ns(const struct forecast *f, uint64_t window_ns,
                                   uint64_t held_bytes, uint64_t free_bytes) {
    double needed = (double)f->bytes_per_day * (double)window_ns / (double)DAY_NS;
    if (needed <= (double)held_bytes + (double)free_bytes)
        return 0;
    return forecast_full_ns(f, free_bytes);
}

/* --- from the segments ---------------------------------------------------------------------------
 */

struct reading {
    struct segments *segments;
    struct forecast_span *spans;
    size_t count;
    size_t capacity;
    uint64_t bytes; /* of all segments */
    bool failed;
};

/* What cannot be read is left out: a forecast is none of what must be right to the byte. */
static bool read_span(const struct segments *s, uint32_t segment, uint64_t bytes,
                      struct forecast_span *span) {
    char name[SEGMENT_NAME_BYTES];
    uint8_t head_bytes[SEGMENT_HEAD_BYTES];
    struct segment_head head;
    struct stat status;
    segment_file_name(segment, name);
    AUTO_CLOSE int fd = openat(s->dir_fd, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &status) != 0)
        return false;
    ssize_t got = pread(fd, head_bytes, sizeof head_bytes, 0);
    if (got < 0 || segment_head_decode(cursor_of(head_bytes, (size_t)got), &head, NULL) != 0)
        return false;
    *span = (struct forecast_span){.start_ns = head.made_ns,
                                   .end_ns = (uint64_t)status.st_mtim.tv_sec * NS_PER_SECOND +
                                             (uint64_t)status.st_mtim.tv_nsec,
                                   .bytes = bytes};
    return true;
}

static void take_segment(void *context, uint32_t segment, uint64_t bytes) {
    struct reading *r = context;
    r->bytes += bytes;
    if (r->count == r->capacity) {
        size_t room = r->capacity > 0 ? r->capacity * 2 : 64;
        void *grown = realloc(r->spans, room * sizeof *r->spans);
        if (grown == NULL) {
            r->failed = true;
            return;
        }
        r->spans = grown;
        r->capacity = room;
    }
    if (read_span(r->segments, segment, bytes, &r->spans[r->count]))
        r->count++;
}

int forecast_read(struct segments *s, uint64_t index_bytes, uint64_t now_ns, struct forecast *f,
                  struct error *err) {
    struct reading r = {.segments = s};
    *f = (struct forecast){.now_ns = now_ns};
    int code = segments_each(s, take_segment, &r, err);
    if (code == 0 && r.failed)
        code = error_set(err, ERR_NOMEM, "out of memory");
    if (code == 0) {
        forecast_of(r.spans, r.count, now_ns, f);
        double more = r.bytes > 0 ? (double)index_bytes / (double)r.bytes : 0;
        double rate = (double)f->bytes_per_day * (1 + more);
        f->bytes_per_day = rate < (double)INT64_MAX ? (uint64_t)rate : INT64_MAX;
    }
    free(r.spans);
    return code;
}
