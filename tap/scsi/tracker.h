/*
 * tracker: SCSI exchanges from command to status, the same for every transport (SAM-6, SBC-4,
 * SPC-6).
 *
 * A transport (iscsi/ today, fc/ and nvme/ later) opens a nexus for each session with a target and
 * feeds it commands, data at offsets and statuses; it keeps its own table from tag (ITT, OX_ID) to
 * exchange. The tracker decides what a command changed, collects its data within bounded memory,
 * learns sizes and identities from INQUIRY and READ CAPACITY data, and tells the sink: update, gap,
 * or path.
 *
 * What becomes of a command that may change media:
 *  - GOOD or CONDITION MET, all data there: an update.
 *  - GOOD, data missing (a hole, a digest): updates of what is there, a gap over what is missing.
 *  - Refused before any change (see sense.h): nothing.
 *  - An error after data moved, an abort, a lost nexus: a gap over what the device had received.
 *  - Not understood: a gap over its range, or over the volume.
 *  - Its status may have passed unseen: a gap over what the device had received, which the status
 *    ends when it is seen after all.
 *  - Another one that touched the same blocks ended while it was open: an update, then a gap over
 *    what both touched, unless both wrote the same bytes to the same range, or task attributes put
 *    them in order.
 *
 * Not thread-safe: one object per capture worker.
 */
#ifndef SANREWIND_TAP_TRACKER_H
#define SANREWIND_TAP_TRACKER_H

#include "common/buffer.h"
#include "common/cleanup.h"
#include "common/cursor.h"
#include "tap/identity.h"
#include "tap/sink.h"

struct tracker;
struct nexus;    /* one session of an initiator with a target, all its LUNs */
struct exchange; /* one command in flight */

/*
 * Full: the oldest exchange is given up with a gap over its range; the data of the oldest write is
 * dropped, and its range becomes a gap when it ends; a new path is not followed, and writes on it
 * put every other path in doubt (it may lead to the same volume). All with GAP_OVERFLOW.
 */
struct tracker_limits {
    size_t open_exchanges; /* per tracker */
    size_t payload_bytes;  /* data of open commands, all together */
    size_t paths;
    /*
     * One READ in so many is summed up for the sink's `audit`; 0: none. Those that bring in another
     * amount of data than their CDB asks for, or protection information, are not counted.
     */
    uint32_t audit_one_in;
};

/* 65536 exchanges, 96 MiB, 65536 paths, no audits */
struct tracker_limits tracker_default_limits(void);

struct tracker_counters {
    uint64_t commands;
    uint64_t updates;
    uint64_t update_bytes;
    uint64_t failed; /* media-changing commands that did not end in GOOD */
    uint64_t gaps;
    uint64_t unknown_commands; /* data-out and not understood */
    uint64_t abandoned;        /* exchanges without a status */
    uint64_t overlaps;
    uint64_t audited_blocks;
    uint64_t given_up; /* exchanges, data or paths dropped because a limit was reached */
};

/* The sink is borrowed and must outlive the tracker. NULL: out of memory. */
struct tracker *tracker_create(struct sink *sink, const struct tracker_limits *limits);
void tracker_destroy(struct tracker *t); /* abandons nothing: close the nexuses first */
const struct tracker_counters *tracker_counters(const struct tracker *t);

/* Strings are copied. `protocol` is enum path_protocol. NULL: out of memory. */
struct nexus *tracker_nexus_open(struct tracker *t, uint8_t protocol, const char *initiator,
                                 const char *target);
/* Has anything of it been announced? */
bool tracker_knows_target(const struct tracker *t, const char *name);
/*
 * A session whose login was not seen: `address` stands for the target's name, and must tell the
 * session from every other (two of them may lead to two targets). As long as it is not known which
 * volumes it leads to, what changes on it is in doubt on every other volume that it may be, and the
 * other way round.
 */
