#include "tap/iscsi/internal.h"

/* PDUs of the initiator */

enum { CDB_MAX_BYTES = 16 + 1024 };

/* RFC 7143 7.2.1: the same command again, because the target was not heard to have received it. */
static bool is_retry(const struct task *task, const struct pdu *pdu,
                     const struct pdu_command *command) {
    return task->kind == TASK_COMMAND && task->command_number == command->command_number &&
           task->lun == pdu->lun;
}

static void give_command(struct connection *c, struct task *task, const struct pdu_command *command,
                         const struct pdu_extension *extension, uint64_t time_ns) {
    const struct pdu *pdu = &c->flows[TCP_TO_SERVER].framer.pdu;
    uint8_t cdb[CDB_MAX_BYTES];
    memcpy(cdb, command->cdb, sizeof command->cdb);
    if (extension->cdb_bytes > 0)
        memcpy(cdb + sizeof command->cdb, extension->cdb, extension->cdb_bytes);
    /* Over several connections, or past the queue, the order of arrival proves nothing. */
    bool ordered = !c->session->several && !pdu->immediate;
    tracker_command(
        c->session->nexus,
        &(struct tracker_command){.lun = pdu->lun,
                                  .cdb = cdb,
                                  .cdb_bytes = sizeof command->cdb + extension->cdb_bytes,
                                  .data_out_bytes = command->writes ? command->expected_bytes : 0,
                                  .data_in_bytes = command->writes ? extension->read_bytes
                                                                   : command->expected_bytes,
                                  .attribute = ordered ? command->attribute : 0,
                                  .time_ns = time_ns,
                                  .holder = &task->exchange});
}

/* Not a PDU: what was read before it may have been none, either. */
static void malformed_pdu(struct connection *c, uint64_t time_ns) {
    c->owner->counters.malformed++;
    tracker_nexus_gap(c->session->nexus, GAP_MALFORMED, "a PDU that RFC 7143 does not know",
                      time_ns);
    connection_lose_place(c, true, true, time_ns);
}

static void no_memory(struct connection *c, uint64_t time_ns) {
    connection_lose(c, GAP_OVERFLOW, "no memory left to follow a task", time_ns);
}

static void take_command(struct connection *c, struct flow *flow, uint64_t time_ns) {
    const struct pdu *pdu = &flow->framer.pdu;
    struct pdu_command command = pdu_command(flow->framer.head);
    struct pdu_extension extension = {0};
    if (pdu->ahs_bytes > 0 && !pdu_extension(flow->framer.ahs, pdu->ahs_bytes, &extension)) {
        malformed_pdu(c, time_ns);
        return;
    }
    struct task *task = session_task(c->session, pdu->task_tag);
    if (task == NULL || !is_retry(task, pdu, &command)) {
        task = session_task_begin(c, pdu->task_tag, TASK_COMMAND, pdu->lun, time_ns);
        if (task == NULL) {
            no_memory(c, time_ns);
            return;
        }
        task->command_number = command.command_number;
        give_command(c, task, &command, &extension, time_ns);
    }
    flow->task = task;
    flow->use = USE_DATA_OUT;
    flow->base = 0;
}

/*
 * A task that is open on this connection. When there is none, its command was not seen: what more
 * passes of it tells what it can be.
 */
static struct task *open_task(struct connection *c, uint32_t tag, uint64_t time_ns) {
    struct task *task = session_task(c->session, tag);
    if (task != NULL)
        return task->connection == c ? task : NULL;
    c->owner->counters.unknown_task++;
    return session_task_begin(c, tag, TASK_UNSEEN, 0, time_ns);
}

static void learn_lun(struct task *task, uint64_t lun) {
    if (task == NULL || task->kind != TASK_UNSEEN)
        return;
    task->lun = lun;
    task->lun_known = true;
}

