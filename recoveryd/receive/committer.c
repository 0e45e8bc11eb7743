#include "recoveryd/receive/committer.h"

#include "proto/limits.h"
#include "proto/message.h"
#include "recoveryd/receive/commit.h"
#include "recoveryd/receive/full.h"
#include "recoveryd/receive/marks.h"

#include <string.h>

enum { ROUND_BATCHES = 64, ROUND_RECORDS = 100000, MAX_WRITERS = 64 };

struct committer {
    struct committer_options o;
    bool dirty[MAX_WRITERS]; /* has appended since its last sync */
    struct landed *group[ROUND_BATCHES];
    size_t group_count;
    struct touched touched[ROUND_BATCHES];
    size_t touched_count;
    struct full full;
};

struct committer *committer_create(const struct committer_options *options) {
    if (options->writer_count > MAX_WRITERS)
        return NULL;
    struct committer *c = calloc(1, sizeof *c);
    if (c == NULL)
        return NULL;
    c->o = *options;
    c->full.stalled = options->stalled;
    return c;
}

static void end_round(struct committer *c) {
    for (size_t i = 0; i < c->touched_count; i++)
        touched_release(&c->touched[i]);
    for (size_t i = 0; i < c->group_count; i++) {
        streams_release(c->o.streams, c->group[i]->stream);
        landed_destroy(c->group[i]);
    }
    c->touched_count = 0;
    c->group_count = 0;
}

void committer_destroy(struct committer *c) {
    if (c == NULL)
        return;
    end_round(c);
    free(c);
}

/* --- one round -----------------------------------------------------------------------------------
 */

static void gather(struct committer *c, uint64_t timeout_ns) {
    size_t records = 0;
    while (c->group_count < ROUND_BATCHES && records < ROUND_RECORDS) {
        struct landed *landed = queue_pop(c->o.landed, c->group_count == 0 ? timeout_ns : 0);
        if (landed == NULL)
            return;
        records += landed->landing.count;
        c->group[c->group_count++] = landed;
    }
}

/*
 * Marks that are durable are done with; marks too far ahead are left to be sent again. The window
 * is measured from the frontier of the last commit.
 */
static int admit_arrivals(struct landed *landed, struct error *err) {
    struct stream *stream = landed->stream;
    for (size_t i = 0; i < landed->landing.count; i++) {
        struct arrival *a = &landed->landing.arrivals[i];
        if (marks_have(&stream->entry, a->order) ||
            a->order - stream->entry.frontier >= WAITING_WINDOW)
            continue;
        if (!waiting_add(&stream->waiting, a))
            return error_set(err, ERR_NOMEM, "out of memory");
    }
    return 0;
}

static bool is_touched(const struct committer *c, const struct stream *stream) {
    for (size_t i = 0; i < c->touched_count; i++) {
        if (c->touched[i].stream == stream)
            return true;
    }
    return false;
}

static int plan(struct committer *c, struct error *err) {
    int code = 0;
    for (size_t i = 0; i < c->group_count && code == 0; i++) {
        struct landed *landed = c->group[i];
        c->dirty[landed->worker] |= landed->appended;
        code = admit_arrivals(landed, err);
    }
    for (size_t i = 0; i < c->group_count && code == 0; i++) {
        struct stream *stream = c->group[i]->stream;
        if (!is_touched(c, stream))
            code = commit_plan(&c->touched[c->touched_count++], stream, err);
    }
    return code;
}

static bool has_fresh(const struct committer *c) {
    for (size_t i = 0; i < c->touched_count; i++) {
        if (c->touched[i].fresh > 0)
            return true;
    }
    return false;
}

/*
 * A sync that failed must not be tried again: the kernel may have dropped the pages, and the next
 * one would succeed without them. So every failure here ends the server, a full disk too.
 */
static int sync_segments(struct committer *c, struct error *err) {
    for (unsigned i = 0; i < c->o.writer_count; i++) {
        if (!c->dirty[i])
            continue;
        int code = segments_sync(c->o.writers[i], err);
        if (code < 0)
            return code == ERR_FULL ? ERR_IO : code;
        c->dirty[i] = false;
    }
    return 0;
}

/* Waits, as long as the disk is full, until the index takes the transaction. */
static int write_index(struct committer *c, struct error *err) {
    int code = commit_write(c->o.store->index, c->touched, c->touched_count, err);
    while (code == ERR_FULL && full_wait(&c->full, err))
        code = commit_write(c->o.store->index, c->touched, c->touched_count, err);
    full_end(&c->full);
    return code;
}

static void send_ack(struct committer *c, const struct peer *to, const struct stream *stream) {
    const struct stream_entry *entry = &stream->entry;
    struct range ranges[sizeof entry->runs / sizeof entry->runs[0]];
    for (uint32_t i = 0; i < entry->run_count; i++)
        ranges[i] = (struct range){entry->runs[i].start, entry->runs[i].end};
    struct message ack = {
        .kind = MESSAGE_ACK,
        .ack = {.monitor = entry->monitor,
                .stream = entry->stream,
                .incarnation = c->o.incarnation,
                .frontier = entry->frontier,
                .ranges = ranges,
                .range_count = entry->run_count},
    };
    AUTO_BUFFER b;
    buffer_init(&b, LIMIT_RECORD_HEAD_BYTES);
    message_encode(&b, &ack);
    sender_send(c->o.sender, to, &b);
}

static bool was_acknowledged(const struct committer *c, size_t before,
                             const struct landed *landed) {
    for (size_t i = 0; i < before; i++) {
        if (c->group[i]->stream == landed->stream && peer_equal(&c->group[i]->from, &landed->from))
            return true;
    }
    return false;
}

/* Every lane that brought something hears once; so a lane that sends again what we have learns that
 * we do. */
static void acknowledge(struct committer *c) {
    for (size_t i = 0; i < c->group_count; i++) {
        if (!was_acknowledged(c, i, c->group[i]))
            send_ack(c, &c->group[i]->from, c->group[i]->stream);
    }
}

static int commit_group(struct committer *c, struct error *err) {
    int code = plan(c, err);
    if (code == 0 && has_fresh(c)) {
        code = sync_segments(c, err);
        if (code == 0)
            code = write_index(c, err);
    }
    if (code < 0)
        return code;
    for (size_t i = 0; i < c->touched_count; i++)
        commit_finish(c->o.streams, &c->touched[i]);
    acknowledge(c);
    return 0;
}

int committer_round(struct committer *c, uint64_t timeout_ns, struct error *err) {
    gather(c, timeout_ns);
    int code = c->group_count > 0 ? commit_group(c, err) : 0;
    end_round(c);
    return code;
}

int committer_run(struct committer *c, struct error *err) {
    while (!queue_is_closed(c->o.landed) || queue_depth(c->o.landed) > 0) {
        int code = committer_round(c, UINT64_MAX, err);
        if (code < 0)
            return code;
    }
    return 0;
}
