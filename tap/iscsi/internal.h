/*
 * internal: what the files of tap/iscsi share, and nobody else includes.
 *
 * iscsi.c is the door and the table of connections, connection.c drives the two framers of one and
 * sorts its PDUs, entry.c follows its login, duty.c what passes in full feature phase, session.c
 * keeps sessions and their tasks. search.c holds back a connection of which it is not known where
 * PDUs begin, late.c makes sessions of connections whose login was not seen, continuity.c tells
 * from sequence numbers what was missed.
 */
#ifndef SANREWIND_TAP_ISCSI_INTERNAL_H
#define SANREWIND_TAP_ISCSI_INTERNAL_H

#include "common/clock.h"
#include "proto/record.h"
#include "tap/iscsi/framer.h"
#include "tap/iscsi/iscsi.h"
#include "tap/iscsi/login.h"
#include "tap/iscsi/numbers.h"
#include "tap/iscsi/seek.h"
#include "tap/scsi/tracker.h"

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

enum {
    MAX_CONNECTIONS = 16384, /* about 1 KiB each; those beyond are not read */
    MAX_LOGINS = 1024,       /* logins under way, with up to 32 KiB of text each */
    MAX_TASKS = 131072,
    MAX_PORTS = 64, /* where a login was seen */
    NOTE_BYTES = 264,
    /* Bytes held back by a connection in search of its PDUs, and by all of them; and by one that
     * need not be iSCSI at all. */
    SEARCH_BYTES = 8 << 20,
    SEARCH_TOTAL_BYTES = 64 << 20,
    SEARCH_SILENT_BYTES = 128 << 10,
    /* It may begin inside a long data segment: so much of it is looked at, piece by piece. */
    SEARCH_SILENT_MOST = 8 << 20,
};

/* How long a search may hold back what passes, and promises with it. */
#define SEARCH_PATIENCE_NS (3 * NS_PER_SECOND)
/* No initiator waits longer for a command before it aborts it: so long after a session was joined,
 * none is in flight that was issued before. */
#define UNSEEN_LIFE_NS (300 * NS_PER_SECOND)
/* A session that shows up this early was there before the monitor, and silent. */
#define EARLY_NS (10 * NS_PER_SECOND)
/* No initiator fails over to a host, writes and leaves again in so short a time; and one that does
 * not say anything for longer cannot be told to have missed nothing. */
#define RESUME_NS (60 * NS_PER_SECOND)

/* UNSEEN: something of it passes, but its command did not. */
enum task_kind { TASK_COMMAND, TASK_MANAGEMENT, TASK_LOGOUT, TASK_UNSEEN };

/* An initiator task tag in use. */
struct task {
    uint32_t tag;
    enum task_kind kind;
    uint64_t lun;
    struct connection *connection; /* on which it has to go on */
    struct exchange *exchange;     /* NULL when the tracker has no interest in it */
    uint32_t command_number;
    uint32_t referenced_tag; /* management */
    uint8_t function;        /* management: enum pdu_task_function; logout: reason */
    uint16_t logout_connection;
    bool reads;        /* unseen: data came from the device */
    bool lun_known;    /* unseen */
    bool doubted;      /* its status may have passed unseen */
    UT_hash_handle hh; /* in session->tasks, oldest first */
};

/* A nexus: all connections of one initiator port with one target portal group. */
struct session {
    struct iscsi *owner;
    struct nexus *nexus;
    struct task *tasks;
    struct connection *connections;
    bool several; /* it has or had more than one connection */
    bool single;  /* its login allows one only */
    bool current; /* no later session took its place */
    bool late;    /* its login was not seen */
    bool named;   /* late: somebody found out its target */
    bool asked;   /* late: somebody is asking its portal who it is */
    bool logged_out;
    bool restored; /* it was there before the restart */
    uint64_t joined_ns;
    struct portal portal;    /* late */
    struct probing *probing; /* late: how its target is searched for; may be NULL */
    struct command_numbers commands;
    uint64_t unseen_ended;  /* commands that ended, and whose beginning was not seen */
    uint32_t saved_as;      /* its number in the checkpoint that is being written */
    uint64_t contiguous_ns; /* when no command was missing last */
    uint64_t jumped_ns;     /* numbers are missing that may come on another connection; 0: none */
    uint32_t error_recovery_level;
    uint32_t portal_group;
    uint64_t isid;
    char initiator[LOGIN_NAME_BYTES];
    char target[LOGIN_NAME_BYTES];
    struct session *prev, *next;
};

