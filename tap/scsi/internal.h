/*
 * internal: what the files of tap/scsi share, and nobody else includes.
 *
 * tracker.c is the door, exchange.c keeps commands in flight within their limits, path.c knows
 * targets, paths and logical units, alias.c which of them may be the same, attention.c what a
 * device says of a change of those; change.c judges a command that ended, apply.c, copy.c and
 * token.c make updates of it, region.c finds what it may have touched when that is all that can be
 * said; rival.c finds overlapping commands, gap.c says what is not known; audit.c sums up what
 * READs return.
 */
#ifndef SANREWIND_TAP_SCSI_INTERNAL_H
#define SANREWIND_TAP_SCSI_INTERNAL_H

#include "common/cursor.h"
#include "common/rangeset.h"
#include "tap/scsi/command.h"
#include "tap/scsi/device.h"
#include "tap/scsi/parameter.h"
#include "tap/scsi/payload.h"
#include "tap/scsi/sense.h"
#include "tap/scsi/token.h"
#include "tap/scsi/tracker.h"

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

enum { TEXT_BYTES = 320, SAVED_CDB_BYTES = 32 };

/* A command in flight that changes, when it ends well, something in [first, end) of its unit. */
struct open_change {
    uint64_t first;
    uint64_t end;
    struct exchange *exchange;
};

/* A logical unit: all paths with one designator, or the one path of which none is known. */
struct unit {
    char designator[DEVICE_NAME_BYTES]; /* "" for that of a single path */
    struct path *paths;
    struct open_change *open;
    size_t open_count;
    size_t open_capacity;
    uint64_t changes;    /* updates so far: heals of gaps */
    uint64_t touched_ns; /* since when something was said of its content; 0: nothing yet */
    uint64_t newest_ns;  /* greatest time of an update */
    /* ORWRITE may end in GOOD and do nothing (SBC-4 4.27.4): the policy that was set last does
     * (`discards`) or does not (`applies`) allow that; neither: none was seen to be set. */
    bool discards;
    bool applies;
    UT_hash_handle hh;
};

enum path_kind { PATH_KIND_UNKNOWN, PATH_KIND_DISK, PATH_KIND_OTHER };

/* A logical unit as seen through a target. */
struct path {
    struct sink_path sink;
    struct target *target;
    struct unit *unit;
    struct path *unit_prev, *unit_next;
    enum path_kind kind;
    bool announced;
    bool dirty;         /* more is known than was announced */
    bool ignores_same;  /* see struct standard_inquiry */
    bool block_guessed; /* from the length of a write, no READ CAPACITY was seen */
    bool block_stale;   /* the block length may have changed since it was seen */
    bool size_stale;    /* likewise the size */
    bool removable;     /* RMB: its medium can be another one */
    bool refused;       /* blocks of a length that is not supported: nothing of it is recorded */
    bool refusal_said;
    bool protection_said; /* that protection information is not supported */
    bool physical_known;
    uint8_t physical_exponent;  /* logical blocks per physical one, as a power of two */
    uint16_t physical_aligned;  /* the lowest LBA that begins a physical block */
    uint32_t unmap_granularity; /* blocks; 0 not known */
    uint32_t unmap_alignment;
    enum unmapped_content unmapped_by_capacity;
    enum unmapped_content unmapped_by_page;
    /* The last gap over all of it: nothing changed since when unit->changes is still the same. */
    bool whole_gap;
    bool whole_gap_hearsay; /* it said only what happened on other paths */
    uint64_t whole_gap_changes;
    uint64_t whole_gap_ns;
    /* The last time for which another one was not said, because nothing had changed. */
    uint64_t hushed_ns;
    uint16_t hushed_reason;
    UT_hash_handle hh; /* in target->paths, by sink.lun */
};

/* Why what a target (or the whole tracker) is told can't be read since some time. */
struct blindness {
    uint16_t reason; /* 0: sees well */
    uint64_t since_ns;
    char text[TEXT_BYTES];
};

struct target {
    char name[256];
    uint8_t protocol;
    struct path *paths;
    struct blindness blind;
    size_t nexus_count;
    bool provisional;        /* its name is an address: see alias.c */
    bool gone;               /* provisional, and its session has ended */
    struct sampler *sampler; /* NULL: nobody asks for samples */
    UT_hash_handle hh; /* in tracker->targets, by name; protocols differ in the form of names */
};

