#include "tap/decap/losses.h"

#include "common/clock.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

enum { SESSIONS = 256, WINDOW = 64, RESTARTS_BELIEVED = 8 };
#define WINDOW_NS (100 * NS_PER_MS)
#define ALL_SEEN  UINT64_MAX

struct session {
    struct loss_key key;
    UT_hash_handle hh; /* the one that was silent longest comes first */
    uint32_t newest;
    uint64_t seen;      /* bit i: newest - i has come */
    uint64_t newest_ns; /* packet time of the newest */
    uint64_t right_ns;  /* while numbers are missing: when none was */
    uint64_t due_ns;    /* while numbers are missing: they are lost then */
    unsigned restarts;
    bool ignored;
};

struct losses {
    losses_report *report;
    void *context;
    struct losses_counters counters;
    struct session *sessions;
    uint64_t due_ns; /* not later than the least of the sessions' */
};

struct losses *losses_create(losses_report *report, void *context) {
    struct losses *l = calloc(1, sizeof *l);
    if (l == NULL)
        return NULL;
    l->report = report;
    l->context = context;
    l->due_ns = UINT64_MAX;
    return l;
}

static void forget(struct losses *l, struct session *s) {
    HASH_DEL(l->sessions, s);
    free(s);
}

void losses_destroy(struct losses *l) {
    if (l == NULL)
        return;
    while (l->sessions != NULL)
        forget(l, l->sessions);
    free(l);
}

const uint64_t *losses_due(const struct losses *l) {
    return &l->due_ns;
}

const struct losses_counters *losses_counters(const struct losses *l) {
    return &l->counters;
}

static const char *name_of(const struct session *s, char *text, size_t size) {
    char address[INET6_ADDRSTRLEN] = "";
    const uint8_t *mac = s->key.source;
    if (s->key.family != 0)
        inet_ntop(s->key.family == 4 ? AF_INET : AF_INET6, s->key.source, address, sizeof address);
    else
        snprintf(address, sizeof address, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2],
                 mac[3], mac[4], mac[5]);
    if (s->key.kind == LOSS_PAA)
        snprintf(text, size, "the port analyser adapter at %s", address);
    else
        snprintf(text, size, "ERSPAN session %u of %s", s->key.session, address);
    return text;
}

static void report_lost(struct losses *l, struct session *s, uint64_t count, uint64_t right_ns) {
    char name[96];
    char text[192];
    l->counters.lost += count;
    snprintf(text, sizeof text, "%" PRIu64 " frames of %s were lost between the mirror and here",
             count, name_of(s, name, sizeof name));
    l->report(l->context, text, right_ns);
}

/* Its missing numbers are lost. */
static void give_up(struct losses *l, struct session *s) {
    if (s->seen != ALL_SEEN)
        report_lost(l, s, (uint64_t)__builtin_popcountll(~s->seen), s->right_ns);
    s->seen = ALL_SEEN;
    s->due_ns = UINT64_MAX;
}

static void restart(struct losses *l, struct session *s, uint32_t number, uint64_t time_ns) {
    char name[96];
    char text[256];
    uint64_t right_ns = s->seen != ALL_SEEN ? s->right_ns : s->newest_ns;
    l->counters.restarts++;
    s->ignored = ++s->restarts > RESTARTS_BELIEVED;
    l->counters.unreliable += s->ignored;
    snprintf(text, sizeof text, "the numbers of %s %s", name_of(s, name, sizeof name),
             s->ignored ? "are not those of one counter: its losses cannot be seen"
                        : "began again: what was lost before cannot be told");
    s->newest = number;
    s->newest_ns = time_ns;
    s->seen = ALL_SEEN;
    s->due_ns = UINT64_MAX;
    l->report(l->context, text, right_ns);
}

static void note_missing(struct losses *l, struct session *s, uint64_t time_ns) {
    if (s->due_ns != UINT64_MAX)
        return;
    s->right_ns = s->newest_ns;
    s->due_ns = time_ns + WINDOW_NS;
    if (s->due_ns < l->due_ns)
        l->due_ns = s->due_ns;
}