enum connection_state {
    CONNECTION_NEW,   /* nothing was seen of it */
    CONNECTION_LOGIN, /* login phase */
    CONNECTION_FULL,  /* full feature phase */
    CONNECTION_LATE,  /* its login was not seen, and its PDUs are not found yet: in search */
    CONNECTION_BLIND, /* it goes on, and cannot be read */
    CONNECTION_DONE,  /* nothing on it matters */
};

/* What the data segment of the PDU at hand is for. */
enum data_use { USE_NONE, USE_DATA_OUT, USE_DATA_IN, USE_LOGIN, USE_NOTE };

struct flow {
    struct framer framer;
    enum data_use use;
    struct task *task; /* of USE_DATA_OUT and USE_DATA_IN */
    uint32_t base;     /* buffer offset of its data segment */
    uint64_t position; /* of the stream: so many bytes were read or lost, those at hand included */
    const struct cursor *in; /* what is not read of those at hand; NULL: none are */
    unsigned phase;          /* PDUs begin at positions that leave this by 4 */
    struct sent *sent;       /* owned; the last data segments: SENT_ENTRIES of them, or NULL */
    size_t sent_count;       /* so many were noted */
    uint64_t last_ns;        /* of its last PDU */
    bool restored;           /* nothing was heard of it since the restart */
    bool torn;               /* PDUs may be missing before the next one */
    uint64_t torn_ns;        /* none of them had passed yet */
};

/* Where data of the initiator went: for what is sent again. */
struct sent {
    uint64_t position;
    uint32_t bytes;
    uint32_t tag;
    uint64_t offset; /* in the command's data */
    uint64_t lun;
    uint64_t number; /* tracker_number() */
};
enum { SENT_ENTRIES = 128 };

/* Of the next byte that is read. */
static inline uint64_t flow_position(const struct flow *flow) {
    return flow->position - (flow->in != NULL ? cursor_left(flow->in) : 0);
}

struct search;

struct connection {
    struct iscsi *owner;
    enum connection_state state;
    bool from_start;
    bool known_port;
    bool swapped; /* TCP took the server for the client */
    bool replaying;
    struct tcp_endpoints endpoints;
    uint16_t server_port;
    uint16_t id; /* CID */
    uint16_t tsih;
    uint64_t isid;
    struct session *session; /* from full feature phase on */
    struct login *login;     /* in login phase */
    struct flow flows[2];    /* by enum tcp_direction */
    struct status_numbers statuses;
    bool repeated;          /* the status number of its last PDU was taken before */
    uint32_t first_command; /* CmdSN of its login */
    bool data_digest_known;
    struct search *search; /* NULL: it is known where its PDUs begin */
    /* Short data from the target: sense, a rejected header. */
    uint8_t note[NOTE_BYTES];
    size_t note_bytes;
    uint16_t blind_reason; /* enum gap_reason */
    const char *blind_text;
    struct connection *prev, *next;                 /* owner->connections */
    struct connection *session_prev, *session_next; /* session->connections */
};

/* What portals said of themselves: see probe.c. */
struct known_portal;

struct iscsi {
    struct tracker *tracker;
    struct iscsi_counters counters;
    struct connection *connections;
    struct session *sessions;
    size_t connection_count;
    size_t login_count;
    size_t task_count;
    uint16_t ports[MAX_PORTS];
    size_t port_count;
    struct search *searches;      /* not known to be hopeless, oldest first */
    size_t search_bytes;          /* held back by all searches */
    struct broken_target *broken; /* whose sessions cannot be proven to have gone on */
    bool resume_off;
    size_t jumped_count; /* sessions with numbers that are missing and may still come */
    uint64_t resume_until_ns;
    struct known_portal *known; /* oldest answer first */
    size_t known_count;
    size_t known_units;    /* of all their targets */
    uint64_t answer_count; /* so many answers of portals came */
    uint64_t probe_count;  /* so many probes were made */
    uint64_t started_ns;   /* time of the first packet */
    uint64_t now_ns;
    struct connection crowd; /* stands for all connections beyond MAX_CONNECTIONS */
};

/* connection.c */
struct connection *connection_create(struct iscsi *i, bool from_start, uint16_t server_port);
void connection_destroy(struct connection *c);
/* Both return false when nothing of it matters any more. */
bool connection_data(struct connection *c, enum tcp_direction direction, const uint8_t *data,
                     size_t bytes, uint64_t time_ns);
