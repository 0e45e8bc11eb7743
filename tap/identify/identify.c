#include "tap/identify/identify.h"

#include "common/clock.h"
#include "common/log.h"
#include "common/queue.h"
#include "tap/identify/portal.h"
#include "tap/identify/probe.h"
#include "tap/identify/survey.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>

/* An answer may be 10 MB large (16384 units), so few of them wait. */
enum { ASKED = 64, ANSWERS = 4, PROBES = 16, PORTALS = 256, NAME_BYTES = 224 };
#define STEP_NS      (5 * NS_PER_SECOND)
#define PATIENCE_NS  (120 * NS_PER_SECOND)
#define FIRST_AGAIN  (2 * NS_PER_SECOND)
#define SELDOM_AGAIN (600 * NS_PER_SECOND)

/* A portal that has to be asked, or asked again. */
struct wanted {
    struct portal portal;
    uint64_t due_ns; /* monotonic */
    uint64_t pause_ns;
    bool failed;
    size_t told; /* 0: nothing; otherwise 1 and the number of logical units */
};

struct identify {
    char initiator[NAME_BYTES];
    struct chap chap;
    bool has_chap;
    int stop_fd;
    int wake_fd; /* something was put into one of the thread's queues */
    pthread_t thread;
    bool thread_runs;
    struct queue *asked;   /* struct portal, to the thread */
    struct queue *answers; /* struct identity, from it */
    struct queue *probes;  /* struct identity_probe, to it */
    struct queue *probed;  /* likewise, from it */
    atomic_size_t fresh;   /* portals that have neither answered nor failed yet */
    /* The thread's own. */
    struct wanted wanted[PORTALS];
    size_t wanted_count;
};

/* --- the thread ------------------------------------------------------------------------------ */

static struct wanted *find(struct identify *i, const struct portal *portal) {
    for (size_t k = 0; k < i->wanted_count; k++) {
        if (portal_equal(&i->wanted[k].portal, portal))
            return &i->wanted[k];
    }
    return NULL;
}

static void want(struct identify *i, const struct portal *portal) {
    struct wanted *known = find(i, portal);
    if (known != NULL) {
        known->told = 0; /* who asks again wants to hear it again */
        atomic_fetch_sub(&i->fresh, 1);
        return;
    }
    i->wanted[i->wanted_count++] =
        (struct wanted){.portal = *portal, .due_ns = clock_mono().ns, .pause_ns = FIRST_AGAIN};
}

static struct wanted *next_due(struct identify *i) {
    struct wanted *next = i->wanted_count > 0 ? &i->wanted[0] : NULL;
    for (size_t k = 1; k < i->wanted_count; k++) {
        if (i->wanted[k].due_ns < next->due_ns)
            next = &i->wanted[k];
    }
    return next;
}

static void forget(struct identify *i, struct wanted *wanted) {
    if (!wanted->failed)
        atomic_fetch_sub(&i->fresh, 1);
    *wanted = i->wanted[--i->wanted_count];
}

/* Said once as a warning: a portal that keeps silent would fill the log. */
static void put_off(struct identify *i, struct wanted *wanted, const char *why) {
    uint64_t seconds = wanted->pause_ns / NS_PER_SECOND;
    if (wanted->failed)
        log_debug("%s; again in %" PRIu64 " s", why, seconds);
    else
        log_warning("%s; again in %" PRIu64 " s", why, seconds);
    if (!wanted->failed)
        atomic_fetch_sub(&i->fresh, 1);
    wanted->failed = true;
    wanted->due_ns = clock_mono().ns + wanted->pause_ns;
    wanted->pause_ns = wanted->pause_ns < SELDOM_AGAIN / 2 ? wanted->pause_ns * 2 : SELDOM_AGAIN;
}

/* An answer that says no more than the one before it is not given again. */
static void answer(struct identify *i, struct wanted *wanted, struct identity *owned) {
    AUTO(identity) identity = owned;
    char text[PORTAL_TEXT_BYTES];
    size_t known = 1 + identity_units(identity);
    if (known <= wanted->told)
        return;
    portal_text(&identity->portal, text);
    log_info("portal %s offers %zu targets (%s%s) and %zu logical units", text,
             identity->target_count, identity->target_count > 0 ? identity->targets[0].name : "",
             identity->target_count > 1 ? ", ..." : "", known - 1);
    wanted->told = known;
    if (queue_push(i->answers, identity))
        take_pointer(&identity);
}

