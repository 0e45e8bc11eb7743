#include "tap/publish/publisher.h"

#include "common/clock.h"
#include "common/digest.h"
#include "proto/limits.h"
#include "proto/message.h"
#include "tap/publish/recent.h"
#include "tap/publish/stamper.h"
#include "tap/scsi/payload.h"

#include <stdlib.h>
#include <string.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

enum { MAX_OUTLETS = 16, MAX_PATHS = 65536, RECORD_ROOM_BYTES = LIMIT_RECORD_HEAD_BYTES };

/* The tracker does not repeat a gap over a whole path within this time while it has been given no
 * update since: one that comes late was not known to it. */
#define QUIET_NS NS_PER_SECOND

struct known_path {
    uint64_t id;
    uint64_t volume;         /* the same for all paths with one designator */
    bool fresh;              /* announced behind the last promise, which said nothing of it */
    uint64_t doubt_until_ns; /* updates up to here do not end the gap over all of it */
    uint64_t late_doubt_ns;  /* nor do those given late, up to here */
    UT_hash_handle hh;       /* by id, in the order of announcement */
};

struct publisher {
    struct sink sink; /* first: the functions get a pointer to it */
    uint64_t monitor;
    uint64_t stream;
    struct batch_pool *pool;
    struct outlet outlets[MAX_OUTLETS];
    size_t outlet_count;
    struct batch *batch; /* being filled; NULL: none begun */
    struct stamper stamper;
    struct publisher_past past;
    struct recent recent;
    bool forgetful;           /* `recent` was full since the last promise */
    struct known_path *paths; /* uthash: those announced */
    uint64_t updates;
    uint64_t update_bytes;
    uint64_t gaps;
};

uint64_t publisher_next_order(const struct publisher *p) {
    return p->stamper.next_order;
}

uint64_t publisher_promised_ns(const struct publisher *p) {
    return p->stamper.promised_ns;
}

void publisher_set_past(struct publisher *p, const struct publisher_past *past) {
    p->past = *past;
    stamper_promise(&p->stamper, past->promised_ns);
}

uint64_t publisher_updates(const struct publisher *p) {
    return p->updates;
}

uint64_t publisher_update_bytes(const struct publisher *p) {
    return p->update_bytes;
}

uint64_t publisher_gaps(const struct publisher *p) {
    return p->gaps;
}

void publisher_flush(struct publisher *p) {
    struct batch *batch = p->batch;
    if (batch == NULL || batch->records == 0)
        return;
    batch->end_order = p->stamper.next_order;
    message_batch_finish(&batch->frame, &(struct message_batch){.monitor = p->monitor,
                                                                .stream = p->stream,
                                                                .records = batch->records});
    for (size_t i = 0; i < p->outlet_count; i++)
        p->outlets[i].send(p->outlets[i].context, batch);
    batch_put(batch);
    p->batch = NULL;
}

/*
 * The batch to write the next record into, with room for its payload. NULL only when the program is
 * ending and nobody will take the record any more.
 */
static struct batch *room_for(struct publisher *p, size_t payload_bytes) {
    size_t need = payload_bytes + 2 * (size_t)RECORD_ROOM_BYTES;
    if (p->batch != NULL && (p->batch->frame.length >= LIMIT_BATCH_TARGET_BYTES ||
                             p->batch->frame.length + need > LIMIT_BATCH_BYTES ||
                             p->batch->records + 2 > LIMIT_BATCH_RECORDS))
        publisher_flush(p);
    if (p->batch == NULL) {
        p->batch = batch_pool_take(p->pool);
        if (p->batch == NULL)
            return NULL;
        p->batch->first_order = p->stamper.next_order;
    }
    return p->batch;
}

static void append(struct publisher *p, struct record *r) {
    struct batch *batch = room_for(p, 0);
    r->order = stamper_order(&p->stamper);
    if (batch == NULL)
        return;
    record_encode(&batch->frame, r);
    batch->records++;
}

/* Copies bytes of the payload behind a PAYLOAD head. */
static void append_payload(struct batch *batch, uint64_t order, const struct payload *data,
                           uint64_t offset, uint32_t bytes, uint32_t crc) {
    size_t start = record_payload_begin(&batch->frame, order, bytes, crc);
    while (bytes > 0) {
        size_t part = 0;
        const uint8_t *from = payload_bytes(data, offset, bytes, &part);
        if (from == NULL || part == 0)
            break;
        buffer_put(&batch->frame, from, part);
        offset += part;
        bytes -= (uint32_t)part;
    }
    record_payload_end(&batch->frame, start);
    batch->records++;
}

