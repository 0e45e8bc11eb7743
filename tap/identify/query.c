#include "tap/identify/query.h"

#include "common/clock.h"
#include "tap/identify/portal.h"

#include <errno.h>
#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

/* ATTEMPTS: a login leaves a unit attention or two, and more come with every change of LUNs. */
enum { ATTEMPTS = 10, CDB_BYTES = 16, NAP_MS = 100 };
#define LOGOUT_NS (500 * NS_PER_MS)

struct query {
    const struct query_options *options;
    struct iscsi_context *iscsi; /* NULL once the session is over */
    bool logged_in;
    char portal[PORTAL_TEXT_BYTES];
    /* What is under way. */
    bool done;
    int status; /* enum scsi_status */
    char why[256];
    void (*offer)(void *context, const char *name, const char *address);
    void *offer_context;
};

/* Ends the session without another word. libiscsi calls back for what was under way. */
static void hang_up(struct query *q) {
    if (q->iscsi != NULL)
        iscsi_destroy_context(q->iscsi);
    q->iscsi = NULL;
}

/* What libiscsi says of it, one line. */
static void take_reason(struct query *q) {
    snprintf(q->why, sizeof q->why, "%s", iscsi_get_error(q->iscsi));
    q->why[strcspn(q->why, "\n")] = '\0';
}

/* The reason is taken here: what libiscsi does behind the callback may put another in its place. */
static void finished(struct iscsi_context *iscsi, int status, void *data, void *context) {
    struct query *q = context;
    (void)iscsi;
    (void)data;
    q->done = true;
    q->status = status;
    if (status != SCSI_STATUS_GOOD)
        take_reason(q);
}

static int poll_timeout_ms(uint64_t left_ns, int events) {
    uint64_t ms = left_ns / NS_PER_MS + 1;
    /* libiscsi has nothing to wait for: to be asked again in a while. */
    return events == 0 && ms > NAP_MS ? NAP_MS : (int)ms;
}

/* One round of waiting and working. */
static int service(struct query *q, uint64_t left_ns, struct error *err) {
    int events = iscsi_which_events(q->iscsi);
    struct pollfd fds[2] = {{.fd = q->options->stop_fd, .events = POLLIN},
                            {.fd = iscsi_get_fd(q->iscsi), .events = (short)events}};
    if (poll(fds, 2, poll_timeout_ms(left_ns, events)) < 0 && errno != EINTR)
        return error_errno(err, errno, "cannot wait for portal %s", q->portal);
    if (fds[0].revents != 0)
        return error_set(err, ERR_STOPPED, "stopped");
    if (fds[1].revents == 0 || iscsi_service(q->iscsi, fds[1].revents) == 0 || q->done)
        return 0;
    take_reason(q);
    return error_set(err, ERR_NET, "portal %s: %s", q->portal, q->why);
}

/* Until what was begun has ended. On failure the session is over. */
static int wait_done(struct query *q, uint64_t patience_ns, struct error *err) {
    struct mono begun = clock_mono();
    int code = 0;
    while (code == 0 && !q->done) {
        uint64_t gone_ns = clock_since_ns(begun);
        if (gone_ns < patience_ns)
            code = service(q, patience_ns - gone_ns, err);
        else
            code = error_set(err, ERR_NET, "portal %s does not answer", q->portal);
    }
    if (code < 0)
        hang_up(q);
    return code;
}

static void begin(struct query *q) {
    q->done = false;
    q->status = SCSI_STATUS_ERROR;
}

/* `begun` is what a function of libiscsi returned that begins something. */
static int complete(struct query *q, int begun, const char *what, struct error *err) {
    if (begun != 0) {
        take_reason(q);
    } else {
        int code = wait_done(q, q->options->step_ns, err);
        if (code < 0 || q->status == SCSI_STATUS_GOOD)
            return code;
    }
    if (q->status == SCSI_STATUS_REDIRECT)
        error_set(err, ERR_NET, "portal %s: the target has moved to %s", q->portal,
                  iscsi_get_target_address(q->iscsi));
    else
        error_set(err, ERR_NET, "portal %s: cannot %s: %s", q->portal, what, q->why);
    hang_up(q);
    return ERR_NET;
}

