/*
 * changes_hands DIRECTORY CAPTURE SECONDS
 *
 * From a random command on, the FC_ID of the target is that of another port, which had another
 * address, and was written to there, before. The mirror loses any part of the logouts and logins
 * that go with it, and sometimes of what follows. What the monitor says of the volumes of both
 * ports is compared with what it says when nothing is lost: where they differ, they must be in
 * doubt. Sometimes the first port comes back later, which the mirror shows. Only when all of it is
 * lost nothing is compared: docs/ARCHITECTURE.md has that limit. The seed is printed, and taken
 * from SANREWIND_SEED.
 */
#include "common/clock.h"
#include "tests/property/fc.h"
#include "tests/property/mangle.h"
#include "tests/property/model.h"
#include "tests/property/truth.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { INITIATOR = 0x0a, TARGET = 0x0b, ELSEWHERE = 0x0c, NAME_SERVER = 0xfffffc };
enum { DATA = 0x01, READY = 0x05, COMMAND = 0x06, RESPONSE = 0x07, REQUEST = 0x22, REPLY = 0x23 };
enum { ACCEPT = 0x02, PLOGI = 0x03, LOGO = 0x05, PRLI = 0x20 };
enum { ELS = 0x01, FCP = 0x08, UNASSIGNED = 0xffff, OFFSET = 0x000008 };
enum { MOMENTS = 40, MOVES = 16, BURST = 12, VANISHED = 16384, SHOWN = 10, BLOCK = 512 };
#define HOST_WWPN UINT64_C(0x200052540000000a)
#define OLD_WWPN  UINT64_C(0x200052540000000b)
#define NEW_WWPN  UINT64_C(0x2000525400000099)
/* How long nobody has the FC_ID. */
#define AWAY_NS (2 * NS_PER_SECOND)
#define STEP_NS (NS_PER_MS / 2)

static const char new_name[] = "naa.20:00:52:54:00:00:00:99";

enum volume { OLD, NEW, VOLUMES };

struct trial {
    struct truth truth;
    struct packets capture;
    struct packets whole; /* with another port from some command on */
    size_t moves[MOVES];  /* places in `whole`: what passes when it takes the FC_ID */
    size_t move_count;
    size_t taken;          /* behind the last one */
    struct packets mirror; /* what is shown of `whole` */
    bool *survived;
    struct replay reference, replay;
    struct model right[VOLUMES], seen[VOLUMES];
    struct models all_right, all_seen;
    uint64_t vanished[VANISHED];
    uint64_t state; /* of the random numbers */
    uint64_t now_ns;
    uint64_t back_ns; /* when the first port has its FC_ID again */
    uint64_t runs, unprovable, failures;
    uint64_t updates[VOLUMES]; /* of the reference, in all runs */
};

static uint64_t any(struct trial *t, uint64_t count) {
    return mangle_random(&t->state) % count;
}

/* --- a capture of a change of hands --------------------------------------------------------------
 */

static void show(struct trial *t, struct fc_header header, const uint8_t *payload, size_t bytes) {
    t->now_ns += STEP_NS;
    fc_make(&t->whole, &header, payload, bytes, t->now_ns);
}

static void show_service(struct trial *t, uint32_t s_id, uint32_t d_id, uint8_t code,
                         uint64_t wwpn) {
    uint8_t payload[116] = {code};
    size_t bytes = code == LOGO ? 16 : code == PRLI ? 20 : sizeof payload;
    if (bytes == sizeof payload)
        payload[68] = 0x80; /* class 3 */
    if (code == PRLI)
        memcpy(payload + 1, "\20\0\24\10", 4);
    else
        fc_put(payload + (code == LOGO ? 8 : 20), wwpn, 8);
    if (code == LOGO)
        fc_put(payload + 4, s_id, 4);
    show(t,
         (struct fc_header){.r_ctl = code == ACCEPT ? REPLY : REQUEST,
                            .type = ELS,
                            .d_id = d_id,
                            .s_id = s_id,
                            .f_ctl = code == ACCEPT ? 0x990000 : 0x290000,
                            .ox_id = 0x7001,
                            .rx_id = UNASSIGNED},
         payload, bytes);
}

static void move(struct trial *t, uint32_t s_id, uint32_t d_id, uint8_t code, uint64_t wwpn) {
    if (t->move_count == MOVES)
        abort();
    t->moves[t->move_count++] = t->whole.count;
    show_service(t, s_id, d_id, code, wwpn);
}