static void take_data_out(struct connection *c, struct flow *flow, uint64_t time_ns) {
    struct pdu_data data = pdu_data(flow->framer.head);
    struct task *task = open_task(c, flow->framer.pdu.task_tag, time_ns);
    /* RFC 7143 11.7.4: the LUN means something with a Target Transfer Tag. */
    if (data.transfer_tag != UINT32_MAX)
        learn_lun(task, flow->framer.pdu.lun);
    flow->task = task != NULL && task->kind == TASK_COMMAND ? task : NULL;
    flow->use = USE_DATA_OUT;
    flow->base = data.offset;
}

static void take_task_request(struct connection *c, const struct flow *flow, uint64_t time_ns) {
    const struct pdu *pdu = &flow->framer.pdu;
    struct pdu_task_request request = pdu_task_request(flow->framer.head);
    struct task *task = session_task_begin(c, pdu->task_tag, TASK_MANAGEMENT, pdu->lun, time_ns);
    if (task == NULL) {
        no_memory(c, time_ns);
        return;
    }
    task->function = request.function;
    task->referenced_tag = request.referenced_tag;
}

static void take_logout_request(struct connection *c, const struct flow *flow, uint64_t time_ns) {
    struct pdu_logout logout = pdu_logout(flow->framer.head);
    struct task *task = session_task_begin(c, flow->framer.pdu.task_tag, TASK_LOGOUT, 0, time_ns);
    if (task == NULL) {
        no_memory(c, time_ns);
        return;
    }
    task->function = logout.reason;
    task->logout_connection = logout.connection;
}

static void from_initiator(struct connection *c, struct flow *flow, uint64_t time_ns) {
    switch (flow->framer.pdu.opcode) {
    case PDU_COMMAND:
        take_command(c, flow, time_ns);
        break;
    case PDU_DATA_OUT:
        take_data_out(c, flow, time_ns);
        break;
    case PDU_TASK_REQUEST:
        take_task_request(c, flow, time_ns);
        break;
    case PDU_LOGOUT_REQUEST:
        take_logout_request(c, flow, time_ns);
        break;
    case PDU_NOP_OUT:
    case PDU_TEXT_REQUEST: /* changes nothing of digests (RFC 7143 13.1) */
    case PDU_SNACK:
        break;
    default:
        if (pdu_is_of_initiator(flow->framer.pdu.opcode))
            c->owner->counters.malformed++; /* a vendor's, or a login in full feature phase */
        else
            malformed_pdu(c, time_ns);
    }
}

/* PDUs of the target */

static void from_target(struct connection *c, struct flow *flow, uint64_t time_ns) {
    switch (flow->framer.pdu.opcode) {
    case PDU_DATA_IN: {
        struct task *task = open_task(c, flow->framer.pdu.task_tag, time_ns);
        if (task == NULL || (task->kind != TASK_COMMAND && task->kind != TASK_UNSEEN))
            return;
        task->reads = true;
        flow->task = task;
        flow->base = pdu_data(flow->framer.head).offset;
        if (task->exchange != NULL && tracker_wants_data_in(task->exchange))
            flow->use = USE_DATA_IN;
        break;
    }
    case PDU_R2T: /* data says by itself where it belongs */
        learn_lun(open_task(c, flow->framer.pdu.task_tag, time_ns), flow->framer.pdu.lun);
        break;
    case PDU_RESPONSE:
    case PDU_REJECT:
        flow->use = USE_NOTE;
        c->note_bytes = 0;
        break;
    case PDU_NOP_IN:
    case PDU_TASK_RESPONSE:
    case PDU_TEXT_RESPONSE:
    case PDU_LOGOUT_RESPONSE:
    case PDU_ASYNC: /* what it announces is seen when it happens */
        break;
    default:
        if (pdu_is_of_target(flow->framer.pdu.opcode))
            c->owner->counters.malformed++;
        else
            malformed_pdu(c, time_ns);
    }
}