static struct query_options options_of(const struct identify *i) {
    return (struct query_options){.initiator = i->initiator,
                                  .chap = i->has_chap ? &i->chap : NULL,
                                  .stop_fd = i->stop_fd,
                                  .step_ns = STEP_NS};
}

static void try(struct identify *i, struct wanted *wanted) {
    struct survey_options options = {.query = options_of(i), .patience_ns = PATIENCE_NS};
    struct error why = {0};
    struct identity *identity = NULL;
    bool whole = false;
    int code = survey_portal(&options, &wanted->portal, &identity, &whole, &why);
    if (code == ERR_STOPPED)
        return;
    if (code == 0)
        answer(i, wanted, identity);
    if (code == 0 && whole)
        forget(i, wanted);
    else
        put_off(i, wanted, why.text);
}

/* What cannot be read is no answer to anything, and said to be unread. */
static void probe(struct identify *i, struct identity_probe *owned) {
    AUTO_FREE struct identity_probe *probe = owned;
    struct query_options options = options_of(i);
    struct error why = {0};
    int code = probe_read(&options, probe, &why);
    if (code < 0)
        log_debug("%s: %s", probe->target, why.text);
    if (code != ERR_STOPPED && queue_try_push(i->probed, probe))
        take_pointer(&probe);
}

static void take_asked(struct identify *i) {
    while (i->wanted_count < PORTALS) {
        AUTO_FREE struct portal *portal = queue_pop(i->asked, 0);
        if (portal == NULL)
            return;
        want(i, portal);
    }
}

/* Until something is asked, or it is time. */
static void sleep_until(const struct identify *i, const struct wanted *next) {
    struct pollfd fds[2] = {{.fd = i->stop_fd, .events = POLLIN},
                            {.fd = i->wake_fd, .events = POLLIN}};
    uint64_t now_ns = clock_mono().ns;
    eventfd_t count;
    int timeout_ms = -1;
    if (next != NULL)
        timeout_ms = next->due_ns > now_ns ? (int)((next->due_ns - now_ns) / NS_PER_MS + 1) : 0;
    if (poll(fds, 2, timeout_ms) > 0 && fds[1].revents != 0)
        eventfd_read(i->wake_fd, &count);
}

static void *identify_thread(void *context) {
    struct identify *i = context;
    while (!queue_is_closed(i->asked)) {
        take_asked(i);
        struct wanted *next = next_due(i);
        struct identity_probe *asked = queue_pop(i->probes, 0);
        if (asked != NULL)
            probe(i, asked);
        else if (next != NULL && next->due_ns <= clock_mono().ns)
            try(i, next);
        else
            sleep_until(i, next);
    }
    return NULL;
}

/* Signals are for the main thread; SIGPIPE is for nobody. */
static int start(struct identify *i, struct error *err) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int errnum = pthread_create(&i->thread, NULL, identify_thread, i);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (errnum != 0)
        return error_errno(err, errnum, "cannot start a thread");
    i->thread_runs = true;
    return 0;
}

/* --- for the others -------------------------------------------------------------------------- */

/* RFC 7143 4.2.7.2 as far as an ASCII name goes: letters, digits, '-', '.', ':'. */
static bool may_be_in_name(char c) {
    return isalnum((unsigned char)c) || c == '-' || c == '.' || c == ':';
}

bool identify_is_initiator_name(const char *name) {
    size_t length = strlen(name);
    bool kind = strncmp(name, "iqn.", 4) == 0 || strncmp(name, "eui.", 4) == 0 ||
                strncmp(name, "naa.", 4) == 0;
    if (!kind || length <= 4 || length >= NAME_BYTES)
        return false;
    for (size_t k = 0; k < length; k++) {
        if (!may_be_in_name(name[k]))
            return false;
    }
    return true;
}