static void show_write(struct trial *t, uint32_t target, uint32_t lba, uint8_t fill) {
    struct fc_header out = {.type = FCP, .d_id = target, .s_id = INITIATOR, .ox_id = 0x7002};
    struct fc_header in = {.type = FCP, .d_id = INITIATOR, .s_id = target, .ox_id = 0x7002};
    uint8_t command[32] = {[11] = 1, [12] = 0x2a, [20] = 1};
    uint8_t ready[12] = {0};
    uint8_t data[BLOCK];
    static const uint8_t response[24] = {0};
    memset(data, fill, sizeof data);
    fc_put(command, t->truth.volumes[0].lun, 8);
    fc_put(command + 14, lba, 4);
    fc_put(command + 28, BLOCK, 4);
    fc_put(ready + 4, BLOCK, 4);
    out.r_ctl = COMMAND;
    out.f_ctl = 0x290000;
    out.rx_id = UNASSIGNED;
    show(t, out, command, sizeof command);
    in.r_ctl = READY;
    in.f_ctl = 0x890000;
    in.rx_id = out.rx_id = 0x22;
    show(t, in, ready, sizeof ready);
    out.r_ctl = DATA;
    out.f_ctl = OFFSET;
    show(t, out, data, sizeof data);
    in.r_ctl = RESPONSE;
    in.f_ctl = 0x980000;
    show(t, in, response, sizeof response);
}

/* The other port at its address of before. */
static void show_before(struct trial *t) {
    t->now_ns = t->capture.list[0].time_ns - NS_PER_SECOND;
    show_service(t, INITIATOR, ELSEWHERE, PLOGI, HOST_WWPN);
    show_service(t, ELSEWHERE, INITIATOR, ACCEPT, NEW_WWPN);
    for (uint32_t lba = 0; lba < 8; lba++)
        show_write(t, ELSEWHERE, lba * 100, 0xee);
}

/* It leaves, and so does the target, whose FC_ID it takes; not all say so. */
static void show_moves(struct trial *t) {
    t->move_count = 0;
    if (any(t, 3) == 0)
        move(t, TARGET, INITIATOR, LOGO, OLD_WWPN);
    else if (any(t, 2) == 0)
        move(t, INITIATOR, TARGET, LOGO, HOST_WWPN);
    t->now_ns += AWAY_NS / 2;
    if (any(t, 2) == 0)
        move(t, TARGET, NAME_SERVER, PLOGI, NEW_WWPN);
    if (any(t, 2) == 0) /* they were swapped */
        move(t, ELSEWHERE, NAME_SERVER, PLOGI, OLD_WWPN);
    if (any(t, 4) == 0) /* got no answer */
        move(t, INITIATOR, TARGET, PLOGI, HOST_WWPN);
    move(t, INITIATOR, TARGET, PLOGI, HOST_WWPN);
    move(t, TARGET, INITIATOR, ACCEPT, NEW_WWPN);
    move(t, INITIATOR, TARGET, PRLI, 0);
    t->taken = t->whole.count;
}

static bool is_fcp(const struct packet *packet) {
    const uint8_t *header = fc_find(packet);
    return header != NULL && header[8] == FCP;
}

static void show_return(struct trial *t) {
    t->now_ns += AWAY_NS / 2;
    show_service(t, INITIATOR, TARGET, PLOGI, HOST_WWPN);
    show_service(t, TARGET, INITIATOR, ACCEPT, OLD_WWPN);
    show_service(t, INITIATOR, TARGET, PRLI, 0);
}

/* The other port has the FC_ID from the packet `at` to the packet `back`. */
static void make_whole(struct trial *t, size_t at, size_t back) {
    packets_clear(&t->whole);
    show_before(t);
    for (size_t i = 0; i < t->capture.count; i++) {
        struct packet packet = t->capture.list[i];
        if (i == at) {
            t->now_ns = t->capture.list[i - 1].time_ns;
            show_moves(t);
        }
        if (i >= at)
            packet.time_ns += AWAY_NS;
        if (i == back) {
            t->now_ns = t->capture.list[i - 1].time_ns + AWAY_NS;
            show_return(t);
            t->back_ns = t->now_ns;
        }
        if (i >= back)
            packet.time_ns += AWAY_NS;
        if (i < at || is_fcp(&packet)) /* FIP and ELS would still name the old one */
            packets_add(&t->whole, &packet);
    }
}

