#include "tests/property/replay.h"

#include "common/clock.h"
#include "proto/message.h"
#include "tap/pipeline.h"
#include "tap/publish/publisher.h"

#include <stdlib.h>
#include <string.h>

enum { BATCHES = 4 };

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
        if (r->paths[i].path == path && r->paths[i].promised_ns == r->promised_ns)
            return false;
    }
    return record_time_ns(record) <= r->promised_ns;
}

static void note_path(struct replay *r, uint64_t path) {
    for (size_t i = 0; i < r->path_count; i++) {
        if (r->paths[i].path == path)
            return;
    }
    if (r->path_count == REPLAY_PATHS)
        abort();
    r->paths[r->path_count++] = (struct replay_path){path, r->promised_ns};
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

void replay_run(struct replay *r, const struct packets *packets) {
    struct publisher_vitals none = {0};
    struct outlet outlet = {.send = send, .context = r};
    AUTO(batch_pool) pool = batch_pool_create(BATCHES);
    AUTO(publisher) publisher = publisher_create(1, 1, pool, &outlet, 1);
    /* Every READ: what it returns is one more witness. */
    static const struct pipeline_options options = {.audit_one_in = 1};
    AUTO(pipeline) pipeline = pipeline_create(publisher_sink(publisher), &options);
    uint64_t newest_ns = 0;
    uint64_t beat_ns = 0;
    r->count = 0;
    r->late = 0;
    r->path_count = 0;
    r->promised_ns = 0;
    packets_clear(&r->frames);
    for (size_t i = 0; i < packets->count; i++) {
        const struct packet *packet = &packets->list[i];
        if (i == 0)
            publisher_heartbeat(publisher, packet->time_ns - 1, &none);
        pipeline_packet(pipeline, packet);
        if (packet->time_ns > newest_ns)
            newest_ns = packet->time_ns;
        if (newest_ns < beat_ns + PIPELINE_HEARTBEAT_NS)
            continue;
        beat_ns = newest_ns;
        publisher_heartbeat(publisher, pipeline_settled_ns(pipeline, newest_ns), &none);
    }
    pipeline_finish(pipeline);
    publisher_end(publisher, newest_ns, &none);
    qsort(r->records, r->count, sizeof *r->records, compare);
}

void replay_release(struct replay *r) {
    packets_release(&r->frames);
    free(r->records);
    *r = (struct replay){0};
}
