#include "tap/pipeline.h"

#include "common/log.h"
#include "tap/fcip/fcip.h"
#include "tap/streams.h"

#include <inttypes.h>
#include <stdio.h>

/*
 * A loss shows when the receiver's acknowledgement of what was lost is seen. It may delay it for up
 * to 500 ms (RFC 9293, 3.8.6.3); and mirrors deliver both directions out of step by tens of ms.
 */
#define SETTLE_NS (500 * NS_PER_MS)
#define TICK_NS   (10 * NS_PER_MS)

struct pipeline {
    enum device_clock clock;
    struct tracker *tracker;
    struct iscsi *iscsi;
    struct fcip *fcip;
    struct streams *streams;
    struct tcp *tcp;
    struct fc *fc;
    struct decap *decap;
    uint64_t tick_ns; /* when time is to be told next to those who wait for something */
    struct tcp_counters tcp_totals; /* kept over pipeline_finish() */
    struct fc_counters fc_totals;
};

struct pipeline_options pipeline_default_options(void) {
    return (struct pipeline_options){.memory_bytes = UINT64_C(256) << 20, .connections = 65536};
}

/* A quarter for streams with something missing, an eighth for FC frames that wait for older ones,
 * three eighths for the data of open commands; what a command or a path takes is about 500 bytes
 * and 2 KiB. */
static struct tcp_limits tcp_share(const struct pipeline_options *options) {
    struct tcp_limits share = tcp_default_limits();
    share.connections = (size_t)options->connections;
    share.total_bytes = (size_t)(options->memory_bytes / 4);
    share.connection_bytes = share.total_bytes / 4;
    return share;
}

static struct tracker_limits tracker_share(const struct pipeline_options *options) {
    struct tracker_limits share = tracker_default_limits();
    share.payload_bytes = (size_t)(options->memory_bytes / 8 * 3);
    share.open_exchanges = (size_t)(options->memory_bytes / 4096);
    share.paths = (size_t)(options->memory_bytes / 8192);
    share.audit_one_in = options->audit_one_in;
    return share;
}

/* What was lost may have been anything: every volume is in doubt. */
static void take_loss(void *context, const struct decap_loss *loss) {
    struct pipeline *p = context;
    log_warning("%s", loss->text);
    tracker_gap(p->tracker, GAP_CAPTURE_LOSS, loss->text, loss->time_ns);
}

static void take_tunnel_loss(void *context, const char *text, uint64_t time_ns) {
    struct pipeline *p = context;
    tracker_gap(p->tracker, GAP_STREAM_HOLE, text, time_ns);
}

static void take_overflow(void *context, uint64_t time_ns) {
    struct pipeline *p = context;
    tracker_gap(p->tracker, GAP_OVERFLOW, "more connections than the monitor can follow", time_ns);
}

/* Sessions that were not known before a restart put in doubt what nothing was missed of. */
static void note_strangers(struct pipeline *p) {
    if (fc_counters(p->fc)->strangers > 0)
        iscsi_resume_break(p->iscsi);
}

/* Out of a tunnel. */
static void take_fc(void *context, const struct fc_frame *frame) {
    struct pipeline *p = context;
    fc_frame(p->fc, frame);
    note_strangers(p);
}

static void take_first_foreign(void *context, enum stream_foreign kind) {
    (void)context;
    log_warning("there is %s, which is not decoded: volumes reached that way are not protected",
                streams_foreign_name(kind));
}

/* Storage traffic that is not decoded: said once, as it leaves volumes unprotected. */
static void take_first_drop(void *context, enum decap_drop reason) {
    static const char *const texts[DECAP_REASONS] = {
        [DECAP_ESP] = "there is IPsec traffic (ESP), which cannot be read",
        [DECAP_ROCE] = "there is RDMA traffic (RoCE: iSER, NVMe), which is not decoded",
        [DECAP_AOE] = "there is ATA over Ethernet, which is not decoded",
        [DECAP_OTHER_MIRROR] = "a mirror sends frames that are neither Ethernet nor IP (ERSPAN)",
        [DECAP_DAMAGED] = "a mirror passes frames on that were damaged when it got them",
    };
    (void)context;
    if (texts[reason] != NULL)
        log_warning("%s: volumes reached that way are not protected", texts[reason]);
}

