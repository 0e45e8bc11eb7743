#include "tap/monitor.h"

#include "common/clock.h"
#include "common/log.h"
#include "common/stop.h"
#include "proto/limits.h"
#include "proto/stamp.h"
#include "tap/capture/capture.h"
#include "tap/checkpoint.h"
#include "tap/clock_error.h"
#include "tap/identify/identify.h"
#include "tap/pipeline.h"
#include "tap/publish/decode.h"
#include "tap/publish/link.h"
#include "tap/publish/publisher.h"
#include "tap/publish/spool.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { FEWEST_BATCHES = 16, PACKETS_PER_LOOK = 64, SNAP_BYTES = 262144 };
#define HEARTBEAT_NS     (250 * NS_PER_MS)
#define IDLE_WAIT_NS     (20 * NS_PER_MS)
#define DRAIN_SLICE_NS   (500 * NS_PER_MS)
#define WELCOME_SLICE_NS (50 * NS_PER_MS)
#define STOP_PATIENCE_NS (10 * NS_PER_SECOND)
/* When all is on disk, nobody has to wait for long. */
#define SPOOL_PATIENCE_NS (2 * NS_PER_SECOND)
/* Longer than a portal has for a step: one that keeps silent has failed by then. */
#define IDENTIFY_PATIENCE_NS (8 * NS_PER_SECOND)
#define CHECKPOINT_NS        NS_PER_SECOND
#define TELL_NS              (60 * NS_PER_SECOND)
/* A packet may be so much older than another that came before it. */
#define OUT_OF_ORDER_NS NS_PER_SECOND

struct monitor {
    const struct settings *settings;
    struct capture *capture;
    struct pipeline *pipeline;
    struct decode_sink *decode;
    struct batch_pool *pool;
    struct spool *spool; /* NULL: nothing is sent */
    struct link *links[SPOOL_SINKS];
    unsigned link_count;
    struct publisher *publisher;
    struct identify *identify; /* NULL: not allowed */
    bool live;
    bool unwanted; /* it is a file, and no sink ever answered */
    bool begun;    /* the stream has said from when on it watches */
    uint64_t stream;
    struct mono saved_at;
    struct mono told_at; /* who is behind */
    uint64_t packets;
    uint64_t newest_ns;    /* greatest packet time */
    uint64_t beat_ns;      /* packet time of the last promise */
    struct mono looked_at; /* when the clock was last looked at in busy traffic */
    uint64_t dropped;      /* as last seen */
};

static void monitor_release(struct monitor *m) {
    identify_destroy(m->identify);
    pipeline_destroy(m->pipeline);
    publisher_destroy(m->publisher);
    for (unsigned i = 0; i < m->link_count; i++)
        link_destroy(m->links[i]);
    spool_destroy(m->spool);
    batch_pool_destroy(m->pool);
    decode_destroy(m->decode);
    capture_destroy(m->capture);
}

