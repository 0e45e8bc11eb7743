/*
 * never_silently_wrong DIRECTORY CAPTURE sample SECONDS | exhaustive
 *
 * Replays a capture as it was, compares every mark with the truth, then replays it mangled: at any
 * time, a block that is not what it should be must lie in a gap. Mangling that loses nothing must
 * leave nothing in doubt. The seed is printed, and taken from SANREWIND_SEED; one case is run again
 * with SANREWIND_CASE=KIND,AT,COUNT,SEED.
 */
#include "common/clock.h"
#include "tests/property/mangle.h"
#include "tests/property/model.h"
#include "tests/property/truth.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    BLACKOUTS = 4096,
    BEHEADINGS = 500,
    VANISHED = 16384,
    RANDOM_TIMES = 60,
    MAX_TIMES = RANDOM_TIMES + TRUTH_MARKS * TRUTH_VOLUMES,
    SHOWN = 10
};
enum { ISCSI_PORT = 3260, FCIP_PORT = 3225, FC_TARGET = 0x000b };

struct moment {
    uint64_t time_ns;
    bool mark;
};

struct trial {
    struct truth truth;
    struct packets packets;
    struct packets mangled;
    struct replay reference;
    bool copies; /* mangle_finds_copies() */
    struct replay replay;
    struct model right[TRUTH_VOLUMES];
    struct model seen[TRUTH_VOLUMES];
    struct models all_right;
    struct models all_seen;
    struct moment moments[MAX_TIMES];
    size_t moment_count;
    struct blackout blackouts[BLACKOUTS];
    size_t blackout_count;
    uint64_t vanished[VANISHED]; /* times of commands of which nothing is left */
    size_t vanished_count;
    bool fc;
    bool fcip; /* the same in a tunnel */
    uint16_t server_port;
    bool digests; /* nothing but they show a flipped bit */
    uint64_t seed;
    uint64_t runs;
    uint64_t doubtful;    /* of them, with something in doubt at the end */
    uint64_t provisional; /* volumes that were followed without a login */
    uint64_t audited;     /* blocks of READs */
    uint64_t failures;
};

static int compare_moments(const void *left, const void *right) {
    const struct moment *a = left;
    const struct moment *b = right;
    return a->time_ns < b->time_ns ? -1 : a->time_ns > b->time_ns;
}

/* The marks, and times right at updates, one before and a little later. */
static void choose_moments(struct trial *t) {
    uint64_t state = t->seed;
    const struct truth *truth = &t->truth;
    t->moment_count = 0;
    for (size_t v = 0; v < truth->volume_count; v++) {
        for (size_t i = 0; i < truth->volumes[v].mark_count; i++)
            t->moments[t->moment_count++] =
                (struct moment){truth->volumes[v].marks[i].time_ns, true};
    }
    for (size_t i = 0; i < RANDOM_TIMES && t->reference.count > 0; i++) {
        size_t at = (size_t)(mangle_random(&state) % t->reference.count);
        uint64_t time_ns = record_time_ns(&t->reference.records[at].record);
        uint64_t more =
            i % 3 == 0 ? 0 : mangle_random(&state) % (i % 3 == 1 ? NS_PER_SECOND : NS_PER_MS);
        t->moments[t->moment_count++] = (struct moment){time_ns + more, false};
    }
    qsort(t->moments, t->moment_count, sizeof t->moments[0], compare_moments);
}

static bool check_mark(struct trial *t, size_t v, const struct truth_mark *mark) {
    struct model *m = &t->right[v];
    char hex[SHA256_HEX_BYTES];
    models_advance(&t->all_right, &t->reference, mark->time_ns);
    AUTO(sha256) sum = sha256_create();
    sha256_update(sum, m->image, m->size);
    sha256_finish_hex(sum, hex);
    if (strcmp(hex, mark->sha256) == 0 || m->gaps.count > 0)
        return true;
    printf("%s at %s: differs, and nothing is in doubt\n", t->truth.volumes[v].name, mark->label);
    return false;
}

static void reset_right(struct trial *t) {
    for (size_t v = 0; v < t->truth.volume_count; v++) {
        t->right[v].vanished = t->vanished;
        t->right[v].vanished_count = t->vanished_count;
        model_reset(&t->right[v], t->truth.volumes[v].base, &t->reference);
    }
    models_rewind(&t->all_right);
}