/* Of a run of missing numbers, whose first is too old to be waited for, the others are lost with
 * it: one hole is one loss. */
static void leave_window(struct losses *l, struct session *s, uint32_t step) {
    uint64_t leaving = ~s->seen >> (WINDOW - step);
    s->seen = s->seen << step | 1;
    if (leaving == 0)
        return;
    uint64_t count = (uint64_t)__builtin_popcountll(leaving);
    if ((leaving & 1) != 0) {
        int run = __builtin_clzll(s->seen); /* the newest has come: it is not all of them */
        count += (uint64_t)run;
        s->seen |= run > 0 ? ALL_SEEN << (WINDOW - run) : 0;
    }
    report_lost(l, s, count, s->right_ns);
}

static void advance(struct losses *l, struct session *s, uint32_t number, uint32_t step,
                    uint64_t time_ns) {
    if (step > 1)
        note_missing(l, s, time_ns);
    if (step >= WINDOW) {
        uint64_t missing = (uint64_t)__builtin_popcountll(~s->seen);
        report_lost(l, s, missing + step - 1, s->right_ns);
        s->seen = ALL_SEEN;
    } else {
        leave_window(l, s, step);
    }
    s->newest = number;
    if (time_ns > s->newest_ns)
        s->newest_ns = time_ns;
}

static struct session *add(struct losses *l, const struct loss_key *key, uint32_t number,
                           uint64_t time_ns) {
    if (HASH_COUNT(l->sessions) >= SESSIONS) {
        give_up(l, l->sessions);
        forget(l, l->sessions);
    }
    struct session *s = calloc(1, sizeof *s);
    if (s == NULL)
        return NULL;
    *s = (struct session){.key = *key,
                          .newest = number,
                          .seen = ALL_SEEN,
                          .newest_ns = time_ns,
                          .due_ns = UINT64_MAX};
    HASH_ADD(hh, l->sessions, key, sizeof s->key, s);
    if (s->hh.tbl == NULL) {
        free(s);
        return NULL;
    }
    return s;
}

static struct session *find(struct losses *l, const struct loss_key *key) {
    struct session *s = NULL;
    HASH_FIND(hh, l->sessions, key, sizeof *key, s);
    if (s == NULL || s->hh.next == NULL)
        return s;
    HASH_DEL(l->sessions, s); /* to the end: it was active */
    HASH_ADD(hh, l->sessions, key, sizeof s->key, s);
    if (s->hh.tbl != NULL)
        return s;
    free(s);
    return NULL;
}

/* How far `number` lies ahead, negative when behind, by serial arithmetic (RFC 1982). */
static int64_t distance(uint32_t number, uint32_t newest, unsigned bits) {
    uint32_t shift = 32 - bits;
    return (int32_t)((number - newest) << shift) / (int64_t)(UINT64_C(1) << shift);
}

void losses_number(struct losses *l, const struct loss_key *key, uint32_t number, unsigned bits,
                   uint64_t time_ns) {
    l->counters.numbered++;
    struct session *s = find(l, key);
    if (s == NULL) {
        add(l, key, number, time_ns);
        return;
    }
    if (s->ignored)
        return;
    if (time_ns >= s->due_ns)
        give_up(l, s);
    int64_t ahead = distance(number, s->newest, bits);
    if (ahead > 0)
        advance(l, s, number, (uint32_t)ahead, time_ns);
    else if (ahead > -WINDOW)
        s->seen |= UINT64_C(1) << -ahead;
    else
        restart(l, s, number, time_ns);
    if (s->seen == ALL_SEEN)
        s->due_ns = UINT64_MAX;
}

void losses_tick(struct losses *l, uint64_t now_ns) {
    struct session *s;
    struct session *next;
    uint64_t due_ns = UINT64_MAX;
    HASH_ITER(hh, l->sessions, s, next) {
        if (s->due_ns <= now_ns && s->due_ns != UINT64_MAX)
            give_up(l, s);
        if (s->due_ns < due_ns)
            due_ns = s->due_ns;
    }
    l->due_ns = due_ns;
}