struct nexus *tracker_nexus_open_provisional(struct tracker *t, uint8_t protocol,
                                             const char *initiator, const char *address);
/* What somebody found out about a logical unit of the session. */
void tracker_nexus_learn(struct nexus *n, const struct identity_unit *unit, uint64_t time_ns);
/* The provisional target of the session is `target`: its paths go on under that name. */
void tracker_nexus_identify(struct nexus *n, const char *target, uint64_t time_ns);
/* The initiator's name was learned later. */
void tracker_nexus_name_initiator(struct nexus *n, const char *initiator);
/* Could it be a session with `target`, by what is known of both? */
bool tracker_nexus_may_be(const struct nexus *n, const struct identity_target *target);
/* Has one of its units told its name on the wire, and is it one of that target's? */
bool tracker_nexus_is(const struct nexus *n, const struct identity_target *target);

/*
 * Samples: single blocks that commands of a provisional session wrote, to be looked for on the
 * targets that it may be a session with. Only what is hardly anywhere else by chance is taken, and
 * it is forgotten as soon as anything may have changed these blocks, on whatever session: host-side
 * mirrors write the same to two units. A few sessions are sampled at a time.
 */
enum { TRACKER_SAMPLES = 8 };

struct tracker_sample {
    uint64_t number; /* tells it from every other */
    uint64_t lun;
    uint64_t lba;
    uint32_t block_bytes;
    uint64_t id; /* of the content: digest_id64() */
};

/* Begins anew, with commands issued after that time. False: too many sessions are sampled. */
bool tracker_nexus_sample(struct nexus *n, uint64_t after_ns);
/* No more of it. */
void tracker_nexus_unsample(struct nexus *n);
/* Those that there are; how many. */
size_t tracker_nexus_samples(const struct nexus *n, struct tracker_sample list[TRACKER_SAMPLES]);

/* GONE: it may have changed; OPEN: a command in flight may be changing it. */
enum tracker_hold { SAMPLE_GONE, SAMPLE_OPEN, SAMPLE_HOLDS };
enum tracker_hold tracker_nexus_holds(const struct nexus *n, uint64_t number);

/*
 * Gives up every open exchange: gaps with `reason` and `text` where the device may have data. A
 * reason of 0 says nothing about them: the monitor ends, and they are in flight then.
 */
void tracker_nexus_close(struct nexus *n, uint16_t reason, const char *text, uint64_t time_ns);

/*
 * Commands or data of this session may have been missed, and may go on being missed: a gap over
 * every logical unit of its target, those that appear later included. Call it again for as long as
 * the session moves data that cannot be read: where nothing changed since, it says nothing again.
 */
void tracker_nexus_gap(struct nexus *n, uint16_t reason, const char *text, uint64_t time_ns);
/* The same for one logical unit of the target. */
void tracker_unit_gap(struct nexus *n, uint64_t lun, uint16_t reason, const char *text,
                      uint64_t time_ns);
/* The same when it is not even known which target it is: every path of this tracker. */
void tracker_gap(struct tracker *t, uint16_t reason, const char *text, uint64_t time_ns);

/* What a transport knows when a command arrives. */
struct tracker_command {
    uint64_t lun;       /* the 8-byte field, big-endian */
    const uint8_t *cdb; /* whole, with additional CDB bytes behind; borrowed */
    size_t cdb_bytes;
    uint32_t data_out_bytes; /* expected data transfer length towards the device; 0 none */
    uint32_t data_in_bytes;
    /*
     * Task attribute: 0 untagged, 1 simple, 2 ordered, 3 head of queue, 4 ACA. 0 also when the
     * order of arrival here is not that of the device (several connections, immediate delivery).
     */
    uint8_t attribute;
    uint64_t time_ns;
    /*
     * Where the transport keeps the returned exchange, valid as long as the exchange: set to NULL
     * when the tracker gives it up by itself.
     */
    struct exchange **holder;
};