static bool check_truth(struct trial *t) {
    bool good = true;
    size_t agreed = 0;
    for (size_t v = 0; v < t->truth.volume_count; v++) {
        const struct truth_volume *volume = &t->truth.volumes[v];
        reset_right(t);
        for (size_t i = 0; i < volume->mark_count; i++) {
            good = check_mark(t, v, &volume->marks[i]) && good;
            agreed += t->right[v].gaps.count == 0;
        }
    }
    reset_right(t);
    t->all_right.audited = t->all_right.refuted = 0;
    models_advance(&t->all_right, &t->reference, UINT64_MAX);
    printf("%zu marks agree with the truth, exactly; of %" PRIu64 " blocks read, %" PRIu64
           " contradict\n",
           agreed, t->all_right.audited, t->all_right.refuted);
    return good && agreed > 0 && t->reference.late == 0 && t->all_right.refuted == 0;
}

/*
 * Reordering between connections can make writes overlap that did not. And what was sent again in
 * the capture is in doubt when it is no longer clear which copy came first.
 */
static bool is_harmless(const struct trial *t, const struct mangle *m) {
    bool one_path = t->truth.file_count == 1;
    bool copies = t->copies && t->replay.sent_again;
    switch (m->kind) {
    case MANGLE_REORDER:
    case MANGLE_SKEW:
        return one_path && !copies;
    case MANGLE_LATE:
        return !t->reference.sent_again;
    case MANGLE_RESTART:
        return m->count == 0 && !t->fc && !t->fcip; /* FC proves nothing over a restart */
    case MANGLE_DUPLICATE:
        /* Where a write, and its response, look like those of one before, they are believed when
         * they come again: the next write to the same blocks may have begun by then. */
        return !t->fc;
    case MANGLE_SHIFT:
    case MANGLE_SPLIT:
        return true;
    case MANGLE_MERGE:
        return !t->fcip; /* whose frames lose the times by which they are told apart */
    case MANGLE_AGAIN:
        return !copies;
    default:
        return false;
    }
}

static void complain(struct trial *t, const struct mangle *m, size_t v, uint64_t time_ns,
                     const char *what, uint64_t number) {
    char text[128];
    mangle_describe(m, text, sizeof text);
    if (t->failures++ < SHOWN)
        printf("FAILED %s: volume %s at %" PRIu64 ": %s %" PRIu64
               " (SANREWIND_CASE=%d,%zu,%zu,%" PRIu64 ")\n",
               text, t->truth.volumes[v].name, time_ns, what, number, (int)m->kind, m->at, m->count,
               m->seed);
}

/* For SANREWIND_CASE: what was said of a byte within 3 seconds of a time. */
static void explain(const struct replay *r, const char *name, uint64_t path, uint64_t byte,
                    uint64_t time_ns) {
    if (getenv("SANREWIND_CASE") == NULL)
        return;
    for (size_t i = 0; i < r->count; i++) {
        const struct record *record = &r->records[i].record;
        if (record->type == RECORD_PATH)
            printf("  %s: path %016" PRIx64 " \"%.*s\" at %+.6f ms\n", name, record->path.path,
                   record->path.target_bytes, record->path.target,
                   (double)(int64_t)(record->path.time_ns - time_ns) / 1e6);
        const struct update_record *u = &record->update;
        const struct gap_record *g = &record->gap;
        bool is_update = record->type == RECORD_UPDATE && u->path == path &&
                         byte - u->offset_bytes < u->length_bytes;
        bool is_gap = record->type == RECORD_GAP && g->path == path &&
                      byte - g->offset_bytes < g->length_bytes;
        int64_t apart_ns = (int64_t)(record_time_ns(record) - time_ns);
        if ((is_update || is_gap) && llabs(apart_ns) < (int64_t)(3 * NS_PER_SECOND))
            printf("  %s: %+.6f ms order %" PRIu64 " %s, issued %+.6f ms %.*s\n", name,
                   (double)apart_ns / 1e6, record->order, is_gap ? "gap" : "update",
                   (double)(int64_t)((is_gap ? g->issued_ns : u->issued_ns) - time_ns) / 1e6,
                   is_gap ? g->text_bytes : 0, is_gap ? g->text : "");
    }
}

static bool is_dark(const struct trial *t, uint64_t time_ns) {
    for (size_t i = 0; i < t->blackout_count; i++) {
        if (time_ns > t->blackouts[i].start_ns && time_ns < t->blackouts[i].end_ns)
            return true;
    }
    return false;
}