void duty_header(struct connection *c, enum tcp_direction direction, uint64_t time_ns) {
    struct flow *flow = &c->flows[direction];
    continuity_check(c, direction, time_ns);
    if (direction == TCP_TO_SERVER)
        from_initiator(c, flow, time_ns);
    else
        from_target(c, flow, time_ns);
}

void duty_data(struct connection *c, enum tcp_direction direction) {
    struct flow *flow = &c->flows[direction];
    const struct framer *f = &flow->framer;
    if (flow->task == NULL || flow->task->exchange == NULL)
        return;
    uint64_t offset = (uint64_t)flow->base + f->piece_offset;
    if (flow->use == USE_DATA_OUT) {
        sent_note(flow, flow_position(flow) - f->piece_bytes, flow->task, offset,
                  (uint32_t)f->piece_bytes);
        tracker_data_out(flow->task->exchange, offset, f->piece, f->piece_bytes);
    } else
        tracker_data_in(flow->task->exchange, offset, f->piece, f->piece_bytes);
}

void duty_lost(struct connection *c, enum tcp_direction direction, uint32_t offset,
               uint32_t bytes) {
    struct flow *flow = &c->flows[direction];
    if (flow->use == USE_NOTE)
        c->note_bytes = 0; /* what comes behind does not fit any more, either */
    if (flow->use == USE_DATA_OUT && flow->task != NULL && flow->task->exchange != NULL)
        tracker_data_out_lost(flow->task->exchange, (uint64_t)flow->base + offset, bytes);
}

/* Ends of PDUs of the target */

static void end_task(struct connection *c, struct task *task, const struct tracker_status *status) {
    if (task->exchange != NULL)
        tracker_status(task->exchange, status);
    session_task_end(c->session, task);
}

/* RFC 7143 11.4.7.2: two bytes of length, then sense data. */
static struct cursor sense_of(const struct connection *c, const struct framer *f) {
    struct cursor note = cursor_of(c->note, c->note_bytes);
    size_t length = cursor_be16(&note);
    if (!f->data_intact)
        return (struct cursor){.failed = true};
    return cursor_child(&note, length < cursor_left(&note) ? length : cursor_left(&note));
}

/*
 * A command ended of which the beginning was not seen. What it changed, if anything, it changed by
 * now: until then it was in flight.
 */
static void end_unseen(struct connection *c, struct task *task, const struct framer *f,
                       uint64_t time_ns) {
    static const char text[] =
        "a command ended that had passed unseen: it may have written anything";
    struct session *s = c->session;
    struct pdu_response response = pdu_response(f->head);
    struct cursor sense = sense_of(c, f);
    bool refused = response.response == 0 &&
                   tracker_was_refused(response.status, cursor_ok(&sense) ? sense.next : NULL,
                                       cursor_left(&sense));
    continuity_count_unseen(s);
    if (!refused && (task == NULL || (!task->reads && !task->lun_known)))
        tracker_nexus_gap(s->nexus, GAP_STREAM_HOLE, text, time_ns);
    else if (!refused && task->lun_known)
        tracker_unit_gap(s->nexus, task->lun, GAP_STREAM_HOLE, text, time_ns);
    if (task != NULL)
        session_task_end(s, task);
}

static void end_response(struct connection *c, const struct framer *f, uint64_t time_ns) {
    struct pdu_response response = pdu_response(f->head);
    struct task *task = session_task(c->session, f->pdu.task_tag);
    if (task == NULL && c->repeated)
        return; /* sent again on request (RFC 7143 11.16) */
    if (task == NULL || task->kind == TASK_UNSEEN) {
        end_unseen(c, task, f, time_ns);
        return;
    }
    if (task->connection != c || task->kind != TASK_COMMAND)
        return;
    /* Its own status may have passed unseen, and another command with its tag as well. */
    if (task->doubted && continuity_unseen(c->session, time_ns)) {
        tracker_nexus_gap(c->session->nexus, GAP_STREAM_HOLE,
                          "a status that may be that of a command which passed unseen", time_ns);
        session_task_abandon(c->session, task, 0, NULL, time_ns);
        return;
    }
    struct cursor sense = sense_of(c, f);
    end_task(c, task,
             &(struct tracker_status){.status = response.status,
                                      .delivered = response.response == 0,
                                      .sense = cursor_ok(&sense) ? sense.next : NULL,
                                      .sense_bytes = cursor_left(&sense),
                                      .residual_underflow = response.residual_underflow,
                                      .time_ns = time_ns});
}