/* Stored in *holder, too. NULL: nothing in it matters here: ignore its data and status. */
struct exchange *tracker_command(struct nexus *n, const struct tracker_command *command);

/* Data towards the device. Out of bounds is cut. Data that comes twice overwrites. */
void tracker_data_out(struct exchange *x, uint64_t offset, const uint8_t *data, size_t bytes);
/* Data for the device passed there without being seen: it may have it, we do not. */
void tracker_data_out_lost(struct exchange *x, uint64_t offset, uint64_t bytes);
/* Those bytes turned out to be untrue (a broken digest): forget them until they come again. */
void tracker_data_out_revoke(struct exchange *x, uint64_t offset, uint64_t bytes);
/* Is data that was given the same as what comes again now? What has not come counts as the same. */
bool tracker_data_out_equals(const struct exchange *x, uint64_t offset, const uint8_t *data,
                             size_t bytes);
/* It was not, and it is not known which of both the device took: it is forgotten. */
void tracker_data_out_dispute(struct exchange *x, uint64_t offset, uint64_t bytes);
/* Tells a command of a nexus from the others. */
uint64_t tracker_number(const struct exchange *x);
/* The same when the command has ended, a short while ago: a gap over what it changed. */
void tracker_ended_dispute(struct nexus *n, uint64_t lun, uint64_t number);
/* Data from the device: kept only for commands whose answer the tracker reads. */
void tracker_data_in(struct exchange *x, uint64_t offset, const uint8_t *data, size_t bytes);
/* The data from the device turned out to be untrue: nothing is learned from it. */
void tracker_data_in_revoke(struct exchange *x);
/* Whether tracker_data_in() wants anything: lets a transport skip the bytes of READs. */
bool tracker_wants_data_in(const struct exchange *x);

/* Does that status say that the command, whichever it was, changed nothing? */
bool tracker_was_refused(uint8_t status, const uint8_t *sense, size_t sense_bytes);

struct tracker_status {
    uint8_t status;       /* SCSI status byte */
    bool delivered;       /* false: the transport reports failure (iSCSI Response other than 00h) */
    const uint8_t *sense; /* fixed or descriptor format; may be NULL */
    size_t sense_bytes;
    uint32_t residual_underflow; /* bytes not transferred of data_out (write) or data_in (read) */
    uint64_t time_ns;
};

/*
 * Its status passed at that time and will be given later: commands issued behind it are no rivals.
 * 0: that was not its status.
 */
void tracker_ended_at(struct exchange *x, uint64_t time_ns);
/* Ends the exchange: it is freed, and its holder set to NULL. */
void tracker_status(struct exchange *x, const struct tracker_status *status);
/*
 * It may have ended without its status being seen: a gap over what it may have changed. It stays
 * open, and its status ends the gap.
 */
void tracker_doubt(struct exchange *x, uint16_t reason, const char *text, uint64_t time_ns);
/*
 * Ends it without a status: an abort, a reset, a hole that swallowed the status. Freed likewise. A
 * reason of 0 as for tracker_nexus_close().
 */
void tracker_abandon(struct exchange *x, uint16_t reason, const char *text, uint64_t time_ns);

/* For the next start (see tap/save.h): targets with a name, and what is known of their units. */
void tracker_save(const struct tracker *t, struct buffer *b);
bool tracker_load(struct tracker *t, struct cursor *c, uint64_t now_ns);
/* whole: with the data that has come; otherwise none of it is believed any more. */
void tracker_exchange_save(const struct exchange *x, bool whole, struct buffer *b);
/* *holder stays NULL where nothing can be followed: the command then counts as unseen. */
bool tracker_exchange_load(struct nexus *n, struct cursor *c, struct exchange **holder);
/* No command of the session was missed since the stream before, nor of any other with its target.
 */
void tracker_nexus_resume(struct nexus *n, uint64_t time_ns);

DEFINE_AUTO(tracker, tracker_destroy)

#endif
