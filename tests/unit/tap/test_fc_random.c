#include "fc_world.h"

#include "common/clock.h"
#include "tap/fc/els.h"
#include "tap/fc/fcp.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdlib.h>

/*
 * Few identifiers and everything that can happen to them, in any order: whatever it means, nothing
 * is used after its end (a sanitizer sees that), and no update comes behind a promise.
 */

enum { ROUNDS = 200, FRAMES = 400 };
#define SETTLE_NS (NS_PER_SECOND / 2)

struct random_world {
    struct sink sink; /* first */
    uint64_t promised_ns;
    uint64_t records;
    uint64_t seed;
    uint64_t state;
    int frame;
};

static void take_update(struct sink *s, const struct sink_update *u) {
    struct random_world *r = (struct random_world *)s;
    r->records++;
    cr_assert_gt(u->time_ns, r->promised_ns, "seed %" PRIu64 ", frame %d", r->seed, r->frame);
}

static void take_gap(struct sink *s, const struct sink_gap *g) {
    struct random_world *r = (struct random_world *)s;
    r->records++;
    cr_assert_neq(g->reason, 0);
}

static void take_path(struct sink *s, const struct sink_path *path, uint64_t time_ns) {
    (void)s;
    (void)path;
    (void)time_ns;
}

static unsigned any(struct random_world *r, unsigned count) {
    r->state = r->state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (unsigned)(r->state >> 33) % count;
}

static void show_link_service(struct fc_world *w, uint8_t r_ctl, uint8_t type, uint16_t ox_id,
                              uint8_t code, bool from_target) {
    uint8_t payload[32] = {code};
    fc_show(w,
            (struct frame){.r_ctl = r_ctl,
                           .type = type,
                           .f_ctl = from_target ? 0x980000 : 0x290000,
                           .ox_id = ox_id,
                           .rx_id = FC_ID_UNASSIGNED},
            payload, sizeof payload);
}

static void show_anything(struct random_world *r, struct fc_world *w) {
    static const uint8_t managements[] = {FCP_TARGET_RESET, FCP_UNIT_RESET, FCP_CLEAR_TASK_SET,
                                          FCP_ABORT_TASK_SET};
    uint16_t ox_id = (uint16_t)(1 + any(r, 2));
    uint32_t offset = any(r, 3) * 512;
    switch (any(r, 40)) {
    case 0:
        fc_management(w, ox_id, managements[any(r, 4)]);
        break;
    case 1:
        show_link_service(w, R_CTL_ABTS, TYPE_BLS, ox_id, 0, false);
        break;
    case 2:
        show_link_service(w, R_CTL_BA_ACC, TYPE_BLS, ox_id, 0, true);
        break;
    case 3:
        show_link_service(w, R_CTL_ELS_REQUEST, TYPE_ELS, 0x700, any(r, 2) ? ELS_LOGO : ELS_PRLI,
                          false);
        break;
    case 4:
        if (any(r, 4) == 0)
            fc_login(w);
        break;
    case 5:
        w->now_ns += any(r, 1200) * NS_PER_MS;
        break;
    case 6:
        fc_ask(w, ox_id, (const uint8_t[]){0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0}, 10,
               (const uint8_t[512]){0}, 512);
        break;
    default:
        switch (any(r, 4)) {
        case 0:
            fc_write_command(w, ox_id, any(r, 4), (uint16_t)(1 + any(r, 3)));
            break;
        case 1:
            fc_ready(w, ox_id, offset, 512);
            break;
        case 2:
            fc_data(w, ox_id, (uint16_t)any(r, 3), offset, 512, (uint8_t)any(r, 3));
            break;
        default:
            fc_response(w, ox_id, any(r, 5) == 0 ? 2 : 0);
            break;
        }
    }
}

static void promise(struct random_world *r, const struct fc_world *w) {
    uint64_t until_ns = fc_oldest_pending(w->fc);
    if (w->now_ns < until_ns)
        until_ns = w->now_ns;
    if (until_ns - SETTLE_NS > r->promised_ns)
        r->promised_ns = until_ns - SETTLE_NS;
}

static uint64_t run(uint64_t seed) {
    struct tracker_limits limits = tracker_default_limits();
    struct random_world r = {.sink = {.update = take_update, .gap = take_gap, .path = take_path},
                             .seed = seed,
                             .state = seed};
    struct fc_world w = {.now_ns = 1000 * NS_PER_SECOND, .s_id = FC_INITIATOR, .d_id = FC_TARGET};
    w.tracker = tracker_create(&r.sink, &limits);
    w.fc = fc_create(w.tracker, 1 << 20);
    fc_login(&w);
    for (r.frame = 0; r.frame < FRAMES; r.frame++) {
        uint64_t newest_ns = w.now_ns;
        w.s_id = FC_INITIATOR + any(&r, 2);
        if (any(&r, 8) == 0) /* as late as a frame may be */
            w.now_ns -= any(&r, 30) * NS_PER_MS;
        show_anything(&r, &w);
        if (w.now_ns < newest_ns)
            w.now_ns = newest_ns;
        promise(&r, &w);
    }
    fc_finish(w.fc);
    fc_destroy(w.fc);
    tracker_destroy(w.tracker);
    return r.records;
}

Test(fc_random, nothing_outlives_its_end) {
    uint64_t records = 0;
    for (uint64_t seed = 1; seed <= ROUNDS; seed++)
        records += run(seed);
    cr_assert_gt(records, ROUNDS);
}
