#include "common/clock.h"
#include "recoveryd/store/forecast.h"
#include "recoveryd/store/room.h"
#include "tests/unit/recoveryd/store_rig.h"

#define DAY (UINT64_C(86400) * NS_PER_SECOND)
#define NOW (UINT64_C(20000) * DAY)

/* --- forecast ------------------------------------------------------------------------------------
 */

Test(forecast, the_rate_is_that_of_the_last_week) {
    struct forecast f;
    /* A month of 100 bytes a day, of which the last week counts. */
    struct forecast_span month = {NOW - 30 * DAY, NOW, 3000};
    forecast_of(&month, 1, NOW, &f);
    cr_assert_eq(f.measured_ns, 7 * DAY);
    cr_assert_eq(f.bytes_per_day, 100);
    /* What ended before is nothing, though it says how long the history is. */
    struct forecast_span spans[] = {{NOW - 30 * DAY, NOW - 20 * DAY, 1 << 20},
                                    {NOW - DAY, NOW, 700}};
    forecast_of(spans, 2, NOW, &f);
    cr_assert_eq(f.measured_ns, 7 * DAY);
    cr_assert_eq(f.bytes_per_day, 100);
}

Test(forecast, a_young_store_has_a_short_history) {
    struct forecast f;
    struct forecast_span hours = {NOW - DAY / 4, NOW - DAY / 8, 1000};
    forecast_of(&hours, 1, NOW, &f);
    cr_assert_eq(f.measured_ns, DAY / 4);
    cr_assert_eq(f.bytes_per_day, 4000);
    struct forecast_span seconds = {NOW - 59 * NS_PER_SECOND, NOW, 1000};
    forecast_of(&seconds, 1, NOW, &f);
    cr_assert_eq(f.measured_ns, 0, "too short");
    cr_assert_eq(forecast_full_ns(&f, 0), 0, "and nothing is foretold");
    forecast_of(NULL, 0, NOW, &f);
    cr_assert_eq(f.measured_ns, 0);
}

Test(forecast, times_that_cannot_be_do_no_harm) {
    struct forecast f;
    struct forecast_span spans[] = {{NOW + DAY, NOW + 2 * DAY, 1000}, /* the clock was set back */
                                    {NOW - DAY, NOW - 2 * DAY, 70},   /* ends before it begins */
                                    {NOW - 7 * DAY, NOW - 7 * DAY, 630}};
    forecast_of(spans, 3, NOW, &f);
    cr_assert_eq(f.bytes_per_day, 100);
    struct forecast_span huge = {NOW - DAY, NOW, UINT64_MAX};
    forecast_of(&huge, 1, NOW, &f);
    cr_assert_eq(f.bytes_per_day, INT64_MAX);
    cr_assert_geq(forecast_full_ns(&f, UINT64_MAX), NOW);
}

Test(forecast, when_it_is_full_and_when_a_window_breaks) {
    struct forecast f = {.now_ns = NOW, .measured_ns = DAY, .bytes_per_day = 100};
    cr_assert_eq(forecast_full_ns(&f, 250), NOW + 5 * DAY / 2);
    cr_assert_eq(forecast_full_ns(&f, 0), NOW);
    cr_assert_eq(forecast_full_ns(&f, UINT64_MAX), 0, "in millions of years: never");
    /* 10 days take 1000 bytes: they fit exactly, or do not and break when it is full. */
    cr_assert_eq(forecast_window_breaks_ns(&f, 10 * DAY, 600, 400), 0);
    cr_assert_eq(forecast_window_breaks_ns(&f, 10 * DAY, 600, 300), NOW + 3 * DAY);
    f.bytes_per_day = 0;
    cr_assert_eq(forecast_full_ns(&f, 1), 0);
    cr_assert_eq(forecast_window_breaks_ns(&f, 10 * DAY, 0, 0), 0);
}

/* --- room ----------------------------------------------------------------------------------------
 */

static struct room_state judged(uint64_t limit, uint64_t reserve, uint64_t used, uint64_t disk) {
    struct room_limits limits = {limit, reserve, 80};
    struct room_state state = {
        .segment_bytes = used / 2, .index_bytes = used - used / 2, .disk_free_bytes = disk};
    room_judge(&limits, &state);
    return state;
}