static void end_data_in(struct connection *c, const struct flow *flow, uint64_t time_ns) {
    struct task *task = flow->task;
    if (task == NULL)
        return;
    if (task->kind == TASK_UNSEEN) {
        if (pdu_data(flow->framer.head).has_status) {
            continuity_count_unseen(c->session);
            session_task_end(c->session, task);
        }
        return;
    }
    if (flow->use == USE_DATA_IN && !flow->framer.data_intact && task->exchange != NULL)
        tracker_data_in_revoke(task->exchange);
    struct pdu_data data = pdu_data(flow->framer.head);
    if (data.has_status)
        end_task(c, task,
                 &(struct tracker_status){.status = data.status,
                                          .delivered = true,
                                          .residual_underflow = data.residual_underflow,
                                          .time_ns = time_ns});
}

/* Commands that passed unseen may be among those that it ended. */
static void end_all_unseen(struct session *s, const uint64_t *lun, uint64_t time_ns) {
    static const char text[] =
        "a task management function may have ended a command that passed unseen";
    if (!continuity_unseen(s, time_ns))
        return;
    if (lun != NULL)
        tracker_unit_gap(s->nexus, *lun, GAP_ABORTED, text, time_ns);
    else
        tracker_nexus_gap(s->nexus, GAP_ABORTED, text, time_ns);
}

static void end_all(struct session *s, const uint64_t *lun, const char *text, uint64_t time_ns) {
    session_abandon(s, NULL, lun, GAP_ABORTED, text, time_ns);
    end_all_unseen(s, lun, time_ns);
}

/*
 * Tasks of other sessions, too: a reset does not ask whose they are. (Whether those end with a
 * status, or without a word, depends on the TAS bit: SAM-6 5.3.1.)
 */
static void reset(struct connection *c, const uint64_t *lun, uint64_t time_ns) {
    static const char text[] = "a reset ended it before its status";
    end_all(c->session, lun, text, time_ns);
    session_doubt_others(c->session, lun, GAP_ABORTED, text, time_ns);
}

static void abort_one(struct session *s, const struct task *request, uint64_t time_ns) {
    struct task *task = session_task(s, request->referenced_tag);
    if (task != NULL && task->kind == TASK_COMMAND)
        session_task_abandon(s, task, GAP_ABORTED, "its initiator aborted it", time_ns);
    else
        end_all_unseen(s, &request->lun, time_ns);
}

static void function_done(struct connection *c, const struct task *request, uint64_t time_ns) {
    struct session *s = c->session;
    struct task *task = NULL;
    switch (request->function) {
    case TASK_ABORT_TASK:
        abort_one(s, request, time_ns);
        break;
    case TASK_ABORT_TASK_SET:
        end_all(s, &request->lun, "its task set was aborted", time_ns);
        break;
    case TASK_I_T_NEXUS_RESET:
        end_all(s, NULL, "its nexus was reset", time_ns);
        break;
    case TASK_CLEAR_TASK_SET: /* that of all nexuses, unless each has its own (SPC-5 7.5.8, TST) */
    case TASK_LOGICAL_UNIT_RESET:
        reset(c, &request->lun, time_ns);
        break;
    case TASK_TARGET_WARM_RESET:
    case TASK_TARGET_COLD_RESET:
        reset(c, NULL, time_ns);
        break;
    case TASK_REASSIGN:
        task = session_task(s, request->referenced_tag);
        if (task != NULL && task->kind == TASK_COMMAND)
            session_task_move(task, c);
        break;
    default:
        break;
    }
}