static void append_update(struct publisher *p, struct record *r, const struct payload *data,
                          uint64_t data_offset) {
    struct update_record *u = &r->update;
    if (u->payload_bytes > 0)
        u->payload_crc32c = payload_crc32c(data, data_offset, u->payload_bytes);
    struct batch *batch = room_for(p, u->payload_bytes);
    r->order = stamper_order(&p->stamper);
    p->updates++;
    p->update_bytes += u->length_bytes;
    if (batch == NULL)
        return;
    record_encode(&batch->frame, r);
    batch->records++;
    batch->updates++;
    if (u->payload_bytes > 0)
        append_payload(batch, r->order, data, data_offset, u->payload_bytes, u->payload_crc32c);
}

/*
 * A write (or what is combined with the old content) goes out in parts that a record can hold,
 * those of a write that are all zero without their bytes.
 */
static void publish_data(struct publisher *p, struct record *r, const struct payload *data,
                         uint64_t length) {
    uint64_t start = r->update.offset_bytes;
    uint8_t op = r->update.op;
    for (uint64_t done = 0; done < length;) {
        uint64_t part = length - done;
        if (part > LIMIT_UPDATE_PAYLOAD_BYTES)
            part = LIMIT_UPDATE_PAYLOAD_BYTES;
        bool zero = op == UPDATE_WRITE && payload_is_zero(data, done, part);
        r->update.op = zero ? (uint8_t)UPDATE_ZERO : op;
        r->update.offset_bytes = start + done;
        r->update.length_bytes = part;
        r->update.payload_bytes = zero ? 0 : (uint32_t)part;
        append_update(p, r, data, done);
        done += part;
    }
}

/* In parts as of a write, so that whoever looks the content up needs no more room than for one. */
static void publish_copy(struct publisher *p, struct record *r, const struct sink_update *update,
                         uint64_t length) {
    uint64_t start = r->update.offset_bytes;
    uint64_t source = update->source_lba * update->source->block_bytes;
    r->update.source_path = update->source->id;
    r->update.source_from_ns = update->source_from_ns;
    r->update.source_until_ns = update->source_until_ns > update->source_from_ns
                                    ? update->source_until_ns
                                    : update->source_from_ns;
    for (uint64_t done = 0; done < length; done += r->update.length_bytes) {
        uint64_t left = length - done;
        r->update.offset_bytes = start + done;
        r->update.source_offset_bytes = source + done;
        r->update.length_bytes =
            left < LIMIT_UPDATE_PAYLOAD_BYTES ? left : LIMIT_UPDATE_PAYLOAD_BYTES;
        append_update(p, r, NULL, 0);
    }
}

static void publish_pattern(struct publisher *p, struct record *r, const struct payload *data) {
    uint64_t bytes = payload_length(data);
    if (payload_is_zero(data, 0, bytes)) {
        r->update.op = UPDATE_ZERO;
        append_update(p, r, NULL, 0);
        return;
    }
    r->update.payload_bytes = (uint32_t)bytes;
    append_update(p, r, data, 0);
}

static struct known_path *find_path(const struct publisher *p, uint64_t id) {
    struct known_path *found = NULL;
    HASH_FIND(hh, p->paths, &id, sizeof id, found);
    return found;
}

static void append_gap(struct publisher *p, const struct sink_gap *gap,
                       const struct recent_update *over) {
    size_t text_bytes = strlen(gap->text);
    if (text_bytes > LIMIT_REASON_BYTES)
        text_bytes = LIMIT_REASON_BYTES;
    struct record r = {
        .type = RECORD_GAP,
        .gap = {.time_ns = over->time_ns,
                .issued_ns = gap->issued_ns,
                .path = over->path,
                .offset_bytes = over->offset_bytes,
                .length_bytes = over->length_bytes,
                .reason = gap->reason,
                .text = gap->text,
                .text_bytes = (uint16_t)text_bytes},
    };
    append(p, &r);
    p->gaps++;
}

/* Remembers the update, and leaves its range in doubt when it falls into the time of a loss. */
static void note_update(struct publisher *p, const struct update_record *u, uint64_t length) {
    static const struct sink_gap doubt = {
        .reason = GAP_STREAM_HOLE,
        .text = "written about when something else was lost: nobody can tell which came last"};
    const struct recent_update update = {u->time_ns, u->path, u->offset_bytes, length};
    const struct known_path *path = find_path(p, u->path);
    if (u->op == UPDATE_FLUSH || length == 0)
        return;
    struct recent_update *kept = recent_add(&p->recent);
    if (kept != NULL)
        *kept = update;
    else
        p->forgetful = true;
    if (path == NULL)
        return;
    bool late = u->time_ns < p->stamper.last_ns;
    if (u->time_ns <= path->doubt_until_ns || (late && u->time_ns <= path->late_doubt_ns))
        append_gap(p, &doubt, &update);
}