struct sampler;

struct nexus {
    struct tracker *tracker;
    struct target *target;
    struct path *last_path; /* most commands go to the same one */
    struct exchange *exchanges;
    uint64_t commands;
    char initiator[256];
};

/* Commands that ended while this one was open, and touched the same blocks: see rival.c. */
struct rivals;

struct exchange {
    struct nexus *nexus;
    struct path *path;
    struct exchange **holder;
    struct command command;
    uint64_t number; /* of its nexus: the order in which commands came */
    uint64_t issued_ns;
    uint64_t ended_ns; /* its status is known to have passed then, though not which; 0: no */
    uint32_t data_out_bytes;
    uint32_t data_in_bytes;
    uint8_t cdb[SAVED_CDB_BYTES];
    uint16_t cdb_bytes;  /* 0: longer, and not saved */
    uint32_t skip_bytes; /* of data_out: COMPARE AND WRITE's first half isn't kept */
    uint8_t attribute;
    bool keeps_data;      /* its data-out is of interest */
    bool revoked;         /* some data was taken back */
    bool ambiguous;       /* because it came again, and was not the same */
    bool data_dropped;    /* for want of room */
    bool data_lost;       /* some passed unseen */
    uint64_t moved_start; /* data_out that went to the device, seen or not */
    uint64_t moved_end;
    struct payload *payload;
    uint8_t *answer; /* data-in of the commands that are learned from */
    size_t answer_bytes;
    size_t open_index;      /* in unit->open, or NOT_OPEN */
    uint64_t recent_before; /* tracker->recent_count when it began */
    bool came_late;         /* issued before some of those had ended */
    struct rivals *rivals;
    struct audit *audit;                          /* of a READ that is compared */
    struct exchange *prev, *next;                 /* tracker->oldest */
    struct exchange *copy_prev, *copy_next;       /* tracker->copies */
    struct exchange *nexus_prev, *nexus_next;     /* nexus->exchanges */
    struct exchange *holding_prev, *holding_next; /* tracker->holding */
};

#define NOT_OPEN SIZE_MAX

/* A change that ended a while ago: a command that comes late may have been in flight with it. */
struct ended_change {
    const struct unit *unit; /* not to be followed: it may be gone; NULL: any */
    uint64_t first;
    uint64_t end;
    uint64_t issued_ns;
    uint64_t ended_ns;
    uint64_t newest_ns;        /* of it and all before it, the greatest ended_ns */
    const struct nexus *nexus; /* as `unit`; NULL: of no command */
    uint64_t number;           /* of the command */
    bool in_place;             /* its data says what was written, and not where */
};

enum { RECENT_CHANGES = 8192 };

struct tracker {
    struct sink *sink;
    struct tracker_limits limits;
    struct tracker_counters counters;
    struct payload_pool *pool;
    struct target *targets;
    struct unit *units; /* those with a designator */
    struct blindness blind;
    uint64_t changes;         /* updates, and paths announced */
    uint64_t all_gap_changes; /* when the last gap over everything was said */
    uint64_t all_gap_ns;
    uint64_t all_hushed_ns; /* the last time for which none was said, for nothing had changed */
    uint16_t all_hushed_reason;
    struct tokens *tokens;    /* NULL until one is needed */
    struct copies_told *told; /* likewise */
    struct exchange *copies;  /* EXTENDED COPY in flight: they change other units than their own */
    uint64_t reads;           /* that could be audited */
    size_t audits;            /* of those in flight */
    bool overlooks;           /* there was no memory to note a command in flight: no audits then */
    size_t path_count;
    size_t provisional_count; /* targets that have no name yet */
    struct sampler *samplers; /* of targets that are sampled */
    size_t sampler_count;
    uint64_t sample_count; /* so many were taken */
    size_t exchange_count;
    size_t answer_bytes; /* of all exchanges */
    struct exchange *oldest;
    struct exchange *holding; /* with data, oldest first */
    uint64_t newest_ns;       /* greatest time of an ended change */
    uint64_t recent_count;    /* so many were noted; the last RECENT_CHANGES are kept */
    struct ended_change recent[RECENT_CHANGES];
};