static void end_task_response(struct connection *c, const struct framer *f, uint64_t time_ns) {
    enum { DONE = 0, NO_SUCH_TASK = 1 };
    uint8_t response = pdu_task_response(f->head);
    struct task *request = session_task(c->session, f->pdu.task_tag);
    if (request == NULL || request->kind != TASK_MANAGEMENT)
        return;
    if (response == DONE || (response == NO_SUCH_TASK && request->function == TASK_ABORT_TASK))
        function_done(c, request, time_ns);
    session_task_end(c->session, request);
}

static void end_logout_response(struct connection *c, const struct framer *f, uint64_t time_ns) {
    enum { CLOSE_SESSION = 0, CLOSE_CONNECTION = 1 };
    static const char text[] = "its initiator logged out before its status was seen";
    struct session *s = c->session;
    struct task *request = session_task(s, f->pdu.task_tag);
    if (request == NULL || request->kind != TASK_LOGOUT)
        return;
    if (pdu_logout_response(f->head) == 0 && request->function == CLOSE_SESSION) {
        s->logged_out = command_numbers_missing(&s->commands) <= s->unseen_ended;
        session_abandon(s, NULL, NULL, GAP_NEXUS_LOST, text, time_ns);
    }
    for (struct connection *other = s->connections; other != NULL; other = other->session_next) {
        if (pdu_logout_response(f->head) == 0 && request->function == CLOSE_CONNECTION &&
            other->id == request->logout_connection)
            session_abandon(s, other, NULL, GAP_NEXUS_LOST, text, time_ns);
    }
    session_task_end(s, request);
}

/*
 * The target found a data digest broken, and the data will come again or the task fail. Other
 * rejected PDUs leave the task open until its status, its tag or its connection tells.
 */
static void end_reject(struct connection *c, const struct framer *f) {
    if (pdu_reject_reason(f->head) != REJECT_DATA_DIGEST || c->note_bytes < PDU_HEAD_BYTES)
        return;
    struct pdu rejected = pdu_parse(c->note);
    struct task *task = session_task(c->session, rejected.task_tag);
    if (task == NULL || task->exchange == NULL)
        return;
    uint32_t offset = rejected.opcode == PDU_DATA_OUT ? pdu_data(c->note).offset : 0;
    if (rejected.opcode == PDU_DATA_OUT || rejected.opcode == PDU_COMMAND)
        tracker_data_out_revoke(task->exchange, offset, rejected.data_bytes);
}

static void end_of_target(struct connection *c, struct flow *flow, uint64_t time_ns) {
    const struct framer *f = &flow->framer;
    switch (f->pdu.opcode) {
    case PDU_RESPONSE:
        end_response(c, f, time_ns);
        break;
    case PDU_DATA_IN:
        end_data_in(c, flow, time_ns);
        break;
    case PDU_TASK_RESPONSE:
        end_task_response(c, f, time_ns);
        break;
    case PDU_LOGOUT_RESPONSE:
        end_logout_response(c, f, time_ns);
        break;
    case PDU_REJECT:
        end_reject(c, f);
        break;
    default:
        break;
    }
}

void duty_end(struct connection *c, enum tcp_direction direction, uint64_t time_ns) {
    struct flow *flow = &c->flows[direction];
    if (direction == TCP_TO_CLIENT)
        end_of_target(c, flow, time_ns);
    else if (!flow->framer.data_intact && flow->use == USE_DATA_OUT && flow->task != NULL &&
             flow->task->exchange != NULL)
        tracker_data_out_revoke(flow->task->exchange, flow->base, flow->framer.pdu.data_bytes);
    flow->task = NULL;
    flow->use = USE_NONE;
}
