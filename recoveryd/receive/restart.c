#include "recoveryd/receive/restart.h"

#include "proto/when.h"

#include <stdio.h>
#include <string.h>

struct survey {
    const struct stream_entry *fresh;
    struct index_reader *reader;
    struct index_writer *writer;
    uint64_t first_ns;
    bool known;           /* the monitor had streams before */
    uint64_t frontier_ns; /* greatest of theirs */
    bool announced;       /* the path at hand was, by one of them */
    int code;
    struct error *err;
};

static bool see_stream(void *context, const struct stream_entry *entry) {
    struct survey *s = context;
    if (entry->monitor != s->fresh->monitor || entry->stream == s->fresh->stream)
        return true;
    s->known = true;
    if (entry->frontier_ns > s->frontier_ns)
        s->frontier_ns = entry->frontier_ns;
    return true;
}

static bool see_announcer(void *context, uint64_t monitor, uint64_t stream) {
    struct survey *s = context;
    s->announced = monitor == s->fresh->monitor && stream != s->fresh->stream;
    return !s->announced;
}

static int put_gap(struct survey *s, uint64_t path, uint64_t time_ns) {
    char from[WHEN_TEXT_BYTES];
    char to[WHEN_TEXT_BYTES];
    char text[LIMIT_REASON_BYTES];
    snprintf(text, sizeof text, "monitor %s was not watching from %s to %s", s->fresh->name,
             when_print_utc(s->frontier_ns, from), when_print_utc(s->first_ns, to));
    struct stamp stamp = {time_ns, s->fresh->monitor, s->fresh->stream, 0};
    struct gap_record gap = {.time_ns = stamp.time_ns,
                             .path = path,
                             .length_bytes = GAP_TO_END,
                             .reason = GAP_MONITOR_RESTART,
                             .text = text,
                             .text_bytes = (uint16_t)strlen(text)};
    return index_put_gap(s->writer, &stamp, &gap, s->err);
}

/*
 * Updates behind the last promise must not end the gap: what was missed came after them. Those of
 * the old streams reach at most to where the new one begins, and so do those of other monitors.
 */
static int put_gaps(struct survey *s, uint64_t path) {
    struct stamp newest;
    uint64_t since_ns = s->frontier_ns + 1;
    int code = put_gap(s, path, since_ns);
    if (code == 0)
        code = index_newest_update(s->reader, path, s->first_ns, &newest, s->err);
    if (code == ERR_NOT_FOUND)
        return s->first_ns > since_ns ? put_gap(s, path, s->first_ns) : 0;
    if (code == 0 && newest.time_ns > since_ns)
        code = put_gap(s, path, newest.time_ns);
    if (code == 0 && s->first_ns > since_ns)
        code = put_gap(s, path, s->first_ns);
    return code;
}

static bool see_path(void *context, const struct path_entry *path) {
    struct survey *s = context;
    s->announced = false;
    s->code = index_each_stream_of_path(s->reader, path->path, see_announcer, s, s->err);
    if (s->code == 0 && s->announced)
        s->code = put_gaps(s, path->path);
    return s->code == 0;
}

int restart_put_gaps(struct index *index, struct index_writer *w, const struct stream_entry *fresh,
                     uint64_t first_ns, struct error *err) {
    AUTO(index_reader) reader = NULL;
    int code = index_read(index, &reader, err);
    if (code < 0)
        return code;
    struct survey s = {
        .fresh = fresh, .reader = reader, .writer = w, .first_ns = first_ns, .err = err};
    code = index_each_stream(reader, see_stream, &s, err);
    if (code < 0 || !s.known || first_ns <= s.frontier_ns)
        return code;
    code = index_each_path(reader, see_path, &s, err);
    return code < 0 ? code : s.code;
}