bool connection_hole(struct connection *c, enum tcp_direction direction, uint64_t bytes,
                     uint64_t time_ns);
/* Bytes that were given before came again: see struct tcp_consumer. */
enum tcp_copy connection_again(struct connection *c, enum tcp_direction direction, uint64_t back,
                               const uint8_t *data, size_t bytes);
void connection_dispute(struct connection *c, enum tcp_direction direction, uint64_t back,
                        uint64_t bytes, uint64_t time_ns);
/* It does not begin with a login: another protocol, or a session that began before we watched. */
void connection_join_late(struct connection *c, uint64_t time_ns);
/* It has been searched for too long. */
void connection_tick(struct connection *c, uint64_t now_ns);
/* Nothing more will come: what is held back is read with what there is, or given up. */
void connection_conclude(struct connection *c, uint64_t time_ns);
/* PDUs begin somewhere behind: they are searched for in the given directions. What is missing had
 * not passed yet at since_ns. */
void connection_lose_place(struct connection *c, bool to_server, bool to_client, uint64_t since_ns);
/* It cannot be read from here on; what it may do to volumes becomes a gap, now and as it goes on.
 */
void connection_lose(struct connection *c, uint16_t reason, const char *text, uint64_t time_ns);

/* entry.c: login phase */
void entry_header(struct connection *c, enum tcp_direction direction, uint64_t time_ns);
void entry_text(struct connection *c, enum tcp_direction direction, uint64_t time_ns);
void entry_end(struct connection *c, enum tcp_direction direction, uint64_t time_ns);
/* Can this be how an iSCSI connection begins? Judged by as many bytes as there are, at least one.
 */
bool entry_may_begin(const uint8_t *data, size_t bytes);
/* The middle of a stream can look like that, too: is it a whole header with text keys behind it? */
bool entry_surely_begins(const uint8_t *data, size_t bytes);

/* search.c */
struct search *search_begin(struct connection *c, uint64_t since_ns);
/* Where PDUs begin in that direction is not known. */
void search_lose(struct search *s, enum tcp_direction direction, uint64_t time_ns);
/* A direction in which a PDU begins with the next byte, and it is not known whether data has a
 * digest. */
void search_ask_digest(struct search *s, enum tcp_direction direction);
void search_free(struct search *s);
void search_data(struct search *s, enum tcp_direction direction, const uint8_t *data, size_t bytes,
                 uint64_t time_ns);
/* Are the last bytes, from `back` before the end on, what came now? */
enum tcp_copy search_compare(const struct search *s, enum tcp_direction direction, uint64_t back,
                             const uint8_t *data, size_t bytes);
void search_hole(struct search *s, enum tcp_direction direction, uint64_t bytes, uint64_t time_ns);
/* Is everything found that was searched for? last_chance: with what there is. */
bool search_is_done(struct search *s, bool last_chance);
/* Nothing is held back for it any more. */
void search_give_up(struct search *s);
bool search_is_hopeless(const struct search *s);
/* It holds more than it may. */
bool search_is_full(const struct search *s);
bool search_has_bytes(const struct search *s, enum tcp_direction direction);
bool search_has_lost(const struct search *s, enum tcp_direction direction);
bool search_was_lost(const struct search *s, enum tcp_direction direction);
uint64_t search_since_ns(const struct search *s);
/* Nothing that it holds back is older than this: the promises may go on to here. */
void search_set_since(struct search *s, uint64_t since_ns);
/*
 * Is it to be told from other protocols first? Then what it holds is forgotten, and it goes on.
 * False: it is not, or has been looked at for long enough.
 */
bool search_skip(struct search *s, uint64_t time_ns);
/* Was something forgotten like that? */
bool search_has_skipped(const struct search *s);
/* Where in the stream what can be read begins. */
uint64_t search_position(const struct search *s, enum tcp_direction direction);
/* The digests that were found. */
struct seek_digests search_digests(const struct search *s);
/* All that was held back, from the places that were found on, through the connection. Frees it. */
bool search_replay(struct connection *c);
/* Forget what was held; whatever comes has to be searched. */
void search_clear(struct search *s, uint64_t time_ns);
/* Oldest time of what searches hold back; UINT64_MAX: nothing. */
uint64_t search_oldest(const struct iscsi *i);
struct connection *search_overdue(const struct iscsi *i, uint64_t now_ns);

/* late.c: sessions whose login was not seen */
/* The PDUs of the connection are found: it enters a session that has an address for a name. False:
 * out of memory. */