static int open_capture(struct monitor *m, struct error *err) {
    const struct settings *s = m->settings;
    struct capture_options options = {.filter = s->filter,
                                      .ring_bytes = s->ring_bytes,
                                      .snap_bytes = SNAP_BYTES,
                                      .knows_link = decap_knows_link};
    m->capture = capture_create(&options);
    if (m->capture == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    int code = 0;
    for (unsigned i = 0; code == 0 && i < s->file_count; i++)
        code = capture_add_file(m->capture, s->files[i], err);
    for (unsigned i = 0; code == 0 && i < s->interface_count; i++)
        code = capture_add_interface(m->capture, s->interfaces[i], err);
    return code;
}

static size_t pool_count(const struct monitor *m) {
    uint64_t count = m->settings->buffer_bytes / LIMIT_BATCH_TARGET_BYTES;
    return count > FEWEST_BATCHES ? (size_t)count : FEWEST_BATCHES;
}

/* Traffic does not wait, but a file does. */
static enum spool_full when_full(const struct monitor *m) {
    if (m->settings->full_is_set)
        return m->settings->full;
    return m->live ? SPOOL_OLDEST : SPOOL_WAIT;
}

static unsigned required_sinks(const struct monitor *m) {
    unsigned sinks = m->settings->log_count + 1;
    return m->settings->required > 0 ? (unsigned)m->settings->required : sinks;
}

static int open_spool(struct monitor *m, struct error *err) {
    const struct settings *s = m->settings;
    unsigned sinks = s->log_count + 1;
    struct spool_options options = {.dir = s->spool,
                                    .monitor = stamp_monitor_id(s->monitor),
                                    .stream = clock_wall_ns(),
                                    .bound_bytes =
                                        s->spool != NULL ? s->spool_bytes : s->buffer_bytes,
                                    .full = when_full(m),
                                    .sinks = sinks,
                                    .required = required_sinks(m),
                                    .pool = m->pool,
                                    .pool_count = pool_count(m)};
    int code = spool_create(&options, &m->spool, err);
    if (code == 0)
        m->stream = spool_stream(m->spool);
    return code;
}

static int open_link(struct monitor *m, unsigned sink, struct error *err) {
    const struct settings *s = m->settings;
    struct link_options options = {.endpoint = sink == 0 ? s->to : s->logs[sink - 1],
                                   .monitor = s->monitor,
                                   .lanes = (unsigned)s->lanes,
                                   .spool = m->spool,
                                   .sink = sink};
    int code = link_create(&options, &m->links[sink], err);
    if (code == 0)
        m->link_count = sink + 1;
    return code;
}

static unsigned count_welcomes(struct monitor *m) {
    unsigned count = 0;
    for (unsigned i = 0; i < m->link_count; i++)
        count += link_is_welcome(m->links[i]);
    return count;
}

/* A file is not begun when nobody is there to take it, and it could not be kept. */
static int await_welcome(struct monitor *m, struct error *err) {
    uint64_t patience_ns = m->settings->connect_timeout_s * NS_PER_SECOND;
    struct mono begun = clock_mono();
    if (m->live || m->settings->spool != NULL)
        return 0;
    for (unsigned i = 0; count_welcomes(m) < required_sinks(m); i = (i + 1) % m->link_count) {
        if (link_is_welcome(m->links[i]))
            continue;
        uint64_t waited_ns = clock_since_ns(begun);
        uint64_t slice_ns = m->link_count > 1 ? WELCOME_SLICE_NS : patience_ns;
        int code = link_wait_welcome(m->links[i], slice_ns, err);
        if (code < 0 && (code != ERR_NET || waited_ns + slice_ns >= patience_ns))
            return code;
        if (code < 0 && spool_check(m->spool, err) < 0)
            return err->code;
    }
    return 0;
}

static int open_sinks(struct monitor *m, struct error *err) {
    int code = open_spool(m, err);
    for (unsigned i = 0; i <= m->settings->log_count && code == 0; i++)
        code = open_link(m, i, err);
    return code == 0 ? await_welcome(m, err) : code;
}

static int open_publisher(struct monitor *m, struct error *err) {
    struct outlet outlet;
    size_t outlets = 0;
    m->stream = clock_wall_ns();
    m->pool = batch_pool_create(pool_count(m));
    if (m->pool == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    if (strcmp(m->settings->to, SETTINGS_NULL_SINK) != 0) {
        int code = open_sinks(m, err);
        if (code < 0)
            return code;
        outlet = spool_outlet(m->spool);
        outlets = 1;
    }
    m->publisher = publisher_create(stamp_monitor_id(m->settings->monitor), m->stream, m->pool,
                                    &outlet, outlets);
    return m->publisher != NULL ? 0 : error_set(err, ERR_NOMEM, "out of memory");
}

/* Of a file that is read again and again, nobody wants to be told the same READs without asking. */
static uint32_t audit_rate(const struct monitor *m) {
    if (m->settings->audit_is_set)
        return m->settings->pipeline.audit_one_in;
    return m->live ? SETTINGS_LIVE_AUDIT : 0;
}

static struct sink *sink_of(struct monitor *m) {
    return m->decode != NULL ? decode_sink(m->decode) : publisher_sink(m->publisher);
}

static int open_pipeline(struct monitor *m, struct error *err) {
    struct pipeline_options options = m->settings->pipeline;
    options.audit_one_in = audit_rate(m);
    m->pipeline = pipeline_create(sink_of(m), &options);
    if (m->pipeline == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    pipeline_set_clock(m->pipeline, m->settings->clock);
    const char *names = m->settings->fcid_map;
    return names != NULL ? pipeline_load_fc_names(m->pipeline, names, err) : 0;
}

static int open_sink(struct monitor *m, struct error *err) {
    if (m->settings->decode) {
        m->decode = decode_create(stdout);
        return m->decode != NULL ? open_pipeline(m, err)
                                 : error_set(err, ERR_NOMEM, "out of memory");
    }
    int code = open_publisher(m, err);
    return code == 0 ? open_pipeline(m, err) : code;
}

static int open_identify(struct monitor *m, struct error *err) {
    const struct settings *s = m->settings;
    struct identify_options options = {.initiator = s->identify_as, .chap_file = s->identify_chap};
    return s->identify ? identify_create(&options, &m->identify, err) : 0;
}

/*
 * Packets that the kernel dropped may have been anything: every volume is in doubt since the last
 * promise (the sink puts the gap right behind it). Asked before each promise, so that none covers a
 * drop.
 */
static void look_for_drops(struct monitor *m, const struct capture_stats *stats) {
    if (stats->dropped <= m->dropped)
        return;
    char text[128];
    snprintf(text, sizeof text, "%" PRIu64 " packets were dropped by the kernel or the interface",
             stats->dropped - m->dropped);
    m->dropped = stats->dropped;
    log_warning("%s; enlarge --ring or narrow --filter", text);
    struct sink *sink = sink_of(m);
    sink->gap(sink, &(struct sink_gap){.time_ns = 0,
                                       .length_bytes = GAP_TO_END,
                                       .reason = GAP_CAPTURE_LOSS,
                                       .text = text});
}

/* Who wrote a file, and how good that clock was, is known to the administrator alone. */
static uint64_t clock_error(const struct monitor *m) {
    if (m->settings->clock_error_ns > 0)
        return m->settings->clock_error_ns;
    return m->live ? clock_error_now() : 0;
}

static struct publisher_vitals read_vitals(struct monitor *m) {
    struct capture_stats stats = capture_stats(m->capture);
    look_for_drops(m, &stats);
    return (struct publisher_vitals){.packets = stats.packets,
                                     .bytes = stats.bytes,
                                     .dropped = stats.dropped,
                                     .malformed = pipeline_malformed(m->pipeline),
                                     .clock_error_ns = clock_error(m)};
}

/* While all is behind, heartbeats would take the room of updates: the lag that shows is real. */
static bool is_behind(struct monitor *m) {
    return m->spool != NULL && (batch_pool_is_scarce(m->pool) || spool_is_stuck(m->spool));
}

/* Now and then, who is far behind. */
static void tell_lags(struct monitor *m) {
    if (m->spool == NULL || !m->live || clock_since_ns(m->told_at) < TELL_NS)
        return;
    m->told_at = clock_mono();
    for (unsigned i = 0; i < m->link_count; i++) {
        uint64_t lag = spool_lag(m->spool, i);
        if (lag >= m->settings->buffer_bytes)
            log_warning("%s is %" PRIu64 " bytes behind",
                        i == 0 ? m->settings->to : m->settings->logs[i - 1], lag);
    }
}

/* What a file tells is no news: the storage may hold something else by now. */
static void look_for_probes(struct monitor *m) {
    struct identity_probe probe;
    if (!m->live)
        return;
    while (identify_take_probe(m->identify, &probe))
        pipeline_probe_answer(m->pipeline, &probe);
    while (pipeline_wants_probe(m->pipeline, m->newest_ns, &probe))
        identify_probe(m->identify, &probe);
}

/* Passes the questions of the pipeline on, and the answers back. Never waits. */
static void look_for_identities(struct monitor *m) {
    struct portal portal;
    struct identity *identity = NULL;
    if (m->identify == NULL)
        return;
    while (identify_has_room(m->identify) && pipeline_wants_identity(m->pipeline, &portal))
        identify_ask(m->identify, &portal);
    while (identify_take(m->identify, &identity)) {
        pipeline_identify(m->pipeline, identity, m->newest_ns);
        identity_destroy(identity);
    }
    look_for_probes(m);
}

/* An answer is there before its portal is settled, and may lead to the next question. */
static bool identities_are_in(struct monitor *m) {
    bool settled = identify_is_settled(m->identify);
    look_for_identities(m);
    return settled && identify_is_settled(m->identify);
}

/* A file is read faster than a portal answers: what was asked is waited for, for a while. */
static void await_identities(struct monitor *m) {
    struct mono begun = clock_mono();
    look_for_identities(m);
    if (m->identify == NULL || m->live)
        return;
    while (!identities_are_in(m) && !stop_requested() &&
           clock_since_ns(begun) < IDENTIFY_PATIENCE_NS)
        nanosleep(&(struct timespec){.tv_nsec = 10 * NS_PER_MS}, NULL);
}

static void heartbeat(struct monitor *m, uint64_t seen_ns) {
    look_for_identities(m);
    tell_lags(m);
    if (is_behind(m))
        return;
    struct publisher_vitals vitals = read_vitals(m);
    if (m->publisher != NULL)
        publisher_heartbeat(m->publisher, pipeline_settled_ns(m->pipeline, seen_ns), &vitals);
    else
        fflush(stdout);
}

/* The stream says first from when on it watched, before it says what it saw. */
static void open_stream(struct monitor *m, uint64_t first_ns) {
    struct publisher_vitals none = {.clock_error_ns = clock_error(m)};
    if (m->publisher != NULL)
        publisher_heartbeat(m->publisher, first_ns - 1, &none);
}

/* What the monitor knew when it ended. Without it, everything is joined in the middle. */
static int load_checkpoint(struct monitor *m, uint64_t first_ns, struct error *err) {
    AUTO_BUFFER file = {0};
    struct checkpoint past;
    struct cursor rest;
    struct error why;
    const char *dir = m->settings->spool;
    if (dir == NULL || m->publisher == NULL) {
        open_stream(m, first_ns);
        return 0;
    }
    int code = checkpoint_read(dir, m->settings->monitor, &file, &past, &rest, &why);
    if (code == 0 && past.newest_ns > first_ns + OUT_OF_ORDER_NS)
        code = error_set(&why, ERR_FORMAT, "%s/sessions was written behind these packets", dir);
    if (code == 0)
        publisher_set_past(
            m->publisher, &(struct publisher_past){past.stream, past.next_order, past.promised_ns});
    open_stream(m, first_ns);
    if (code == 0 && !pipeline_load(m->pipeline, &rest, past.newest_ns)) {
        code = error_set(&why, ERR_FORMAT, "%s/sessions cannot be read", dir);
        pipeline_destroy(m->pipeline);
        m->pipeline = NULL;
    }
    if (code != 0 && code != ERR_NOT_FOUND)
        log_warning("%s: sessions are joined in the middle", why.text);
    return m->pipeline != NULL ? 0 : open_pipeline(m, err);
}

static int begin(struct monitor *m, uint64_t first_ns, struct error *err) {
    if (m->begun)
        return 0;
    m->begun = true;
    return load_checkpoint(m, first_ns, err);
}

static void begin_checkpoint(struct monitor *m, bool whole, struct buffer *file) {
    struct checkpoint now = {.monitor = m->settings->monitor,
                             .stream = m->stream,
                             .next_order = publisher_next_order(m->publisher),
                             .promised_ns = publisher_promised_ns(m->publisher),
                             .newest_ns = pipeline_time(m->pipeline, m->newest_ns)};
    checkpoint_begin(file, &now);
    pipeline_save(m->pipeline, whole, file);
}

/* Now and then, for the case that nobody will ask to end. */
static void save_sessions(struct monitor *m) {
    AUTO_BUFFER file = {0};
    struct error err;
    if (m->settings->spool == NULL || m->publisher == NULL || !m->live ||
        clock_since_ns(m->saved_at) < CHECKPOINT_NS)
        return;
    m->saved_at = clock_mono();
    begin_checkpoint(m, false, &file);
    if (checkpoint_write(m->settings->spool, &file, false, &err) < 0)
        log_warning("%s", err.text);
}

static bool is_time_to_look(struct monitor *m) {
    if (m->packets % PACKETS_PER_LOOK != 0 || clock_since_ns(m->looked_at) < HEARTBEAT_NS)
        return false;
    m->looked_at = clock_mono();
    return true;
}

static void take_packet(struct monitor *m, const struct packet *packet) {
    pipeline_packet(m->pipeline, packet);
    m->packets++;
    if (packet->time_ns > m->newest_ns)
        m->newest_ns = packet->time_ns;
    if (m->live ? !is_time_to_look(m) : m->newest_ns < m->beat_ns + PIPELINE_HEARTBEAT_NS)
        return;
    m->beat_ns = m->newest_ns;
    heartbeat(m, m->newest_ns);
    save_sessions(m);
}

static void take_quiet(struct monitor *m, uint64_t quiet_until_ns) {
    pipeline_tick(m->pipeline, quiet_until_ns);
    if (m->publisher != NULL && !is_behind(m))
        publisher_flush(m->publisher);
    if (clock_since_ns(m->looked_at) < HEARTBEAT_NS)
        return;
    m->looked_at = clock_mono();
    if (quiet_until_ns > m->newest_ns)
        m->newest_ns = quiet_until_ns;
    heartbeat(m, quiet_until_ns);
    save_sessions(m);
}

/* By the clock that was chosen. */
static uint64_t first_time(const struct monitor *m, const struct packet *first,
                           uint64_t quiet_until_ns) {
    return first != NULL ? pipeline_first_time(m->pipeline, first)
                         : pipeline_time(m->pipeline, quiet_until_ns);
}

/* 0 at the end of the capture; ERR_FORMAT for a file that is cut, after all before it. */
static int watch(struct monitor *m, struct error *err) {
    for (;;) {
        struct packet packet;
        uint64_t quiet_until_ns = 0;
        int outcome = capture_next(m->capture, IDLE_WAIT_NS, &packet, &quiet_until_ns, err);
        if (outcome < 0 || outcome == CAPTURE_END)
            return outcome < 0 ? outcome : 0;
        if (!m->begun &&
            begin(m, first_time(m, outcome == CAPTURE_PACKET ? &packet : NULL, quiet_until_ns),
                  err) < 0)
            return err->code;
        if (outcome == CAPTURE_PACKET)
            take_packet(m, &packet);
        else
            take_quiet(m, quiet_until_ns);
        if (m->packets % PACKETS_PER_LOOK != 0 && outcome == CAPTURE_PACKET)
            continue;
        if (stop_requested())
            return 0;
        int code = m->spool != NULL ? spool_check(m->spool, err) : 0;
        if (code < 0)
            return code;
    }
}

/* What is not acknowledged is kept for the next start. */
static int leave_in_spool(struct monitor *m, struct error *err) {
    int code = spool_wait_safe(m->spool, STOP_PATIENCE_NS, err);
    if (code == 0)
        log_info("%" PRIu64 " bytes that are not acknowledged stay in %s for the next start",
                 spool_backlog(m->spool), m->settings->spool);
    return code;
}

/* A stop shortens the patience, and so does a file that nobody at all wants. */
static bool has_waited_enough(const struct monitor *m, struct mono begun, struct mono stopped) {
    uint64_t patience_ns = m->settings->spool != NULL ? SPOOL_PATIENCE_NS : STOP_PATIENCE_NS;
    if (stopped.ns != 0)
        return clock_since_ns(stopped) > patience_ns;
    return m->unwanted && clock_since_ns(begun) > m->settings->connect_timeout_s * NS_PER_SECOND;
}

/* Waits for the last acknowledgement. */
static int drain(struct monitor *m, struct error *err) {
    struct mono begun = clock_mono();
    struct mono stopped = {0};
    for (;;) {
        int code = spool_wait_drained(m->spool, DRAIN_SLICE_NS, err);
        m->unwanted = code < 0 && !m->live && count_welcomes(m) == 0;
        if (code == 0 || spool_check(m->spool, NULL) < 0)
            return code;
        if (stop_requested() && stopped.ns == 0)
            stopped = clock_mono();
        if (has_waited_enough(m, begun, stopped))
            return m->settings->spool != NULL ? leave_in_spool(m, err) : code;
    }
}

/*
 * The end of the stream. With a spool, what is under way is saved, and goes on with the next start:
 * nothing younger is promised. Otherwise it is decided now.
 */
static uint64_t end_pipeline(struct monitor *m, struct buffer *file) {
    uint64_t pending_ns = pipeline_pending_ns(m->pipeline);
    uint64_t newest_ns = pipeline_time(m->pipeline, m->newest_ns);
    if (m->settings->spool == NULL || m->publisher == NULL) {
        pipeline_finish(m->pipeline);
        return newest_ns;
    }
    begin_checkpoint(m, true, file);
    return pending_ns <= newest_ns ? pending_ns - 1 : newest_ns;
}

/* Behind the last record, and after it is on stable storage, here or there. */
static int write_checkpoint(struct monitor *m, struct buffer *file, struct error *err) {
    if (file->data == NULL)
        return 0;
    checkpoint_set_end(file, publisher_next_order(m->publisher),
                       publisher_promised_ns(m->publisher));
    return checkpoint_write(m->settings->spool, file, true, err);
}

static int finish(struct monitor *m, struct error *err) {
    AUTO_BUFFER file = {0};
    await_identities(m);
    uint64_t last_ns = end_pipeline(m, &file);
    struct publisher_vitals vitals = read_vitals(m);
    char text[2048];
    pipeline_describe(m->pipeline, text, sizeof text);
    log_info("%" PRIu64 " packets: %s", vitals.packets, text);
    if (m->publisher == NULL) {
        if (fflush(stdout) != 0)
            return error_set(err, ERR_IO, "cannot write to standard output");
        return 0;
    }
    if (file.data != NULL && last_ns < pipeline_time(m->pipeline, m->newest_ns))
        publisher_suspend(m->publisher, last_ns, &vitals);
    else
        publisher_end(m->publisher, last_ns, &vitals);
    int code = m->spool != NULL ? drain(m, err) : 0;
    if (m->spool != NULL && spool_lost(m->spool) > 0)
        log_warning("there was no room for %" PRIu64 " updates: they became gaps",
                    spool_lost(m->spool));
    if (code == 0)
        code = write_checkpoint(m, &file, err);
    if (m->spool == NULL)
        return code;
    if (code == 0 && m->unwanted)
        return error_set(err, ERR_NET,
                         "no recovery server answered at %s; the next start with %s "
                         "sends what is there",
                         m->settings->to, m->settings->spool);
    if (code == 0 && spool_backlog(m->spool) == 0)
        log_info("%" PRIu64 " updates (%" PRIu64 " bytes) and %" PRIu64 " gaps are durable at %s",
                 publisher_updates(m->publisher), publisher_update_bytes(m->publisher),
                 publisher_gaps(m->publisher), m->settings->to);
    return code;
}

/* A capture that ends in the middle of a packet is still good up to there. */
static int watch_and_finish(struct monitor *m, struct error *err) {
    struct error late = {0};
    int watched = watch(m, err);
    if (m->spool != NULL && spool_check(m->spool, err) < 0)
        return err->code;
    int finished = finish(m, watched < 0 ? &late : err);
    return watched < 0 ? watched : finished;
}

int monitor_run(const struct settings *settings, struct error *err) {
    __attribute__((cleanup(monitor_release))) struct monitor m = {.settings = settings,
                                                                  .live =
                                                                      settings->interface_count > 0,
                                                                  .looked_at = clock_mono(),
                                                                  .told_at = clock_mono()};
    int code = open_capture(&m, err);
    if (code == 0)
        code = open_sink(&m, err);
    if (code == 0)
        code = open_identify(&m, err);
    if (code < 0)
        return code;
    if (m.live)
        log_info("ready: monitor %s is watching", settings->monitor);
    return watch_and_finish(&m, err);
}