static int set_up(struct query *q, const char *target, struct error *err) {
    const struct chap *chap = q->options->chap;
    q->iscsi = iscsi_create_context(q->options->initiator);
    if (q->iscsi == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    iscsi_set_noautoreconnect(q->iscsi, 1);
    iscsi_set_alias(q->iscsi, "sanrewind monitor");
    iscsi_set_session_type(q->iscsi,
                           target != NULL ? ISCSI_SESSION_NORMAL : ISCSI_SESSION_DISCOVERY);
    if (target != NULL)
        iscsi_set_targetname(q->iscsi, target);
    if (chap != NULL)
        iscsi_set_initiator_username_pwd(q->iscsi, chap->user, chap->secret);
    return 0;
}

int query_open(const struct query_options *options, const struct portal *portal, const char *target,
               struct query **out, struct error *err) {
    AUTO(query) q = calloc(1, sizeof *q);
    if (q == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    q->options = options;
    portal_text(portal, q->portal);
    int code = set_up(q, target, err);
    if (code < 0)
        return code;
    begin(q);
    code = complete(q, iscsi_connect_async(q->iscsi, q->portal, finished, q), "connect", err);
    if (code < 0)
        return code;
    begin(q);
    code = complete(q, iscsi_login_async(q->iscsi, finished, q), "log in", err);
    if (code < 0)
        return code;
    q->logged_in = true;
    *out = take_pointer(&q);
    return 0;
}

void query_close(struct query *q) {
    if (q == NULL)
        return;
    if (q->iscsi != NULL && q->logged_in) {
        begin(q);
        if (iscsi_logout_async(q->iscsi, finished, q) == 0)
            wait_done(q, LOGOUT_NS, NULL);
    }
    hang_up(q);
    free(q);
}

/* libiscsi's list is there as long as this call. */
static void take_targets(struct iscsi_context *iscsi, int status, void *data, void *context) {
    struct query *q = context;
    const struct iscsi_discovery_address *target = status == SCSI_STATUS_GOOD ? data : NULL;
    for (; target != NULL; target = target->next) {
        q->offer(q->offer_context, target->target_name, NULL);
        const struct iscsi_target_portal *portal = target->portals;
        for (; portal != NULL; portal = portal->next)
            q->offer(q->offer_context, target->target_name, portal->portal);
    }
    finished(iscsi, status, NULL, q);
}

int query_targets(struct query *q,
                  void (*offer)(void *context, const char *name, const char *address),
                  void *context, struct error *err) {
    if (q->iscsi == NULL)
        return error_set(err, ERR_NET, "portal %s: the session is over", q->portal);
    q->offer = offer;
    q->offer_context = context;
    begin(q);
    return complete(q, iscsi_discovery_async(q->iscsi, take_targets, q), "ask for targets", err);
}

bool query_can_address(uint64_t lun) {
    return (lun & UINT64_C(0xffffffffffff)) == 0;
}

/*
 * SPC-5 6.7 and 6.30, SBC-4 5.20 and 5.21. The low byte of an INQUIRY's allocation length is never
 * 0: devices older than SPC-3 look at nothing else.
 */
static const struct cdb {
    uint8_t bytes[CDB_BYTES];
    int length;
    int length_at; /* of the allocation length; 0: none */
    int length_width;
    size_t most;
} cdbs[] = {
    [QUESTION_LUNS] = {{0xa0}, 12, 6, 4, SIZE_MAX},
    [QUESTION_INQUIRY] = {{0x12}, 6, 3, 2, 252},
    [QUESTION_SERIAL] = {{0x12, 0x01, 0x80}, 6, 3, 2, 0x3fc},
    [QUESTION_NAMES] = {{0x12, 0x01, 0x83}, 6, 3, 2, 0x3fc},
    [QUESTION_UNMAP] = {{0x12, 0x01, 0xb2}, 6, 3, 2, 0x3fc},
    [QUESTION_CAPACITY_16] = {{0x9e, 0x10}, 16, 10, 4, 32},
    [QUESTION_CAPACITY_10] = {{0x25}, 10, 0, 0, 8},
};

static void put_number(uint8_t *to, uint64_t value, int width) {
    for (int i = 0; i < width && i < 8; i++)
        to[i] = (uint8_t)(value >> 8 * (width - 1 - i));
}

/* A command, and where its answer goes: to `data` and nowhere else, however much is sent. */
struct command {
    uint64_t lun;
    struct cdb cdb;
    uint8_t *data;
    size_t bytes; /* at most */
};

static struct command command_of(uint64_t lun, enum question question, uint8_t *data, size_t room) {
    struct command c = {.lun = lun, .cdb = cdbs[question], .data = data};
    c.bytes = room < c.cdb.most ? room : c.cdb.most;
    if (c.cdb.length_at > 0)
        put_number(c.cdb.bytes + c.cdb.length_at, c.bytes, c.cdb.length_width);
    return c;
}

static struct scsi_task *make_task(struct command *c) {
    memset(c->data, 0, c->bytes);
    struct scsi_task *task =
        scsi_create_task(c->cdb.length, c->cdb.bytes, SCSI_XFER_READ, (int)c->bytes);
    if (task != NULL && scsi_task_add_data_in_buffer(task, (int)c->bytes, c->data) == 0)
        return task;
    if (task != NULL)
        scsi_free_scsi_task(task);
    return NULL;
}

static size_t received(const struct scsi_task *task) {
    size_t wanted = (size_t)task->expxferlen;
    if (task->residual_status != SCSI_RESIDUAL_UNDERFLOW)
        return wanted;
    return task->residual < wanted ? wanted - task->residual : 0;
}

static bool is_transient(const struct query *q, const struct scsi_task *task) {
    if (q->status == SCSI_STATUS_CHECK_CONDITION)
        return task->sense.key == SCSI_SENSE_UNIT_ATTENTION ||
               task->sense.key == SCSI_SENSE_COMMAND_ABORTED;
    return q->status == SCSI_STATUS_BUSY || q->status == SCSI_STATUS_TASK_SET_FULL;
}

/* 0 and what came; 1: to be asked again. */
static int judge(struct query *q, const struct scsi_task *task, size_t *bytes, struct error *err) {
    switch (q->status) {
    case SCSI_STATUS_GOOD:
        *bytes = received(task);
        return 0;
    case SCSI_STATUS_ERROR:
    case SCSI_STATUS_CANCELLED:
    case SCSI_STATUS_TIMEOUT:
        return error_set(err, ERR_NET, "portal %s: the session broke: %s", q->portal, q->why);
    default:
        return is_transient(q, task) ? 1 : error_set(err, ERR_NOT_FOUND, "refused");
    }
}

/* The task must outlive the session that knows it: freed when it is done, or the session over. */
static int ask_once(struct query *q, uint64_t lun, struct scsi_task *task, size_t *bytes,
                    struct error *err) {
    begin(q);
    if (iscsi_scsi_command_async(q->iscsi, (int)(lun >> 48), task, finished, NULL, q) != 0) {
        take_reason(q);
        hang_up(q);
        error_set(err, ERR_NET, "portal %s: %s", q->portal, q->why);
        return ERR_NET;
    }
    int code = wait_done(q, q->options->step_ns, err);
    if (code == 0)
        code = judge(q, task, bytes, err);
    if (code < 0 && code != ERR_NOT_FOUND)
        hang_up(q);
    return code;
}

/* Before a busy device is asked again. */
static void nap(const struct query *q) {
    struct pollfd stop = {.fd = q->options->stop_fd, .events = POLLIN};
    if (q->status != SCSI_STATUS_CHECK_CONDITION)
        poll(&stop, 1, NAP_MS);
}

static int ask(struct query *q, struct command *c, size_t *bytes, struct error *err) {
    int code = 1;
    *bytes = 0;
    for (unsigned i = 0; code == 1 && i < ATTEMPTS; i++) {
        if (q->iscsi == NULL)
            return error_set(err, ERR_NET, "portal %s: the session is over", q->portal);
        struct scsi_task *task = make_task(c);
        if (task == NULL)
            return error_set(err, ERR_NOMEM, "out of memory");
        code = ask_once(q, c->lun, task, bytes, err);
        scsi_free_scsi_task(task);
        if (code == 1)
            nap(q);
    }
    return code == 1 ? error_set(err, ERR_NOT_FOUND, "busy") : code;
}

int query_ask(struct query *q, uint64_t lun, enum question question, uint8_t *data, size_t room,
              size_t *bytes, struct error *err) {
    struct command c = command_of(lun, question, data, room);
    return ask(q, &c, bytes, err);
}

int query_read(struct query *q, uint64_t lun, uint64_t lba, uint8_t *data, uint32_t block_bytes,
               struct error *err) {
    struct command c = {
        .lun = lun, .cdb = {{0x88}, 16, 0, 0, 0}, .data = data, .bytes = block_bytes};
    size_t bytes = 0;
    put_number(c.cdb.bytes + 2, lba, 8);
    put_number(c.cdb.bytes + 10, 1, 4);
    int code = ask(q, &c, &bytes, err);
    if (code == 0 && bytes != block_bytes)
        return error_set(err, ERR_NOT_FOUND, "a block of another length");
    return code;
}