static bool open_streams(struct pipeline *p, const struct pipeline_options *options) {
    struct tcp_consumer iscsi = iscsi_consumer(p->iscsi);
    struct tcp_consumer fcip = fcip_consumer(p->fcip);
    p->streams = streams_create(&iscsi, &fcip,
                                &(struct streams_output){.context = p,
                                                         .first_foreign = take_first_foreign,
                                                         .overflow = take_overflow,
                                                         .save = iscsi_connection_save,
                                                         .load = iscsi_connection_load,
                                                         .load_context = p->iscsi});
    if (p->streams == NULL)
        return false;
    struct tcp_consumer consumer = streams_consumer(p->streams);
    struct tcp_limits limits = tcp_share(options);
    p->tcp = tcp_create(&consumer, &limits);
    return p->tcp != NULL;
}

struct pipeline *pipeline_create(struct sink *sink, const struct pipeline_options *options) {
    struct pipeline_options chosen = options != NULL ? *options : pipeline_default_options();
    AUTO(pipeline) p = calloc(1, sizeof *p);
    if (p == NULL)
        return NULL;
    struct tracker_limits tracker_limits = tracker_share(&chosen);
    p->tracker = tracker_create(sink, &tracker_limits);
    if (p->tracker == NULL)
        return NULL;
    p->iscsi = iscsi_create(p->tracker);
    if (p->iscsi == NULL)
        return NULL;
    p->fc = fc_create(p->tracker, (size_t)(chosen.memory_bytes / 8));
    p->fcip = fcip_create(
        &(struct fcip_output){.context = p, .frame = take_fc, .loss = take_tunnel_loss});
    p->decap = decap_create();
    if (p->fc == NULL || p->fcip == NULL || p->decap == NULL || !open_streams(p, &chosen))
        return NULL;
    decap_observe(p->decap, &(struct decap_observer){
                                .context = p, .loss = take_loss, .first_drop = take_first_drop});
    return take_pointer(&p);
}

void pipeline_destroy(struct pipeline *p) {
    if (p == NULL)
        return;
    decap_destroy(p->decap);
    tcp_destroy(p->tcp);
    streams_destroy(p->streams);
    fcip_destroy(p->fcip);
    fc_destroy(p->fc);
    iscsi_destroy(p->iscsi);
    tracker_destroy(p->tracker);
    free(p);
}

int pipeline_load_fc_names(struct pipeline *p, const char *file, struct error *err) {
    return fc_load_names(p->fc, file, err);
}

void pipeline_set_clock(struct pipeline *p, enum device_clock clock) {
    p->clock = clock;
    decap_set_time(p->decap, clock);
}

uint64_t pipeline_first_time(const struct pipeline *p, const struct packet *first) {
    AUTO(decap) d = decap_create();
    struct decap_result found;
    if (d == NULL)
        return first->time_ns;
    decap_set_time(d, p->clock);
    decap_packet(d, first, &found);
    return decap_time(d, first->time_ns);
}

uint64_t pipeline_time(const struct pipeline *p, uint64_t capture_ns) {
    return decap_time(p->decap, capture_ns);
}

void pipeline_packet(struct pipeline *p, const struct packet *packet) {
    struct decap_result found;
    switch (decap_packet(p->decap, packet, &found)) {
    case DECAP_NOTHING:
        break;
    case DECAP_TCP:
        tcp_segment(p->tcp, &found.tcp);
        break;
    case DECAP_FC:
        fc_frame(p->fc, &found.fc);
        note_strangers(p);
        break;
    case DECAP_FIP:
        fc_fip(p->fc, &found.fip);
        break;
    }
    uint64_t time_ns = pipeline_time(p, packet->time_ns);
    if (time_ns >= p->tick_ns) {
        p->tick_ns = time_ns + TICK_NS;
        iscsi_tick(p->iscsi, time_ns);
        fc_tick(p->fc, time_ns);
    }
}

void pipeline_tick(struct pipeline *p, uint64_t now_ns) {
    now_ns = pipeline_time(p, now_ns);
    decap_tick(p->decap, now_ns);
    tcp_tick(p->tcp, now_ns);
    iscsi_tick(p->iscsi, now_ns);
    fc_tick(p->fc, now_ns);
}

bool pipeline_wants_identity(struct pipeline *p, struct portal *portal) {
    return iscsi_wants_identity(p->iscsi, portal);
}

void pipeline_identify(struct pipeline *p, const struct identity *identity, uint64_t time_ns) {
    iscsi_identify(p->iscsi, identity, pipeline_time(p, time_ns));
}