Test(room, the_nearer_of_limit_and_disk_counts) {
    struct room_state s = judged(0, 0, 100, 300);
    cr_assert_eq(s.left_bytes, 300);
    cr_assert_eq(s.capacity_bytes, 400);
    cr_assert_eq(s.percent, 25);
    cr_assert_eq(s.full, ROOM_NOT_FULL);
    cr_assert_eq(judged(200, 0, 100, 300).left_bytes, 100);
    cr_assert_eq(judged(1000, 250, 100, 300).left_bytes, 50);
}

Test(room, what_makes_it_full_is_named) {
    cr_assert_eq(judged(100, 0, 100, 300).full, ROOM_LIMIT);
    cr_assert_eq(judged(50, 0, 100, 300).full, ROOM_LIMIT, "a limit that was lowered");
    cr_assert_eq(judged(0, 300, 100, 300).full, ROOM_RESERVE);
    cr_assert_eq(judged(0, 300, 100, 0).full, ROOM_DISK);
    cr_assert_eq(judged(0, 0, 100, 0).full, ROOM_DISK);
    cr_assert_eq(judged(0, 0, 0, 0).percent, 100);
}

Test(room, the_alarm_is_at_its_level) {
    cr_assert_not(judged(1000, 0, 799, 5000).alarm);
    cr_assert(judged(1000, 0, 800, 5000).alarm);
    struct room_limits off = {.store_bytes = 10};
    struct room_state full = {.segment_bytes = 10, .disk_free_bytes = 1};
    room_judge(&off, &full);
    cr_assert_not(full.alarm);
}

Test(room, a_limit_refuses_what_would_pass_it) {
    struct rig rig;
    struct room_state state;
    rig_start(&rig);
    struct room *room = rig.store->room;
    rig_ok(&rig, room_take(room, UINT64_C(1) << 40, &rig.err));
    rig_ok(&rig, room_read(room, &state, &rig.err));
    uint64_t used = state.segment_bytes + state.index_bytes;
    room_set_limits(room, &(struct room_limits){.store_bytes = used + 100});
    rig_ok(&rig, room_take(room, 60, &rig.err));
    cr_assert_eq(room_take(room, 60, &rig.err), ERR_FULL);
    cr_assert_not_null(strstr(rig.err.text, "--store-limit"));
    /* Something waits that is larger than what is left: that, too, is full, and by the limit. */
    atomic_fetch_add(room_waiting(room), 1);
    rig_ok(&rig, room_read(room, &state, &rig.err));
    cr_assert_eq(state.full, ROOM_LIMIT);
    cr_assert_eq(state.left_bytes, 100);
    atomic_fetch_sub(room_waiting(room), 1);
    rig_ok(&rig, room_read(room, &state, &rig.err));
    cr_assert_eq(state.full, ROOM_NOT_FULL);
    rig_ok(&rig, room_take(room, 40, &rig.err));
    cr_assert_eq(room_take(room, 1, &rig.err), ERR_FULL);
    rig_end(&rig);
}

Test(room, a_reserve_refuses_what_would_touch_it) {
    struct rig rig;
    rig_start(&rig);
    room_set_limits(rig.store->room, &(struct room_limits){.reserve_bytes = INT64_MAX});
    cr_assert_eq(room_take(rig.store->room, 1, &rig.err), ERR_FULL);
    cr_assert_not_null(strstr(rig.err.text, "--reserve"));
    rig_end(&rig);
}

Test(room, the_forecast_reads_the_segments) {
    struct rig rig;
    struct extent where;
    struct forecast f;
    uint64_t now = clock_wall_ns();
    rig_start(&rig);
    rig_ok(&rig, segments_append(rig.segment, "12345678", 8, &where, &rig.err));
    rig_ok(&rig, forecast_read(rig.store->segments, 0, now + DAY, &f, &rig.err));
    cr_assert_leq(f.measured_ns, DAY);
    cr_assert_geq(f.measured_ns, DAY - 60 * NS_PER_SECOND);
    cr_assert_geq(f.bytes_per_day, 4096);
    cr_assert_leq(f.bytes_per_day, 4200);
    rig_end(&rig);
}