/* Nothing is in flight there. */
static bool is_quiet(const struct packets *p, size_t at) {
    static bool open[65536];
    size_t count = 0;
    const uint8_t *header = fc_find(&p->list[at]);
    if (at == 0 || header == NULL || header[0] != COMMAND)
        return false;
    memset(open, 0, sizeof open);
    for (size_t i = 0; i < at; i++) {
        header = fc_find(&p->list[i]);
        if (header == NULL || (header[0] != COMMAND && header[0] != RESPONSE))
            continue;
        bool *one = &open[header[16] << 8 | header[17]];
        count -= *one;
        *one = header[0] == COMMAND;
        count += *one;
    }
    return count == 0;
}

/* Is there a place for choose_place() to find? */
static bool has_place(const struct trial *t) {
    size_t at = 0;
    while (at < t->capture.count && is_fcp(&t->capture.list[at]))
        at++;
    while (at < t->capture.count && !is_quiet(&t->capture, at))
        at++;
    return at < t->capture.count;
}

/* Behind the beacon that names the target: before it there is no name to be kept. */
static size_t choose_place(struct trial *t) {
    size_t named = 0;
    while (is_fcp(&t->capture.list[named]))
        named++;
    size_t at = named + (size_t)any(t, t->capture.count - named);
    while (!is_quiet(&t->capture, at))
        at = at + 1 < t->capture.count ? at + 1 : named;
    return at;
}

/* --- what the mirror shows -----------------------------------------------------------------------
 */

/* False: nothing that it shows tells. */
static bool lose(struct trial *t) {
    uint64_t one_in = 1 + any(t, 4); /* of the moves, is shown */
    size_t burst = any(t, 2) == 0 ? (size_t)any(t, BURST) : 0;
    bool told = false;
    for (size_t i = 0; i < t->whole.count; i++)
        t->survived[i] = i < t->taken || i >= t->taken + burst || !is_fcp(&t->whole.list[i]);
    for (size_t i = 0; i < t->move_count; i++) {
        t->survived[t->moves[i]] = any(t, one_in) == 0;
        told = told || t->survived[t->moves[i]];
    }
    packets_clear(&t->mirror);
    for (size_t i = 0; i < t->whole.count; i++) {
        if (t->survived[i])
            packets_add(&t->mirror, &t->whole.list[i]);
    }
    return told;
}

/* --- comparison ----------------------------------------------------------------------------------
 */

static void reset(struct trial *t) {
    size_t count = fc_vanished(&t->whole, t->survived, t->vanished, VANISHED);
    for (size_t v = 0; v < VOLUMES; v++) {
        const uint8_t *base = t->truth.volumes[0].base;
        t->right[v].vanished = t->vanished;
        t->right[v].vanished_count = count;
        model_reset(&t->right[v], base, &t->reference);
        model_reset(&t->seen[v], base, &t->replay);
    }
    models_rewind(&t->all_right);
    models_rewind(&t->all_seen);
}

static void complain(struct trial *t, uint64_t seed, enum volume v, uint64_t time_ns,
                     uint64_t wrong) {
    if (t->failures++ >= SHOWN)
        return;
    printf("FAILED with SANREWIND_SEED=%" PRIu64
           ": the %s volume is silently wrong at byte %" PRIu64
           ", %.3f ms behind the login; lost were",
           seed, v == OLD ? "old" : "new", wrong,
           (double)(int64_t)(time_ns - t->whole.list[t->taken - 1].time_ns) / 1e6);
    for (size_t i = 0; i < t->move_count; i++) {
        const uint8_t *header = fc_find(&t->whole.list[t->moves[i]]);
        printf(" %s%02x", t->survived[t->moves[i]] ? "not " : "", header[24]);
    }
    printf("\n");
}

static void compare(struct trial *t, uint64_t seed) {
    uint64_t start_ns = t->whole.list[t->moves[0]].time_ns;
    uint64_t end_ns = t->whole.list[t->whole.count - 1].time_ns;
    bool wrong[VOLUMES] = {false};
    reset(t);
    for (uint64_t i = 1; i <= MOMENTS; i++) { /* closer together at first */
        uint64_t time_ns = start_ns + (end_ns - start_ns) * i * i / (MOMENTS * MOMENTS);
        models_advance(&t->all_right, &t->reference, time_ns);
        models_advance(&t->all_seen, &t->replay, time_ns);
        for (enum volume v = OLD; v < VOLUMES; v++) {
            uint64_t at = model_first_wrong(&t->seen[v], &t->right[v]);
            if (at != UINT64_MAX && !wrong[v])
                complain(t, seed, v, time_ns, at);
            wrong[v] = wrong[v] || at != UINT64_MAX;
        }
    }
}