bool late_enter(struct connection *c, uint64_t time_ns);
/* Its name is known. */
void late_name(struct session *s, const struct identity_target *target, uint64_t time_ns);
/* The target of which one of its units has told the name on the wire; or NULL. */
const struct identity_target *late_target(const struct session *s, const struct identity *identity);
/* The session ended. */
void probe_free(struct session *s);
void probe_keep(struct iscsi *i, const struct identity *identity, uint64_t time_ns);
void probe_release(struct iscsi *i);

/* resume.c: after a restart */
/* What passed on sessions with the target cannot be proven to have missed nothing. */
void resume_break(struct iscsi *i, const char *target);
void resume_break_all(struct iscsi *i);
/* Something of the session was heard: have all with its target gone on? */
void resume_check(struct session *session, uint64_t time_ns);
void resume_release(struct iscsi *i);

/* continuity.c: what sequence numbers say of a PDU whose header is there */
void continuity_check(struct connection *c, enum tcp_direction direction, uint64_t time_ns);
/* May commands be in flight that were not seen? */
bool continuity_unseen(const struct session *s, uint64_t time_ns);
/* A command ended that had passed unseen. */
void continuity_count_unseen(struct session *s);
/* Statuses passed unseen on this connection, since since_ns. */
void continuity_statuses_lost(struct connection *c, uint64_t since_ns);
/* Numbers that are missing may come on another connection, for a while. */
void continuity_tick(struct iscsi *i, uint64_t now_ns);
uint64_t continuity_oldest(const struct iscsi *i);
void continuity_end(struct session *s);

/* duty.c: full feature phase */
void duty_header(struct connection *c, enum tcp_direction direction, uint64_t time_ns);
void duty_data(struct connection *c, enum tcp_direction direction);
void duty_lost(struct connection *c, enum tcp_direction direction, uint32_t offset, uint32_t bytes);
void duty_end(struct connection *c, enum tcp_direction direction, uint64_t time_ns);

/* sent.c */
void sent_note(struct flow *flow, uint64_t position, const struct task *task, uint64_t offset,
               uint32_t bytes);
/* The bytes from `position` on came again: are they what they were? */
enum tcp_copy sent_compare(struct connection *c, uint64_t position, const uint8_t *data,
                           size_t bytes);
void sent_dispute(struct connection *c, uint64_t position, uint64_t bytes);
void sent_release(struct flow *flow);

/* session.c */
/*
 * The session that a connection enters whose login has just succeeded: a new one (which takes the
 * place of one of the same names, RFC 7143 6.3.5), or the one that it joins. NULL: out of memory.
 */
struct session *session_enter(struct connection *c, const struct login_result *result,
                              uint64_t time_ns);
/* The connection ended. `reason` as for tracker_nexus_close(). */
void session_leave(struct connection *c, uint16_t reason, const char *text, uint64_t time_ns);

struct task *session_task(struct session *s, uint32_t tag);
/* A task of this tag; what had the tag before is given up. NULL: out of memory. */
struct task *session_task_begin(struct connection *c, uint32_t tag, enum task_kind kind,
                                uint64_t lun, uint64_t time_ns);
/* Its exchange must have ended. */
void session_task_end(struct session *s, struct task *task);
/* Ends it and its exchange without a status. */
void session_task_abandon(struct session *s, struct task *task, uint16_t reason, const char *text,
                          uint64_t time_ns);
/* It goes on on another connection. */
void session_task_move(struct task *task, struct connection *to);
/* The session of a connection of which no login was seen. NULL: out of memory. */
struct session *session_enter_late(struct connection *c, const char *initiator,
                                   const char *address);
/* One of before a restart. NULL: out of memory. */
void sessions_release(struct iscsi *i); /* those without a connection */
struct session *session_restore(struct iscsi *i, const char *initiator, const char *target);
void session_add_connection(struct session *s, struct connection *c);
/* Data of the connection's commands (NULL: of all) may have passed unseen. */
void session_data_lost(struct session *s, const struct connection *c);
/* Commands of other sessions with the same target (on one LUN; NULL: on any) may have ended. */
void session_doubt_others(struct session *s, const uint64_t *lun, uint16_t reason, const char *text,
                          uint64_t time_ns);
/* All commands of a connection (NULL: of the session), on one LUN (NULL: on any). */
void session_abandon(struct session *s, const struct connection *c, const uint64_t *lun,
                     uint16_t reason, const char *text, uint64_t time_ns);

#endif