static void name_after_host(char name[NAME_BYTES]) {
    char host[65] = "monitor";
    if (gethostname(host, sizeof host - 1) != 0 || host[0] == '\0')
        strcpy(host, "monitor");
    for (char *c = host; *c != '\0'; c++)
        *c = may_be_in_name(*c) ? (char)tolower((unsigned char)*c) : '-';
    snprintf(name, NAME_BYTES, "iqn.2026-11.io.sanrewind:%s", host);
}

static int set_up(struct identify *i, const struct identify_options *options, struct error *err) {
    if (options->initiator == NULL)
        name_after_host(i->initiator);
    else if (identify_is_initiator_name(options->initiator))
        strcpy(i->initiator, options->initiator);
    else
        return error_set(err, ERR_USAGE, "'%s' is not the name of an iSCSI initiator",
                         options->initiator);
    i->has_chap = options->chap_file != NULL;
    if (i->has_chap) {
        int code = chap_read(options->chap_file, &i->chap, err);
        if (code < 0)
            return code;
    }
    i->asked = queue_create(ASKED);
    i->answers = queue_create(ANSWERS);
    i->probes = queue_create(PROBES);
    i->probed = queue_create(PROBES);
    if (i->asked == NULL || i->answers == NULL || i->probes == NULL || i->probed == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    i->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    i->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return i->stop_fd >= 0 && i->wake_fd >= 0 ? 0
                                              : error_errno(err, errno, "cannot make an eventfd");
}

int identify_create(const struct identify_options *options, struct identify **out,
                    struct error *err) {
    AUTO(identify) i = calloc(1, sizeof *i);
    if (i == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    i->stop_fd = i->wake_fd = -1;
    int code = set_up(i, options, err);
    if (code == 0)
        code = start(i, err);
    if (code == 0)
        *out = take_pointer(&i);
    return code;
}

static void stop(struct identify *i) {
    queue_close(i->asked);
    queue_close(i->answers);
    eventfd_write(i->stop_fd, 1);
    pthread_join(i->thread, NULL);
}

static void destroy_identity(void *identity) {
    identity_destroy(identity);
}

static void release_queue(struct queue *q, void (*release)(void *item)) {
    while (q != NULL && queue_depth(q) > 0)
        release(queue_pop(q, 0));
    queue_destroy(q);
}

static void release_queues(struct identify *i) {
    release_queue(i->asked, free);
    release_queue(i->probes, free);
    release_queue(i->probed, free);
    release_queue(i->answers, destroy_identity);
}

void identify_destroy(struct identify *i) {
    if (i == NULL)
        return;
    if (i->thread_runs)
        stop(i);
    release_queues(i);
    if (i->stop_fd >= 0)
        close(i->stop_fd);
    if (i->wake_fd >= 0)
        close(i->wake_fd);
    chap_forget(&i->chap);
    free(i);
}

bool identify_has_room(const struct identify *i) {
    return queue_depth(i->asked) < ASKED;
}

bool identify_ask(struct identify *i, const struct portal *portal) {
    AUTO_FREE struct portal *copy = malloc(sizeof *copy);
    if (copy == NULL)
        return false;
    *copy = *portal;
    atomic_fetch_add(&i->fresh, 1);
    if (queue_try_push(i->asked, copy)) {
        take_pointer(&copy);
        eventfd_write(i->wake_fd, 1);
        return true;
    }
    atomic_fetch_sub(&i->fresh, 1);
    return false;
}

bool identify_take(struct identify *i, struct identity **identity) {
    *identity = queue_pop(i->answers, 0);
    return *identity != NULL;
}

bool identify_is_settled(const struct identify *i) {
    return atomic_load(&i->fresh) == 0;
}

bool identify_probe(struct identify *i, const struct identity_probe *probe) {
    AUTO_FREE struct identity_probe *copy = malloc(sizeof *copy);
    if (copy == NULL)
        return false;
    *copy = *probe;
    if (!queue_try_push(i->probes, copy))
        return false;
    take_pointer(&copy);
    eventfd_write(i->wake_fd, 1);
    return true;
}

bool identify_take_probe(struct identify *i, struct identity_probe *probe) {
    AUTO_FREE struct identity_probe *answered = queue_pop(i->probed, 0);
    if (answered != NULL)
        *probe = *answered;
    return answered != NULL;
}