/* Behind the change, by path: all are the new one's. */
static void check_reference(struct trial *t) {
    uint64_t taken_ns = t->whole.list[t->taken].time_ns;
    for (size_t i = 0; i < t->reference.count; i++) {
        const struct record *r = &t->reference.records[i].record;
        if (r->type != RECORD_UPDATE || r->update.issued_ns < taken_ns ||
            r->update.issued_ns > t->back_ns)
            continue;
        for (enum volume v = OLD; v < VOLUMES; v++)
            t->updates[v] += r->update.path == t->right[v].path;
    }
}

static void run(struct trial *t) {
    enum { LOSSES = 8 };
    uint64_t seed = t->state;
    size_t at = choose_place(t);
    size_t back = any(t, 2) == 0 ? choose_place(t) : SIZE_MAX;
    t->back_ns = UINT64_MAX;
    make_whole(t, at, back > at ? back : SIZE_MAX);
    t->survived = realloc(t->survived, t->whole.count * sizeof *t->survived);
    if (t->survived == NULL)
        abort();
    replay_run(&t->reference, &t->whole);
    check_reference(t);
    for (int i = 0; i < LOSSES; i++) {
        t->runs++;
        if (!lose(t)) {
            t->unprovable++;
            continue;
        }
        replay_run(&t->replay, &t->mirror);
        compare(t, seed);
    }
}

static int prepare(struct trial *t, const char *directory, const char *capture, struct error *err) {
    int code = truth_load(&t->truth, directory, capture, err);
    if (code == 0)
        code = packets_load(&t->capture, (const char *const *)t->truth.files, t->truth.file_count,
                            err);
    if (code < 0)
        return code;
    if (!has_place(t))
        return error_set(err, ERR_FORMAT, "%s: no command of FCP at which nothing else is open",
                         capture);
    const struct truth_volume *old = &t->truth.volumes[0];
    uint64_t other = record_path_id(PATH_FCP, new_name, strlen(new_name), old->lun);
    for (enum volume v = OLD; v < VOLUMES; v++) {
        model_init(&t->right[v], v == OLD ? old->path : other, old->size);
        model_init(&t->seen[v], v == OLD ? old->path : other, old->size);
    }
    t->all_right = (struct models){.list = t->right, .count = VOLUMES};
    t->all_seen = (struct models){.list = t->seen, .count = VOLUMES};
    return 0;
}

static void release(struct trial *t) {
    for (enum volume v = OLD; v < VOLUMES; v++) {
        model_release(&t->right[v]);
        model_release(&t->seen[v]);
    }
    free(t->survived);
    replay_release(&t->reference);
    replay_release(&t->replay);
    packets_release(&t->mirror);
    packets_release(&t->whole);
    packets_release(&t->capture);
    truth_release(&t->truth);
}

int main(int argc, char **argv) {
    static struct trial t;
    struct error err;
    struct mono start = clock_mono();
    if (argc != 4) {
        fprintf(stderr, "usage: %s DIRECTORY CAPTURE SECONDS\n", argv[0]);
        return 2;
    }
    const char *text = getenv("SANREWIND_SEED");
    t.state = text != NULL ? strtoull(text, NULL, 0) : clock_wall_ns() / NS_PER_MS;
    printf("SANREWIND_SEED=%" PRIu64 "\n", t.state);
    if (prepare(&t, argv[1], argv[2], &err) < 0) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    do
        run(&t);
    while (clock_since_ns(start) < strtoull(argv[3], NULL, 10) * NS_PER_SECOND &&
           t.failures < SHOWN);
    printf("%s: %" PRIu64 " runs, of which %" PRIu64 " showed nothing; behind the change %" PRIu64
           " updates of the new volume and %" PRIu64 " of the old one; %" PRIu64 " failures\n",
           argv[2], t.runs, t.unprovable, t.updates[NEW], t.updates[OLD], t.failures);
    bool good =
        t.failures == 0 && t.runs > t.unprovable && t.updates[NEW] > 0 && t.updates[OLD] == 0;
    release(&t);
    return good ? 0 : 1;
}