/*
 * A session without a name that goes on under one after a restart is another path to recoveryd: the
 * volume's history begins with that, and before it nothing is promised
 * (tests/integration/restart_fcoe).
 */
static bool is_before_history(const struct trial *t, const struct mangle *m, uint64_t path,
                              uint64_t time_ns) {
    for (size_t i = 0; m->kind == MANGLE_RESTART && i < t->replay.count; i++) {
        const struct record *record = &t->replay.records[i].record;
        if (record->type == RECORD_PATH && record->path.path == path)
            return time_ns < record->path.time_ns;
    }
    return false;
}

static bool check_volume(struct trial *t, const struct mangle *m, size_t v, struct moment at) {
    struct model *seen = &t->seen[v];
    struct model *right = &t->right[v];
    if (!seen->announced || is_before_history(t, m, seen->path, at.time_ns) ||
        at.time_ns < t->mangled.list[0].time_ns || (!at.mark && !mangle_keeps_times(m)) ||
        is_dark(t, at.time_ns))
        return true;
    uint64_t wrong = model_first_wrong(seen, right);
    if (wrong != UINT64_MAX) {
        complain(t, m, v, at.time_ns, "silently wrong at byte", wrong);
        explain(&t->reference, "as it was", right->path, wrong, at.time_ns);
        explain(&t->replay, "mangled", seen->path, wrong, at.time_ns);
        return false;
    }
    if (at.mark && is_harmless(t, m) &&
        rangeset_total(&seen->gaps) > rangeset_total(&right->gaps)) {
        complain(t, m, v, at.time_ns,
                 "nothing was lost, yet in doubt are bytes:", rangeset_total(&seen->gaps));
        return false;
    }
    return true;
}

static void begin(struct trial *t, const struct mangle *m) {
    reset_right(t);
    if (m->kind == MANGLE_BEHEAD) /* a baseline of when the watching began */
        models_advance(&t->all_right, &t->reference, t->mangled.list[0].time_ns);
    for (size_t v = 0; v < t->truth.volume_count; v++)
        model_reset(&t->seen[v], t->right[v].image, &t->replay);
    models_rewind(&t->all_seen);
    t->all_seen.audited = t->all_seen.refuted = 0;
}

/* Do READs tell the truth at the time of their status? */
static bool is_witness(const struct mangle *m) {
    return mangle_keeps_times(m);
}

/* Volumes [first, end) at every moment. True: something of them is in doubt at the end. */
static bool check_volumes(struct trial *t, const struct mangle *m, size_t first, size_t end) {
    bool wrong[TRUTH_VOLUMES] = {0};
    bool doubt = false;
    begin(t, m);
    for (size_t i = 0; i < t->moment_count; i++) {
        models_advance(&t->all_right, &t->reference, t->moments[i].time_ns);
        models_advance(&t->all_seen, &t->replay, t->moments[i].time_ns);
        for (size_t v = first; v < end; v++)
            wrong[v] = wrong[v] || !check_volume(t, m, v, t->moments[i]);
    }
    for (size_t v = first; v < end; v++)
        doubt = doubt || t->seen[v].gaps.count > 0;
    /* A READ knows of a command that vanished: that is what it is compared for. */
    if (t->all_seen.refuted > 0 && t->vanished_count == 0 && is_witness(m))
        complain(t, m, first, t->all_seen.refuted_ns,
                 "contradicted by READs are blocks:", t->all_seen.refuted);
    t->audited += t->all_seen.audited;
    return doubt;
}

/* A session whose login was lost: its unit is the volume of that LUN, and must be right by itself.
 */
static bool check_provisional(struct trial *t, const struct mangle *m,
                              const struct path_record *path) {
    for (size_t v = 0; v < t->truth.volume_count; v++) {
        if (t->truth.volumes[v].lun != path->lun)
            continue;
        t->provisional++;
        t->seen[v].path = path->path;
        bool doubt = check_volumes(t, m, v, v + 1);
        t->seen[v].path = t->truth.volumes[v].path;
        return doubt;
    }
    return false;
}

static bool is_first(const struct replay *r, size_t at) {
    for (size_t i = 0; i < at; i++) {
        if (r->records[i].record.type == RECORD_PATH &&
            r->records[i].record.path.path == r->records[at].record.path.path)
            return false;
    }
    return true;
}

