#include "tests/property/replay.h"

#include "common/clock.h"
#include "proto/message.h"
#include "tap/pipeline.h"
#include "tap/publish/publisher.h"

#include <stdlib.h>
#include <string.h>

enum { BATCHES = 4 };

static bool says(const struct gap_record *gap, const char *words) {
    return memmem(gap->text, gap->text_bytes, words, strlen(words)) != NULL;
}

static void keep(struct replay *r, const struct record *record) {
    if (r->count == r->capacity) {
        r->capacity = r->capacity > 0 ? 2 * r->capacity : 1024;
        r->records = realloc(r->records, r->capacity * sizeof *r->records);
        if (r->records == NULL)
            abort();
    }
    r->records[r->count] = (struct replay_record){.record = *record, .number = r->count};
    r->count++;
}

/* A promise that was made before a path was announced says nothing of its gaps. */
static bool is_late(struct replay *r, const struct record *record) {
    if (record->type == RECORD_PATH)
        return false;
    uint64_t path = record->type == RECORD_GAP ? record->gap.path : 0;
    for (size_t i = 0; i < r->path_count; i++) {
        const struct replay_path *p = &r->paths[i];
        bool kept = p->before && record_time_ns(record) <= r->kept_ns;
        if (p->path == path && p->promised_ns == r->promised_ns && !kept)
            return false;
    }
    return record_time_ns(record) <= r->promised_ns;
}

static void note_path(struct replay *r, uint64_t path) {
    for (size_t i = 0; i < r->path_count; i++) {
        if (r->paths[i].path != path)
            continue;
        if (r->restarted && !r->paths[i].again)
            r->paths[i] = (struct replay_path){path, r->promised_ns, true, true};
        return;
    }
    if (r->path_count == REPLAY_PATHS)
        abort();
    r->paths[r->path_count++] = (struct replay_path){path, r->promised_ns, r->restarted, false};
}

static void take(struct replay *r, const struct record *record) {
    if (record->type == RECORD_PAYLOAD) {
        r->records[r->count - 1].data = record->payload.data;
        return;
    }
    if (record->type == RECORD_FRONTIER) {
        if (record->frontier.time_ns > r->promised_ns)
            r->promised_ns = record->frontier.time_ns;
        return;
    }
    if (record->type == RECORD_PATH)
        note_path(r, record->path.path);
    if (record->type == RECORD_GAP)
        r->sent_again |= says(&record->gap, "sent again") || says(&record->gap, "sent twice");
    r->late += is_late(r, record);
    keep(r, record);
}

static void send(void *context, struct batch *batch) {
    struct replay *r = context;
    struct message message;
    struct cursor body;
    uint8_t *copy = packets_block(&r->frames, batch->frame.length);
    memcpy(copy, batch->frame.data, batch->frame.length);
    if (message_decode(copy, batch->frame.length, &message, &body, NULL) < 0)
        abort();
    for (uint32_t i = 0; i < message.batch.records; i++) {
        struct record record;
        if (record_decode(&body, &record, NULL) < 0)
            abort();
        take(r, &record);
    }
}

static int compare(const void *left, const void *right) {
    const struct replay_record *a = left;
    const struct replay_record *b = right;
    uint64_t x = record_time_ns(&a->record);
    uint64_t y = record_time_ns(&b->record);
    if (x != y)
        return x < y ? -1 : 1;
    return a->number < b->number ? -1 : a->number > b->number;
}

/* A monitor at work. */
struct run {
    struct batch_pool *pool;
    struct publisher *publisher;
    struct pipeline *pipeline;
    uint64_t newest_ns;
    uint64_t beat_ns;
};

static void begin(struct run *run, struct replay *r, uint64_t stream) {
    struct outlet outlet = {.send = send, .context = r};
    /* Every READ: what it returns is one more witness. */
    struct pipeline_options options = pipeline_default_options();
    options.audit_one_in = 1;
    *run = (struct run){.pool = batch_pool_create(BATCHES)};
    run->publisher = publisher_create(1, stream, run->pool, &outlet, 1);
    run->pipeline = pipeline_create(publisher_sink(run->publisher), &options);
}

static void end(struct run *run) {
    pipeline_destroy(run->pipeline);
    publisher_destroy(run->publisher);
    batch_pool_destroy(run->pool);
}

static void feed(struct run *run, const struct packets *packets, size_t from, size_t to) {
    struct publisher_vitals none = {0};
    for (size_t i = from; i < to; i++) {
        const struct packet *packet = &packets->list[i];
        pipeline_packet(run->pipeline, packet);
        if (packet->time_ns > run->newest_ns)
            run->newest_ns = packet->time_ns;
        if (run->newest_ns < run->beat_ns + PIPELINE_HEARTBEAT_NS)
            continue;
        run->beat_ns = run->newest_ns;
        publisher_heartbeat(run->publisher, pipeline_settled_ns(run->pipeline, run->newest_ns),
                            &none);
    }
}

