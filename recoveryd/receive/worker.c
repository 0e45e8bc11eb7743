#include "recoveryd/receive/worker.h"

#include "common/log.h"
#include "proto/message.h"

static void let_go(struct worker *w, struct frame *frame) {
    atomic_fetch_sub(w->held_bytes, frame->bytes);
    frame_destroy(frame);
}

static void refuse(struct worker *w, const struct frame *frame, const struct error *why) {
    struct stream *stream = frame->context;
    uint64_t left_out;
    w->malformed++;
    sender_refuse(w->sender, &frame->from, why->text);
    if (rate_allows(&w->malformed_lines, NS_PER_SECOND, &left_out))
        log_warning("monitor %s: %s: refused (and %llu more)", stream->entry.name, why->text,
                    (unsigned long long)left_out);
}

/* A limit that was set is as a full disk. */
static int try_append(struct worker *w, const struct frame *frame, struct extent *where,
                      struct error *err) {
    int code = w->room != NULL ? room_take(w->room, frame->bytes, err) : 0;
    return code == 0 ? segments_append(w->writer, frame->data, frame->bytes, where, err) : code;
}

/* ERR_FULL is waited out here: the frame is what the monitor must send again otherwise. */
static int append(struct worker *w, const struct frame *frame, struct extent *where,
                  struct error *err) {
    int code = try_append(w, frame, where, err);
    while (code == ERR_FULL) {
        if (!full_wait(&w->full, err))
            code = error_set(err, ERR_STOPPED,
                             "stopped while the disk was full: monitors will send again what was "
                             "not acknowledged");
        else
            code = try_append(w, frame, where, err);
    }
    full_end(&w->full);
    return code;
}

static int store(struct worker *w, const struct frame *frame, struct landed *landed,
                 struct error *err) {
    if (streams_have_all(w->streams, landed->stream, &landed->landing))
        return 0;
    struct extent where;
    int code = append(w, frame, &where, err);
    if (code < 0)
        return code;
    landed->appended = true;
    landing_place(&landed->landing, &where);
    return 0;
}

static int land(struct worker *w, const struct frame *frame, struct landed *landed, bool *refused,
                struct error *err) {
    struct message m;
    struct cursor body;
    int code = message_decode(frame->data, frame->bytes, &m, &body, err);
    if (code == 0)
        code = landing_decode(&landed->landing, &m.batch, &body, frame->data, err);
    *refused = code == ERR_FORMAT || code == ERR_VERSION;
    if (code < 0)
        return code;
    return store(w, frame, landed, err);
}

int worker_take(struct worker *w, struct frame *frame, struct error *err) {
    struct stream *stream = frame->context;
    bool refused = false;
    int code = ERR_NOMEM;
    AUTO(landed) landed = calloc(1, sizeof *landed);
    if (landed != NULL) {
        landed->from = frame->from;
        landed->stream = stream;
        landed->worker = w->number;
        code = land(w, frame, landed, &refused, err);
    } else {
        error_set(err, ERR_NOMEM, "out of memory");
    }
    if (refused) {
        refuse(w, frame, err);
        code = 0;
    } else if (code == 0 && queue_push(w->landed, landed)) {
        landed = NULL;
        stream = NULL;
    }
    if (stream != NULL)
        streams_release(w->streams, stream);
    let_go(w, frame);
    return code;
}

int worker_run(struct worker *w, struct error *err) {
    for (struct frame *frame; (frame = queue_pop(w->frames, UINT64_MAX)) != NULL;) {
        int code = worker_take(w, frame, err);
        if (code < 0)
            return code;
    }
    return 0;
}