/* Then it is a part of the volume, and not one by itself. */
static bool is_identified(const struct replay *r, uint64_t path) {
    for (size_t i = 0; i < r->count; i++) {
        const struct record *record = &r->records[i].record;
        if (record->type == RECORD_PATH && record->path.path == path && record->path.same_as != 0)
            return true;
    }
    return false;
}

static void run(struct trial *t, const struct mangle *m) {
    mangle_apply(m, &t->packets, &t->mangled);
    if (t->mangled.count == 0)
        return;
    if (m->kind == MANGLE_RESTART && m->at > 0)
        replay_run_restarted(&t->replay, &t->mangled, m->at, m->count);
    else
        replay_run(&t->replay, &t->mangled);
    t->blackout_count = mangle_blackouts(m, &t->packets, t->blackouts, BLACKOUTS);
    t->vanished_count = mangle_vanished(m, &t->packets, t->vanished, VANISHED);
    t->runs++;
    if (t->replay.late > 0)
        complain(t, m, 0, t->replay.promised_ns, "records behind a promise:", t->replay.late);
    bool doubt = check_volumes(t, m, 0, t->truth.volume_count);
    for (size_t i = 0; i < t->replay.count; i++) {
        const struct path_record *path = &t->replay.records[i].record.path;
        if (t->replay.records[i].record.type == RECORD_PATH &&
            (path->flags & PATH_PROVISIONAL) != 0 && is_first(&t->replay, i) &&
            !is_identified(&t->replay, path->path))
            doubt = check_provisional(t, m, path) || doubt;
    }
    t->doubtful += doubt;
}

static size_t random_count(enum mangle_kind kind, uint64_t number) {
    static const uint16_t snaps[] = {60, 96, 200, 600, 1400};
    switch (kind) {
    case MANGLE_SNAP: /* the usual ones, or any */
        return number % 2 != 0 ? snaps[number / 2 % 5] : 14 + number / 2 % 9000;
    case MANGLE_THIN:
        return (size_t)50 << (number % 8);
    case MANGLE_RESTART:
        return number % 3 == 0 ? 0 : number / 3 % 200;
    case MANGLE_MERGE:
        return 2000 + number % 63000;
    case MANGLE_AGAIN:
    case MANGLE_SKEW:
        return 1 + number % 200;
    default:
        return number % 2;
    }
}

/* What FC shares with TCP; and its frames come up to WINDOW_NS late, and twice within REPEAT_NS. */
static void adapt_to_fc(struct mangle *m) {
    switch (m->kind) {
    case MANGLE_SHIFT:
    case MANGLE_SPLIT:
    case MANGLE_MERGE:
    case MANGLE_AGAIN:
    case MANGLE_LATE:
        m->kind = MANGLE_DUPLICATE;
        break;
    case MANGLE_SKEW:
        m->count = 1 + m->count % 35;
        break;
    default:
        break;
    }
}

static struct mangle random_mangle(struct trial *t, uint64_t *state) {
    struct mangle m = {.server_port = t->server_port, .seed = mangle_random(state) >> 32};
    uint64_t dice = mangle_random(state) % 100;
    m.at = (size_t)(mangle_random(state) % t->packets.count);
    uint64_t number = mangle_random(state);
    m.count = 1;
    m.kind = MANGLE_REMOVE;
    if (dice >= 45 && dice < 60) {
        m.count = 2 + number % 40;
    } else if (dice >= 60) {
        static const enum mangle_kind kinds[] = {
            MANGLE_THIN,  MANGLE_DUPLICATE, MANGLE_REORDER, MANGLE_SNAP,    MANGLE_BEHEAD,
            MANGLE_MERGE, MANGLE_ONE_WAY,   MANGLE_SHIFT,   MANGLE_SPLIT,   MANGLE_AGAIN,
            MANGLE_LATE,  MANGLE_SKEW,      MANGLE_FLIP,    MANGLE_RESTART,
        };
        m.kind = kinds[dice % (sizeof kinds / sizeof kinds[0])];
        if (m.kind == MANGLE_FLIP && !t->digests)
            m.kind = MANGLE_BEHEAD;
        m.count = random_count(m.kind, number);
        if (t->fc)
            adapt_to_fc(&m);
    }
    return m;
}

static void sample(struct trial *t, uint64_t seconds) {
    uint64_t state = t->seed;
    struct mono start = clock_mono();
    while (clock_since_ns(start) < seconds * NS_PER_SECOND && t->failures < SHOWN) {
        struct mangle m = random_mangle(t, &state);
        run(t, &m);
    }
}