static void finish(struct run *run, struct replay *r) {
    struct publisher_vitals none = {0};
    char text[1024];
    pipeline_finish(run->pipeline);
    pipeline_describe(run->pipeline, text, sizeof text);
    r->sent_again |= strstr(text, "sent again") != NULL;
    publisher_end(run->publisher, run->newest_ns, &none);
    qsort(r->records, r->count, sizeof *r->records, compare);
    end(run);
}

static void clear(struct replay *r) {
    r->count = 0;
    r->late = 0;
    r->path_count = 0;
    r->promised_ns = 0;
    r->kept_ns = 0;
    r->restarted = false;
    r->sent_again = false;
    packets_clear(&r->frames);
}

void replay_run(struct replay *r, const struct packets *packets) {
    struct publisher_vitals none = {0};
    struct run run;
    clear(r);
    begin(&run, r, 1);
    if (packets->count > 0)
        publisher_heartbeat(run.publisher, packets->list[0].time_ns - 1, &none);
    feed(&run, packets, 0, packets->count);
    finish(&run, r);
}

static bool is_resumed(const struct replay *r, uint64_t path) {
    for (size_t i = 0; i < r->count; i++) {
        const struct record *record = &r->records[i].record;
        if (record->type == RECORD_RESUME && record->resume.path == path)
            return true;
    }
    return false;
}

/* The last before the new stream; 0: none. */
static uint64_t newest_update_ns(const struct replay *r, uint64_t path, uint64_t first_ns) {
    uint64_t newest_ns = 0;
    for (size_t i = 0; i < r->count; i++) {
        const struct record *record = &r->records[i].record;
        if (record->type == RECORD_UPDATE && record->update.path == path &&
            record->update.time_ns <= first_ns && record->update.time_ns > newest_ns)
            newest_ns = record->update.time_ns;
    }
    return newest_ns;
}

/* As recoveryd does it: behind the last promise, behind the last update, and where the new stream
 * begins. */
static void doubt_restart(struct replay *r, size_t known, uint64_t promised_ns, uint64_t first_ns) {
    for (size_t i = 0; i < known; i++) {
        struct record gap = {.type = RECORD_GAP,
                             .gap = {.time_ns = promised_ns + 1,
                                     .path = r->paths[i].path,
                                     .length_bytes = GAP_TO_END,
                                     .reason = GAP_MONITOR_RESTART}};
        if (is_resumed(r, gap.gap.path))
            continue;
        keep(r, &gap);
        gap.gap.time_ns = newest_update_ns(r, gap.gap.path, first_ns);
        if (gap.gap.time_ns > promised_ns)
            keep(r, &gap);
        gap.gap.time_ns = first_ns;
        keep(r, &gap);
    }
}

void replay_run_restarted(struct replay *r, const struct packets *packets, size_t at,
                          size_t missed) {
    struct publisher_vitals none = {0};
    struct run run;
    AUTO_BUFFER saved;
    buffer_init(&saved, (size_t)1 << 30);
    clear(r);
    begin(&run, r, 1);
    publisher_heartbeat(run.publisher, packets->list[0].time_ns - 1, &none);
    feed(&run, packets, 0, at);
    uint64_t pending_ns = pipeline_pending_ns(run.pipeline);
    uint64_t newest_ns = run.newest_ns;
    pipeline_save(run.pipeline, true, &saved);
    if (pending_ns <= newest_ns)
        publisher_suspend(run.publisher, pending_ns - 1, &none);
    else
        publisher_end(run.publisher, newest_ns, &none);
    struct publisher_past past = {1, publisher_next_order(run.publisher),
                                  publisher_promised_ns(run.publisher)};
    end(&run);
    r->restarted = true;
    r->kept_ns = past.promised_ns;
    size_t known = r->path_count;
    size_t next = at + missed < packets->count ? at + missed : packets->count - 1;
    uint64_t first_ns = packets->list[next].time_ns;
    begin(&run, r, 2);
    publisher_set_past(run.publisher, &past);
    publisher_heartbeat(run.publisher, first_ns - 1, &none);
    struct cursor cursor = cursor_of(saved.data, saved.length);
    if (!pipeline_load(run.pipeline, &cursor, newest_ns))
        abort();
    feed(&run, packets, next, packets->count);
    pipeline_finish(run.pipeline);
    publisher_end(run.publisher, run.newest_ns, &none);
    doubt_restart(r, known, past.promised_ns, first_ns);
    qsort(r->records, r->count, sizeof *r->records, compare);
    end(&run);
}

void replay_release(struct replay *r) {
    packets_release(&r->frames);
    free(r->records);
    *r = (struct replay){0};
}