bool pipeline_wants_probe(struct pipeline *p, uint64_t seen_ns, struct identity_probe *probe) {
    return iscsi_wants_probe(p->iscsi, pipeline_settled_ns(p, seen_ns), probe);
}

void pipeline_probe_answer(struct pipeline *p, const struct identity_probe *answer) {
    iscsi_probe_answer(p->iscsi, answer);
}

static void finish_fc(struct pipeline *p) {
    fc_finish(p->fc);
    p->fc_totals = *fc_counters(p->fc);
    fc_destroy(p->fc);
    p->fc = NULL;
}

void pipeline_finish(struct pipeline *p) {
    decap_finish(p->decap);
    p->tcp_totals = *tcp_counters(p->tcp);
    tcp_destroy(p->tcp);
    p->tcp = NULL;
    finish_fc(p);
}

void pipeline_save(struct pipeline *p, bool whole, struct buffer *b) {
    if (whole) {
        decap_finish(p->decap);
        finish_fc(p); /* Fibre Channel has nothing that could prove that nothing was missed */
    }
    tracker_save(p->tracker, b);
    iscsi_save(p->iscsi, b);
    tcp_save(p->tcp, whole, b, streams_connection_save);
    if (!whole)
        return;
    p->tcp_totals = *tcp_counters(p->tcp);
    tcp_drop(p->tcp);
    p->tcp = NULL;
}

bool pipeline_load(struct pipeline *p, struct cursor *c, uint64_t newest_ns) {
    fc_restarted(p->fc, newest_ns);
    if (tracker_load(p->tracker, c, newest_ns) && iscsi_load(p->iscsi, c, newest_ns) &&
        tcp_load(p->tcp, c, p->streams, streams_connection_load, newest_ns))
        return true;
    tcp_drop(p->tcp); /* nothing is to be said of it */
    p->tcp = NULL;
    return false;
}

uint64_t pipeline_pending_ns(const struct pipeline *p) {
    uint64_t pending_ns = tcp_oldest_pending(p->tcp);
    uint64_t undecided_ns = iscsi_oldest_pending(p->iscsi);
    if (undecided_ns < pending_ns)
        pending_ns = undecided_ns;
    uint64_t fc_pending_ns = fc_oldest_pending(p->fc);
    if (fc_pending_ns < pending_ns)
        pending_ns = fc_pending_ns;
    return pending_ns;
}

uint64_t pipeline_settled_ns(const struct pipeline *p, uint64_t seen_ns) {
    uint64_t pending_ns = pipeline_pending_ns(p);
    seen_ns = pipeline_time(p, seen_ns);
    if (pending_ns < seen_ns)
        seen_ns = pending_ns;
    return clock_minus(seen_ns, SETTLE_NS);
}

static const struct tcp_counters *tcp_totals(const struct pipeline *p) {
    return p->tcp != NULL ? tcp_counters(p->tcp) : &p->tcp_totals;
}

static const struct fc_counters *fc_totals(const struct pipeline *p) {
    return p->fc != NULL ? fc_counters(p->fc) : &p->fc_totals;
}

uint64_t pipeline_malformed(const struct pipeline *p) {
    const struct iscsi_counters *iscsi = iscsi_counters(p->iscsi);
    const struct fc_counters *fc = fc_totals(p);
    return decap_dropped(p->decap, DECAP_CUT_SHORT) + decap_dropped(p->decap, DECAP_MALFORMED) +
           decap_dropped(p->decap, DECAP_TOO_DEEP) + decap_dropped(p->decap, DECAP_DAMAGED) +
           decap_dropped(p->decap, DECAP_FRAGMENT_LOST) + fc->malformed + fc->damaged +
           iscsi->malformed + iscsi->header_digest_errors + iscsi->data_digest_errors;
}

struct line {
    char *text;
    size_t size;
    size_t used;
};

static void add(struct line *line, const char *what, uint64_t count) {
    if (count == 0 || line->used >= line->size)
        return;
    int wrote = snprintf(line->text + line->used, line->size - line->used, "%s%" PRIu64 " %s",
                         line->used > 0 ? ", " : "", count, what);
    if (wrote > 0)
        line->used += (size_t)wrote;
}