/* Each packet removed; the beginning cut, and with digests a bit flipped, at a sample of them. */
static void exhaustive(struct trial *t) {
    struct mangle m = {.count = 1, .server_port = t->server_port, .seed = t->seed};
    size_t stride = t->packets.count / BEHEADINGS + 1;
    for (m.at = 0; m.at < t->packets.count && t->failures < SHOWN; m.at++) {
        m.kind = MANGLE_REMOVE;
        run(t, &m);
        if (m.at % stride != 0)
            continue;
        m.kind = MANGLE_BEHEAD;
        run(t, &m);
        m.kind = MANGLE_FLIP;
        if (t->digests)
            run(t, &m);
    }
}

static bool one_case(struct trial *t) {
    const char *text = getenv("SANREWIND_CASE");
    struct mangle m = {.server_port = t->server_port};
    unsigned kind = 0;
    if (text == NULL)
        return false;
    if (sscanf(text, "%u,%zu,%zu,%" SCNu64, &kind, &m.at, &m.count, &m.seed) != 4 ||
        kind >= MANGLE_KINDS || m.at >= t->packets.count)
        abort();
    m.kind = (enum mangle_kind)kind;
    run(t, &m);
    return true;
}

static void release(struct trial *t) {
    for (size_t v = 0; v < t->truth.volume_count; v++) {
        model_release(&t->right[v]);
        model_release(&t->seen[v]);
    }
    replay_release(&t->reference);
    replay_release(&t->replay);
    packets_release(&t->mangled);
    packets_release(&t->packets);
    truth_release(&t->truth);
}

static uint64_t choose_seed(void) {
    const char *text = getenv("SANREWIND_SEED");
    return text != NULL ? strtoull(text, NULL, 0) : clock_wall_ns() / NS_PER_MS;
}

static int prepare(struct trial *t, const char *directory, const char *capture, struct error *err) {
    int code = truth_load(&t->truth, directory, capture, err);
    if (code == 0)
        code = packets_load(&t->packets, (const char *const *)t->truth.files, t->truth.file_count,
                            err);
    if (code < 0)
        return code;
    for (size_t v = 0; v < t->truth.volume_count; v++) {
        model_init(&t->right[v], t->truth.volumes[v].path, t->truth.volumes[v].size);
        model_init(&t->seen[v], t->truth.volumes[v].path, t->truth.volumes[v].size);
    }
    t->fc = strcmp(capture, "fcoe") == 0;
    t->fcip = strcmp(capture, "fcip") == 0;
    t->server_port = t->fc ? FC_TARGET : t->fcip ? FCIP_PORT : ISCSI_PORT;
    t->all_right = (struct models){.list = t->right, .count = t->truth.volume_count};
    t->all_seen = (struct models){.list = t->seen, .count = t->truth.volume_count};
    replay_run(&t->reference, &t->packets);
    t->copies = mangle_finds_copies(&t->packets);
    if (t->copies)
        printf("some of it was sent again\n");
    return 0;
}

int main(int argc, char **argv) {
    static struct trial t;
    struct error err;
    if (argc < 4) {
        fprintf(stderr, "usage: %s DIRECTORY CAPTURE sample SECONDS | exhaustive\n", argv[0]);
        return 2;
    }
    t.seed = choose_seed();
    printf("SANREWIND_SEED=%" PRIu64 "\n", t.seed);
    if (prepare(&t, argv[1], argv[2], &err) < 0) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    t.digests = t.fc || t.fcip || strstr(argv[2], "digest") != NULL;
    choose_moments(&t);
    if (!check_truth(&t))
        t.failures++;
    else if (!one_case(&t) && strcmp(argv[3], "exhaustive") == 0)
        exhaustive(&t);
    else if (t.runs == 0)
        sample(&t, argc > 4 ? strtoull(argv[4], NULL, 10) : 10);
    printf("%s: %" PRIu64 " runs, %" PRIu64 " with doubts at the end, %" PRIu64
           " volumes followed without a login, %" PRIu64 " blocks compared with READs, %" PRIu64
           " failures\n",
           argv[2], t.runs, t.doubtful, t.provisional, t.audited, t.failures);
    bool good = t.failures == 0 && t.runs > 0;
    release(&t);
    return good ? 0 : 1;
}
