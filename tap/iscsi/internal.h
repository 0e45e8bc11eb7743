/*
 * internal: what the files of tap/iscsi share, and nobody else includes.
 *
 * iscsi.c is the door and the table of connections, connection.c drives the two framers of one and
 * sorts its PDUs, entry.c follows its login, duty.c what passes in full feature phase, session.c
 * keeps sessions and their tasks.
 */
#ifndef SANREWIND_TAP_ISCSI_INTERNAL_H
#define SANREWIND_TAP_ISCSI_INTERNAL_H

#include "proto/record.h"
#include "tap/iscsi/framer.h"
#include "tap/iscsi/iscsi.h"
#include "tap/iscsi/login.h"
#include "tap/scsi/tracker.h"

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

enum {
    MAX_CONNECTIONS = 16384, /* about 1 KiB each; those beyond are not read */
    MAX_LOGINS = 1024,       /* logins under way, with up to 32 KiB of text each */
    MAX_TASKS = 131072,
    MAX_PORTS = 64, /* where a login was seen */
    NOTE_BYTES = 264,
};

enum task_kind { TASK_COMMAND, TASK_MANAGEMENT, TASK_LOGOUT };

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
    UT_hash_handle hh; /* in session->tasks, oldest first */
};

/* A nexus: all connections of one initiator port with one target portal group. */
struct session {
    struct iscsi *owner;
    struct nexus *nexus;
    struct task *tasks;
    struct connection *connections;
    bool several; /* it has or had more than one connection */
    bool current; /* no later session took its place */
    uint32_t error_recovery_level;
    uint32_t portal_group;
    uint64_t isid;
    char initiator[LOGIN_NAME_BYTES];
    char target[LOGIN_NAME_BYTES];
    struct session *prev, *next;
};

enum connection_state {
    CONNECTION_NEW,   /* nothing but perhaps a part of its first header was seen */
    CONNECTION_LOGIN, /* login phase */
    CONNECTION_FULL,  /* full feature phase */
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
};

struct connection {
    struct iscsi *owner;
    enum connection_state state;
    bool from_start;
    bool known_port;
    uint16_t server_port;
    uint16_t id; /* CID */
    uint16_t tsih;
    uint64_t isid;
    struct session *session; /* from full feature phase on */
    struct login *login;     /* in login phase */
    struct flow flows[2];    /* by enum tcp_direction */
    /* Short data from the target: sense, a rejected header. */
    uint8_t note[NOTE_BYTES];
    size_t note_bytes;
    uint16_t blind_reason; /* enum gap_reason */
    const char *blind_text;
    struct connection *prev, *next;                 /* owner->connections */
    struct connection *session_prev, *session_next; /* session->connections */
};

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
/* It does not begin with a login: another protocol, or a session that began before we watched. */
void connection_join_late(struct connection *c, uint64_t time_ns);
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

/* duty.c: full feature phase */
void duty_header(struct connection *c, enum tcp_direction direction, uint64_t time_ns);
void duty_data(struct connection *c, enum tcp_direction direction);
void duty_lost(struct connection *c, enum tcp_direction direction, uint32_t offset, uint32_t bytes);
void duty_end(struct connection *c, enum tcp_direction direction, uint64_t time_ns);

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
/* All commands of a connection (NULL: of the session), on one LUN (NULL: on any). */
void session_abandon(struct session *s, const struct connection *c, const uint64_t *lun,
                     uint16_t reason, const char *text, uint64_t time_ns);

#endif