static void add_fc(struct line *line, const struct fc_counters *fc) {
    add(line, "FC frames", fc->frames);
    add(line, "FCP commands", fc->commands);
    add(line, "FC frames cut by the capture", fc->cut);
    add(line, "FC frames unreadable", fc->unreadable);
    add(line, "FC frames damaged", fc->damaged);
    add(line, "FC frames malformed", fc->malformed);
    add(line, "FC frames repeated", fc->repeated);
    add(line, "FC frames too late", fc->late);
    add(line, "FC frames of unknown exchanges", fc->unknown_exchange);
    add(line, "FCP commands lost", fc->lost_commands);
    add(line, "FC sessions unknown before the restart", fc->strangers);
    add(line, "FCP responses lost", fc->lost_status);
    add(line, "FC aborts", fc->aborts);
    add(line, "FC logins and names", fc->logins);
    add(line, "FIP frames", fc->fip);
    add(line, "FC-NVMe frames (not protected)", fc->nvme);
    add(line, "FC frames of other types", fc->other_type);
    add(line, "FC overflows", fc->overflow);
}

void pipeline_describe(const struct pipeline *p, char *text, size_t size) {
    struct line line = {.text = text, .size = size};
    const struct tcp_counters *tcp = tcp_totals(p);
    const struct iscsi_counters *iscsi = iscsi_counters(p->iscsi);
    const struct tracker_counters *tracker = tracker_counters(p->tracker);
    text[0] = '\0';
    add(&line, "TCP segments", tcp->segments);
    add(&line, "holes", tcp->holes);
    add(&line, "bytes in holes", tcp->hole_bytes);
    add(&line, "bytes sent twice, with another value perhaps", tcp->conflicting_bytes);
    add(&line, "bytes sent again needlessly and not believed", tcp->sent_needlessly);
    add(&line, "segments cut by the capture", tcp->cut_segments);
    add(&line, "connections evicted", tcp->evicted);
    add(&line, "waits for missing bytes ended by a limit", tcp->given_up);
    add(&line, "iSCSI PDUs", iscsi->pdus);
    add(&line, "sessions joined mid-way", iscsi->late_joins);
    add(&line, "connections out of step", iscsi->lost_synchronisation);
    add(&line, "header digest errors", iscsi->header_digest_errors);
    add(&line, "data digest errors", iscsi->data_digest_errors);
    add(&line, "malformed PDUs", iscsi->malformed);
    add_fc(&line, fc_totals(p));
    add(&line, "commands", tracker->commands);
    add(&line, "updates", tracker->updates);
    add(&line, "failed writes", tracker->failed);
    add(&line, "unknown commands", tracker->unknown_commands);
    add(&line, "commands, data or paths given up by a limit", tracker->given_up);
    add(&line, "gaps", tracker->gaps);
    add(&line, "blocks to be compared", tracker->audited_blocks);
    const struct fcip_counters *fcip = fcip_counters(p->fcip);
    add(&line, "FCIP connections", fcip->connections);
    add(&line, "FCIP frames", fcip->frames);
    add(&line, "FCIP special frames", fcip->special);
    add(&line, "FCIP streams out of step", fcip->lost_synchronisation);
    add(&line, "bytes of FCIP streams skipped", fcip->skipped_bytes);
    add(&line, "iFCP frames with translated addresses", fcip->translated);
    for (int kind = 0; kind < STREAM_FOREIGNS; kind++) {
        char what[64];
        snprintf(what, sizeof what, "connections not decoded (%s)",
                 streams_foreign_name((enum stream_foreign)kind));
        add(&line, what, streams_foreign(p->streams, (enum stream_foreign)kind));
    }
    struct losses_counters losses = decap_losses(p->decap);
    struct device_time_counters times = decap_times(p->decap);
    add(&line, "frames numbered by mirrors", losses.numbered);
    add(&line, "frames lost by mirrors", losses.lost);
    add(&line, "mirror counters that began again", losses.restarts);
    add(&line, "mirror counters that are not believed", losses.unreliable);
    add(&line, "packets stamped by devices", times.stamped);
    add(&line, "keyframes", times.keyframes);
    add(&line, "device stamps refused", times.refused);
    add(&line, "device stamps degraded", times.degraded);
    add(&line, "duplicates marked by devices", times.duplicate);
    for (int reason = 0; reason < DECAP_REASONS; reason++) {
        char what[64];
        snprintf(what, sizeof what, "frames dropped (%s)",
                 decap_drop_name((enum decap_drop)reason));
        add(&line, what, decap_dropped(p->decap, (enum decap_drop)reason));
    }
}
