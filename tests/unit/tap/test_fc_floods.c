/* What a flood may cost: a frame no more when there are many ports than when there are few. */
#include "fc_world.h"

#include "common/clock.h"
#include "tap/fc/els.h"

#include <criterion/criterion.h>
#include <string.h>
#include <time.h>

enum { NEXUSES = 12000, LOGINS = 20000, MOST_SECONDS = 6 };
#define SOME_WWPN UINT64_C(0x2000000000001000)

static struct fc_world w;
static clock_t start_clock;

static void start(void) {
    fc_world_make(&w);
}

static void stop(void) {
    fc_world_end(&w);
}

TestSuite(fc_floods, .init = start, .fini = stop);

static void start_counting(void) {
    start_clock = clock();
}

static double seconds(void) {
    return (double)(clock() - start_clock) / CLOCKS_PER_SEC;
}

/* Pairs of ports, of which one reads: that leaves nothing to be said of. */
static void show_nexuses(void) {
    static const uint8_t data[4] = {0};
    for (uint32_t i = 0; i < NEXUSES; i++) {
        w.s_id = 0x100000 + i;
        w.d_id = 0x200000 + i;
        fc_show(&w,
                (struct frame){.r_ctl = R_CTL_DATA,
                               .type = TYPE_FCP,
                               .f_ctl = F_CTL_RESPONDER | F_CTL_OFFSET,
                               .ox_id = 1,
                               .rx_id = 1},
                data, sizeof data);
    }
    fc_wait(&w);
}

/* Each by a port that has none of the nexuses, as another one than before. */
Test(fc_floods, logins_beside_many_nexuses, .timeout = 120) {
    show_nexuses();
    w.s_id = FC_INITIATOR;
    w.d_id = FC_TARGET;
    start_counting();
    for (uint32_t i = 0; i < LOGINS; i++)
        fc_service(&w, &(struct frame){.s_id = w.s_id, .d_id = w.d_id, .ox_id = (uint16_t)i},
                   ELS_PLOGI, SOME_WWPN + i, 116);
    fc_wait(&w);
    cr_assert_lt(seconds(), MOST_SECONDS);
}

/* Those that are named when its port is, and end with it, are its own. */
Test(fc_floods, all_nexuses_of_a_port_end) {
    enum { TARGETS = 50 };
    static const char name[] = "naa.20:00:00:00:00:00:10:00";
    for (uint32_t i = 0; i < TARGETS; i++) {
        w.d_id = FC_TARGET + i;
        fc_whole_write(&w, 1, i, 1, 7);
    }
    fc_wait(&w);
    cr_assert_eq(UPDATES(w), TARGETS);
    size_t gaps = GAPS(w);
    fc_service(&w, &(struct frame){.s_id = FC_TARGET, .d_id = FC_INITIATOR, .ox_id = 2}, ELS_ADISC,
               SOME_WWPN, 28);
    w.d_id = FC_TARGET;
    fc_whole_write(&w, 1, 100, 1, 7);
    w.d_id = FC_TARGET + 1;
    fc_whole_write(&w, 1, 100, 1, 7);
    fc_wait(&w);
    cr_assert_eq(UPDATES(w), TARGETS + 2);
    uint64_t named = record_path_id(PATH_FCP, name, strlen(name), UINT64_C(1) << 48);
    cr_assert_eq(recorded_update(w.recorder, TARGETS)->path, named);
    cr_assert_neq(recorded_update(w.recorder, TARGETS + 1)->path, named);
    /* In flight to each when the initiator's port goes: each volume is in doubt. */
    for (uint32_t i = 0; i < TARGETS; i++) {
        w.d_id = FC_TARGET + i;
        fc_write_command(&w, 3, i, 1);
    }
    fc_service(&w, &(struct frame){.s_id = FC_INITIATOR, .d_id = 0xfffffe, .ox_id = 4}, ELS_LOGO,
               FC_INITIATOR_WWPN, 16);
    fc_wait(&w);
    cr_assert_geq(GAPS(w), gaps + TARGETS);
}