static void publish_update(struct sink *s, const struct sink_update *update) {
    struct publisher *p = (struct publisher *)s;
    if (!update->applied)
        return;
    uint64_t length = update->blocks * update->block_bytes;
    uint64_t offset = update->lba * update->block_bytes;
    struct record r = {
        .type = RECORD_UPDATE,
        .update = {.time_ns = stamper_time(&p->stamper, update->time_ns),
                   .issued_ns = update->issued_ns,
                   .path = update->path->id,
                   .offset_bytes = offset,
                   .length_bytes = length,
                   .block_bytes = update->block_bytes,
                   .op = (uint8_t)update->op,
                   .opcode = update->opcode,
                   .flags = update->fua ? UPDATE_FUA : 0},
    };
    switch (update->op) {
    case UPDATE_WRITE:
    case UPDATE_OR:
    case UPDATE_XOR:
        publish_data(p, &r, update->data, length);
        break;
    case UPDATE_PATTERN:
        publish_pattern(p, &r, update->data);
        break;
    case UPDATE_COPY:
        publish_copy(p, &r, update, length);
        break;
    case UPDATE_ZERO:
    case UPDATE_FLUSH:
        append_update(p, &r, NULL, 0);
        break;
    }
    r.update.offset_bytes = offset;
    note_update(p, &r.update, length);
}

/*
 * A gap over a whole path that began before updates which were published already: which of them
 * came before what was lost, and which behind it, is not known.
 */
static void reach_back(struct publisher *p, const struct sink_gap *gap, struct known_path *path,
                       uint64_t since_ns) {
    struct recent_update all = {p->stamper.last_ns, path->id, 0, GAP_TO_END};
    for (size_t i = 0; i < p->recent.count; i++) {
        const struct recent_update *update = &p->recent.updates[i];
        const struct known_path *other = find_path(p, update->path);
        if (update->time_ns > since_ns && other != NULL && other->volume == path->volume)
            append_gap(p, gap, update);
    }
    if (p->forgetful)
        append_gap(p, gap, &all);
    path->doubt_until_ns = p->stamper.last_ns;
}

static void publish_gap_of_path(struct publisher *p, const struct sink_gap *gap, uint64_t path) {
    struct known_path *known = find_path(p, path);
    uint64_t since_ns = stamper_time(&p->stamper, gap->time_ns);
    if (known != NULL && known->fresh && gap->time_ns > 0)
        since_ns = gap->time_ns;
    struct recent_update over = {since_ns, path, gap->offset_bytes, gap->length_bytes};
    append_gap(p, gap, &over);
    bool whole = gap->offset_bytes == 0 && gap->length_bytes == GAP_TO_END;
    if (whole && known != NULL && since_ns + QUIET_NS > known->late_doubt_ns)
        known->late_doubt_ns = since_ns + QUIET_NS;
    if (whole && known != NULL && since_ns < p->stamper.last_ns)
        reach_back(p, gap, known, since_ns);
}

static void publish_gap(struct sink *s, const struct sink_gap *gap) {
    struct publisher *p = (struct publisher *)s;
    if (gap->path != NULL) {
        publish_gap_of_path(p, gap, gap->path->id);
        return;
    }
    for (struct known_path *path = p->paths; path != NULL; path = path->hh.next)
        publish_gap_of_path(p, gap, path->id);
}

static void remember_path(struct publisher *p, const struct sink_path *path) {
    uint64_t volume = path->id;
    if (path->designator[0] != '\0')
        volume = digest_id64(path->designator, strlen(path->designator));
    struct known_path *known = find_path(p, path->id);
    if (known != NULL) {
        known->volume = volume;
        return;
    }
    known = HASH_COUNT(p->paths) < MAX_PATHS ? calloc(1, sizeof *known) : NULL;
    if (known == NULL)
        return;
    *known = (struct known_path){.id = path->id, .volume = volume, .fresh = true};
    HASH_ADD(hh, p->paths, id, sizeof known->id, known);
    if (known->hh.tbl == NULL)
        free(known);
}

static void publish_path(struct sink *s, const struct sink_path *path, uint64_t time_ns) {
    struct publisher *p = (struct publisher *)s;
    remember_path(p, path);
    struct record r = {
        .type = RECORD_PATH,
        .path = {.time_ns = stamper_time(&p->stamper, time_ns),
                 .path = path->id,
                 .size_bytes = path->size_bytes,
                 .lun = path->lun,
                 .block_bytes = path->block_bytes,
                 .flags = (uint16_t)(path->flags | (path->provisional ? PATH_PROVISIONAL : 0)),
                 .same_as = path->same_as,
                 .protocol = path->protocol,
                 .target = path->target,
                 .target_bytes = (uint16_t)strlen(path->target),
                 .designator = path->designator,
                 .designator_bytes = (uint16_t)strlen(path->designator),
                 .serial = path->serial,
                 .serial_bytes = (uint16_t)strlen(path->serial)},
    };
    append(p, &r);
}

