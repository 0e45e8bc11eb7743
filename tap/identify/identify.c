#include "tap/identify/identify.h"

#include "common/clock.h"
#include "common/log.h"
#include "common/queue.h"
#include "tap/identify/portal.h"
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
enum { ASKED = 64, ANSWERS = 4, PORTALS = 256, NAME_BYTES = 224 };
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
    pthread_t thread;
    bool thread_runs;
    struct queue *asked;   /* struct portal, to the thread */
    struct queue *answers; /* struct identity, from it */
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
    if (find(i, portal) != NULL) {
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

static size_t count_units(const struct identity *identity) {
    size_t units = 0;
    for (size_t k = 0; k < identity->target_count; k++)
        units += identity->targets[k].unit_count;
    return units;
}

/* An answer that says no more than the one before it is not given again. */
static void answer(struct identify *i, struct wanted *wanted, struct identity *owned) {
    AUTO(identity) identity = owned;
    char text[PORTAL_TEXT_BYTES];
    size_t known = 1 + count_units(identity);
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

static void try(struct identify *i, struct wanted *wanted) {
    struct survey_options options = {.query = {.initiator = i->initiator,
                                               .chap = i->has_chap ? &i->chap : NULL,
                                               .stop_fd = i->stop_fd,
                                               .step_ns = STEP_NS},
                                     .patience_ns = PATIENCE_NS};
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

/* Takes in what was asked meanwhile, and waits until the next portal is due. */
static void take_asked(struct identify *i, uint64_t wait_ns) {
    struct pollfd stop = {.fd = i->stop_fd, .events = POLLIN};
    if (i->wanted_count == PORTALS) {
        poll(&stop, 1, (int)(wait_ns / NS_PER_MS));
        return;
    }
    AUTO_FREE struct portal *portal = queue_pop(i->asked, wait_ns);
    if (portal != NULL)
        want(i, portal);
}

static void *identify_thread(void *context) {
    struct identify *i = context;
    while (!queue_is_closed(i->asked)) {
        struct wanted *next = next_due(i);
        uint64_t now_ns = clock_mono().ns;
        if (next == NULL)
            take_asked(i, UINT64_MAX);
        else if (next->due_ns > now_ns)
            take_asked(i, next->due_ns - now_ns);
        else
            try(i, next);
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
    if (i->asked == NULL || i->answers == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    i->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return i->stop_fd >= 0 ? 0 : error_errno(err, errno, "cannot make an eventfd");
}

int identify_create(const struct identify_options *options, struct identify **out,
                    struct error *err) {
    AUTO(identify) i = calloc(1, sizeof *i);
    if (i == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    i->stop_fd = -1;
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

static void release_queues(struct identify *i) {
    while (i->asked != NULL && queue_depth(i->asked) > 0)
        free(queue_pop(i->asked, 0));
    while (i->answers != NULL && queue_depth(i->answers) > 0)
        identity_destroy(queue_pop(i->answers, 0));
    queue_destroy(i->asked);
    queue_destroy(i->answers);
}

void identify_destroy(struct identify *i) {
    if (i == NULL)
        return;
    if (i->thread_runs)
        stop(i);
    release_queues(i);
    if (i->stop_fd >= 0)
        close(i->stop_fd);
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