/* path.c */
struct target *target_of(struct tracker *t, uint8_t protocol, const char *name);
void targets_free(struct tracker *t);
/* One nexus less: a target of which nothing is known is forgotten with its last one. */
void target_leave(struct tracker *t, struct target *target);
/* The same of a target that need not be that of the nexus. */
struct path *path_at(struct tracker *t, struct target *target, uint64_t lun);
/* From now on the path is one to that unit. */
void path_join(struct tracker *t, struct path *path, struct unit *unit);
/* What somebody else found out about it. */
void path_take_facts(struct tracker *t, struct path *path, const struct identity_unit *facts,
                     uint64_t time_ns);
/* Finds or makes it. NULL: the limit or the memory ended. */
struct path *path_of(struct nexus *n, uint64_t lun);
/* Tell the sink what is new; always before an update or a gap of the path. */
void path_announce(struct tracker *t, struct path *path, uint64_t time_ns);
/* Learn from the answer to an INQUIRY or READ CAPACITY that ended well. */
void path_learn(struct exchange *x, uint64_t time_ns);
void path_guess_block(struct path *path, uint32_t block_bytes);
enum unmapped_content path_unmapped(const struct path *path);
/* All paths of one designator; NULL when there is none. */
struct unit *unit_named(struct tracker *t, const char *designator);
/* What recoveryd is to know it by: one that is announced, whose block length is known. Or NULL. */
struct path *unit_path(const struct unit *unit, const struct path *preferred);
/* What changes with these blocks, when the device writes in physical ones. */
struct block_range path_physical(const struct path *path, uint64_t lba);

/* attention.c */
/* The device says that something about it changed. */
void attention_take(struct exchange *x, const struct sense *sense, uint64_t time_ns);
/* The geometry of the unit may be another from now on. */
void attention_geometry(struct unit *unit);
/* Can blocks of this length be followed? */
bool attention_supports(uint32_t block_bytes);
/* Says once that nothing of this path is recorded. */
void attention_refuse(struct tracker *t, struct path *path, uint64_t time_ns);

/* exchange.c */
struct exchange *exchange_create(struct nexus *n, struct path *path,
                                 const struct tracker_command *command,
                                 const struct command *parsed);
/* Takes it out of every list and frees it; tells the holder. */
void exchange_destroy(struct exchange *x);
bool exchange_moved(const struct exchange *x);
/* The device has, or may have, these bytes of data_out. */
void exchange_mark_moved(struct exchange *x, uint64_t offset, uint64_t bytes);
/* Keeps them; makes room for them by dropping the data of the oldest. */
void exchange_store(struct exchange *x, uint64_t offset, const uint8_t *data, size_t bytes);
/* The payload when all of it has come, otherwise NULL. */
const struct payload *exchange_complete(const struct exchange *x);
/* The whole payload in one piece, for parameter lists; NULL when it is not complete. Caller frees.
 */
uint8_t *exchange_parameters(const struct exchange *x, size_t *bytes);

/* A command that is ending, and how. */
struct ending {
    struct exchange *x;
    struct tracker *t;
    uint64_t time_ns;
    uint8_t status;
    uint32_t residual_bytes;
    char name[64]; /* of the command, for texts */
};

/* change.c */
/* It ended with a status. */
void change_ended(struct exchange *x, const struct tracker_status *status);
/* It ended without one. */
void change_abandoned(struct exchange *x, uint16_t reason, const char *text, uint64_t time_ns);
/*
 * It may never end, and may have been done or not: a gap over what its data may have changed so
 * far. It stays open: when it ends well after all, its update ends the gap.
 */
void change_doubt(struct exchange *x, uint16_t reason, const char *text, uint64_t time_ns);
/* The path's block length, or what the amount of data tells of it; 0 unknown. */
uint32_t change_block_bytes(const struct exchange *x);
/* Another block length than the known one, that the amount of data shows which the device took; or
 * 0. */
uint32_t change_other_block(const struct ending *e);
/* Can blocks [lba, lba + blocks) exist? */
bool change_range_fits(uint64_t lba, uint64_t blocks, uint32_t block_bytes);
/* An update of the volume, and a gap over what others touched meanwhile. */
void change_update(const struct ending *e, enum update_op op, uint64_t lba, uint64_t blocks,
                   const struct payload *data);
/* A command that copies more than this is not believed: it would be split into too many records. */
#define CHANGE_MOST_COPIED_BYTES (UINT64_C(64) << 30)