static void publish_resume(struct sink *s, const struct sink_path *path, uint64_t time_ns) {
    struct publisher *p = (struct publisher *)s;
    if (p->past.stream == 0)
        return;
    struct record r = {
        .type = RECORD_RESUME,
        .resume = {.time_ns = stamper_time(&p->stamper, time_ns),
                   .path = path->id,
                   .stream = p->past.stream,
                   .order = p->past.next_order},
    };
    append(p, &r);
}

static void publish_audit(struct sink *s, const struct sink_audit *audit) {
    struct publisher *p = (struct publisher *)s;
    uint8_t sums[AUDIT_BLOCKS * 4];
    for (uint32_t i = 0; i < audit->blocks; i++) {
        for (unsigned k = 0; k < 4; k++)
            sums[i * 4 + k] = (uint8_t)(audit->sums[i] >> (8 * k));
    }
    struct record r = {
        .type = RECORD_AUDIT,
        .audit = {.time_ns = stamper_time(&p->stamper, audit->time_ns),
                  .issued_ns = audit->issued_ns,
                  .path = audit->path->id,
                  .offset_bytes = audit->lba * audit->block_bytes,
                  .block_bytes = audit->block_bytes,
                  .blocks = (uint16_t)audit->blocks, /* at most AUDIT_BLOCKS */
                  .kind = AUDIT_BLOCKSUM,
                  .sums = sums},
    };
    append(p, &r);
}

static void append_frontier(struct publisher *p, uint64_t time_ns, uint32_t flags,
                            const struct publisher_vitals *vitals) {
    struct record r = {
        .type = RECORD_FRONTIER,
        .frontier = {.time_ns = time_ns,
                     .wall_ns = clock_wall_ns(),
                     .packets = vitals->packets,
                     .bytes = vitals->bytes,
                     .dropped = vitals->dropped,
                     .malformed = vitals->malformed,
                     .clock_error_ns = vitals->clock_error_ns,
                     .flags = flags},
    };
    append(p, &r);
    publisher_flush(p);
}

void publisher_heartbeat(struct publisher *p, uint64_t seen_ns,
                         const struct publisher_vitals *vitals) {
    uint64_t promised_ns = stamper_promise(&p->stamper, seen_ns);
    recent_settle(&p->recent, promised_ns);
    p->forgetful = p->forgetful && p->recent.count > 0;
    for (struct known_path *path = p->paths; path != NULL; path = path->hh.next)
        path->fresh = false;
    append_frontier(p, promised_ns, 0, vitals);
}

void publisher_suspend(struct publisher *p, uint64_t promise_ns,
                       const struct publisher_vitals *vitals) {
    append_frontier(p, stamper_promise(&p->stamper, promise_ns), FRONTIER_END, vitals);
}

void publisher_end(struct publisher *p, uint64_t last_ns, const struct publisher_vitals *vitals) {
    if (last_ns < p->stamper.last_ns)
        last_ns = p->stamper.last_ns;
    publisher_suspend(p, last_ns, vitals);
}

struct publisher *publisher_create(uint64_t monitor, uint64_t stream, struct batch_pool *pool,
                                   const struct outlet *outlets, size_t outlet_count) {
    if (outlet_count > MAX_OUTLETS)
        return NULL;
    struct publisher *p = calloc(1, sizeof *p);
    if (p == NULL)
        return NULL;
    p->sink = (struct sink){.update = publish_update,
                            .gap = publish_gap,
                            .path = publish_path,
                            .audit = publish_audit,
                            .resume = publish_resume};
    p->monitor = monitor;
    p->stream = stream;
    p->pool = pool;
    p->outlet_count = outlet_count;
    if (outlet_count > 0)
        memcpy(p->outlets, outlets, outlet_count * sizeof *outlets);
    return p;
}

void publisher_destroy(struct publisher *p) {
    if (p == NULL)
        return;
    if (p->batch != NULL)
        batch_put(p->batch);
    recent_release(&p->recent);
    struct known_path *path, *next;
    HASH_ITER(hh, p->paths, path, next) {
        HASH_DEL(p->paths, path);
        free(path);
    }
    free(p);
}

struct sink *publisher_sink(struct publisher *p) {
    return &p->sink;
}