/* Where the content of a copy came from. */
struct change_source {
    struct path *path;
    uint64_t lba;
    uint64_t from_ns;
    uint64_t until_ns;
};
/*
 * A copy (or, without a source, zeros) to blocks of any path. Changes that ended while the command
 * was open, but not those at or behind `until` in tracker->recent_count, have no order with it.
 */
void change_copy(const struct ending *e, struct path *path, uint64_t lba, uint64_t blocks,
                 const struct change_source *source, uint64_t until);

/* copied.c: a copy was given */
void copied_note(const struct ending *e, struct path *path, uint64_t lba, uint64_t blocks,
                 const struct change_source *source);
/* A command begins that came late: copies that were given may have read what it writes. */
void copied_open(struct exchange *x);
void copied_forget(struct tracker *t);

/* Blocks [first, end) are not known any more; UINT64_MAX is the end of the volume. */
void change_gap(const struct ending *e, uint16_t reason, uint64_t first, uint64_t end,
                const char *format, ...) __attribute__((format(printf, 5, 6)));
void change_volume_gap(const struct ending *e, uint16_t reason, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* For --decode only: it changed nothing, or not as it was asked to. */
void change_show(const struct ending *e);

/* apply.c: commands whose effect is known */
void apply_write(const struct ending *e);
void apply_write_same(const struct ending *e);
void apply_unmap(const struct ending *e);
/* The list of a WRITE SCATTERED: false when it has not come, or contradicts the CDB. */
bool apply_scattered_list(const struct exchange *x, uint32_t block_bytes);
struct block_range apply_scattered_at(const struct exchange *x, uint32_t index);
void apply_scattered(const struct ending *e);

/* copy.c */
void copy_apply(const struct ending *e);
/* May it write to these blocks of the unit? */
bool copy_touches(const struct exchange *x, const struct unit *unit, uint64_t first, uint64_t end);

/* token.c */
void token_populated(const struct ending *e);
void token_informed(const struct ending *e);
void token_apply(const struct ending *e);
/* Its list identifiers mean nothing any more. NULL: the tracker ends. */
void token_forget(struct tracker *t, const struct nexus *n);

/* audit.c */
/* Is it the turn of this READ? */
bool audit_is_due(struct tracker *t, const struct path *path, const struct command *command,
                  uint32_t data_in_bytes);
void audit_begin(struct exchange *x);
void audit_data(struct exchange *x, uint64_t offset, const uint8_t *data, size_t bytes);
/* It ended well: tell the sink. */
void audit_end(const struct ending *e);
void audit_free(struct exchange *x);

/* region.c: where a command had, or may have had, an effect that is not known */
void region_gap(const struct ending *e, uint16_t reason, const char *text);
/* Blocks of a path that need not be that of the command. */
void region_blocks(const struct ending *e, struct path *path, uint16_t reason, const char *text,
                   uint64_t lba, uint64_t blocks, uint32_t block_bytes);

/* What a segment of a copy writes to, on every path of the unit. */
void region_segment(const struct ending *e, uint16_t reason, const char *text,
                    const struct copy_segment *segment, const struct unit *unit);

/* rival.c */
void rival_open(struct exchange *x);
/* Where it may change its own unit, as far as the CDB tells; whatever its kind. */
struct range rival_range(const struct exchange *x);
void rival_close(struct exchange *x);
void rival_free(struct rivals *r);
/*
 * Blocks [first, end) of the unit changed, or may have: every open change that overlaps notes it,
 * and those do that come late and turn out to have been issued before time_ns.
 */
void rival_note(struct unit *unit, const struct exchange *ended, uint64_t first, uint64_t end,
                uint64_t time_ns, bool content_known);
/* Nobody knows what changed on the unit up to time_ns. */
void rival_note_all(struct tracker *t, struct unit *unit, uint64_t time_ns);
/* It ended at time_ns: decide who its rivals were. Before any of the following. */
void rival_settle(struct exchange *x, uint64_t time_ns);
/*
 * The part of [first, end) that others wrote with other bytes while `x` was open: calls `found` for
 * each.
 */
void rival_clashes(const struct exchange *x, uint64_t first, uint64_t end, void *context,
                   void (*found)(void *context, uint64_t first, uint64_t end));
/* Is it one whose rivals are looked for? */
bool rival_judges(const struct exchange *x);
/* May an open command of the unit, other than `except`, change these blocks of it? */
bool rival_is_open(const struct unit *unit, const struct exchange *except, uint64_t first,
                   uint64_t end);
/* The same, or an open command of another unit that may be this one, or that copies to it. */
bool rival_in_flight(struct tracker *t, const struct unit *unit, const struct exchange *except,
                     uint64_t first, uint64_t end);
/*
 * The parts of [first, end) of any unit that changed, or may have, while `x` was open: those that
 * ended, of the first `until` in tracker->recent_count.
 */
void rival_during(const struct exchange *x, const struct unit *unit, uint64_t first, uint64_t end,
                  uint64_t until, uint64_t time_ns, void *context,
                  void (*found)(void *context, uint64_t first, uint64_t end, uint64_t ended_ns));
/* When the last of its rivals ended; 0 without any. */
uint64_t rival_newest_ns(const struct exchange *x);
/* Did somebody else write just the same to all of its range, and nobody anything else? */
bool rival_agreed(const struct exchange *x);
void rival_move(struct unit *from, struct unit *to, const struct path *path);

/* gap.c */
struct gap_cause {
    uint16_t reason;
    const char *text;
    uint64_t time_ns;
    uint64_t issued_ns;
    const char *initiator;
    /*
     * Streams are given late when something in them is missing, so that a gap can be older than
     * updates which were given before it, and concern them: it is said a second time for this time,
     * when that is later. (Gaps over a whole path reach over all that was given, without this.)
     */
    uint64_t later_ns;
};

/* From that time on something is said of what the unit holds. */
static inline void unit_touch(struct unit *unit, uint64_t time_ns) {
    if (unit->touched_ns == 0 || time_ns < unit->touched_ns)
        unit->touched_ns = time_ns;
}
/* Blocks [first, end) of a path; end UINT64_MAX is the end of the volume. */
void gap_blocks(struct tracker *t, struct path *path, uint64_t first, uint64_t end,
                uint32_t block_bytes, const struct gap_cause *cause);
void gap_volume(struct tracker *t, struct path *path, const struct gap_cause *cause);
/*
 * An update of these blocks was just given. When it is older than a gap that was not said because
 * nothing had changed, it must not end what that gap would have said.
 */
void gap_hushed(struct tracker *t, struct path *path, uint64_t lba, uint64_t blocks,
                uint64_t time_ns);
/* Every path that is known and may be a volume, unless nothing changed since it last was. */
void gap_everywhere(struct tracker *t, const struct gap_cause *cause);
/* The path was announced just now: was something missed before that? */
void gap_newcomer(struct tracker *t, struct path *path, uint64_t time_ns);
/* The whole path, unless nothing changed since it last was. */
void gap_path(struct tracker *t, struct path *path, const struct gap_cause *cause);

/* sample.c */
void sample_take(const struct ending *e, uint64_t lba, uint64_t blocks, const struct payload *data);
/* Blocks [first, end) of any unit may have changed. */
void sample_touch(struct tracker *t, uint64_t first, uint64_t end);
void sample_end(struct tracker *t, struct target *target);

/* alias.c: sessions that nobody has named yet */
void target_set_provisional(struct tracker *t, struct target *target);
/*
 * Blocks [first, end) of the path are about to change, or to be in doubt: they are in doubt on
 * every other volume that the path may be one to, and that is not known to be another.
 */
void alias_doubt(struct tracker *t, struct path *path, uint64_t first, uint64_t end,
                 uint64_t time_ns);
/* The only session with a provisional target is no longer followed: nobody will find out which
 * volumes it led to. `lasts`: it may go on unseen. */
void alias_end(struct tracker *t, struct target *target, bool lasts, uint64_t time_ns);
/* One of them has no name: they may be one target, or lead to the same volumes. */
bool alias_may_share(const struct target *a, const struct target *b);
/* The path was announced just now: what changed on others before may have changed it. */
void alias_newcomer(struct tracker *t, struct path *path);
/* May it be a path to that unit, though nothing says so? */
bool alias_may_be(const struct path *path, const struct unit *unit);
/* May an open command change these blocks, of a unit that may be the same as this one? */
bool alias_is_open(struct tracker *t, const struct unit *unit, uint64_t first, uint64_t end);

#endif
