#include "recoveryd/retention/forecast.h"

#include "common/clock.h"
#include "common/log.h"

#include <errno.h>
#include <inttypes.h>
#include <sys/statvfs.h>

#define DAY_NS      (UINT64_C(86400) * NS_PER_SECOND)
#define SHORTEST_NS (60 * NS_PER_SECOND) /* from which a rate is told */
#define FARTHEST_NS (UINT64_C(3650) * DAY_NS)

/* Segments made since a day ago, over the time since the first of them. */
static uint64_t rate_of_day(struct store *s, uint64_t now_ns) {
    struct segments_recent recent;
    segments_since(s->segments, now_ns > DAY_NS ? now_ns - DAY_NS : 0, &recent);
    if (recent.files == 0 || recent.first_ns + SHORTEST_NS > now_ns)
        return 0;
    double share = (double)DAY_NS / (double)(now_ns - recent.first_ns);
    return (uint64_t)((double)recent.disk_bytes * share);
}

int forecast_make(struct store *s, uint64_t now_ns, struct forecast *f, struct error *err) {
    struct statvfs status;
    *f = (struct forecast){0};
    if (statvfs(s->dir, &status) != 0)
        return error_errno(err, errno, "cannot get the free space of %s", s->dir);
    uint64_t unit = status.f_frsize;
    uint64_t used = (status.f_blocks - status.f_bfree) * unit;
    f->disk_bytes = status.f_blocks * unit;
    f->free_bytes = status.f_bavail * unit;
    if (used + f->free_bytes > 0)
        f->used_percent = (unsigned)((double)used * 100 / (double)(used + f->free_bytes));
    f->alarm = f->used_percent >= s->alarm_percent;
    f->day_bytes = rate_of_day(s, now_ns);
    if (f->day_bytes == 0)
        return 0;
    double left_ns = (double)f->free_bytes / (double)f->day_bytes * (double)DAY_NS;
    if (left_ns < (double)FARTHEST_NS)
        f->full_ns = now_ns + (uint64_t)left_ns;
    return 0;
}

uint64_t forecast_promise(const struct volume *v, const struct retention_entry *rule) {
    uint64_t promised_ns = rule->until_ns > rule->every_ns ? rule->until_ns : rule->every_ns;
    if (v->first_ns == 0 || v->watermark_ns >= v->first_ns + promised_ns)
        return 0;
    return v->first_ns + promised_ns;
}

static int look(struct store *s, bool *again, struct error *err) {
    struct forecast f;
    *again = false;
    int code = forecast_make(s, clock_wall_ns(), &f, err);
    if (code != 0 || f.alarm == s->alarmed)
        return code;
    s->alarmed = f.alarm;
    if (f.alarm)
        log_error("ALARM: the disk of the store is %u%% full (--alarm-level %u): %" PRIu64
                  " MiB are left; give it more, or keep less (recoveryctl retention)",
                  f.used_percent, s->alarm_percent, f.free_bytes >> 20);
    else
        log_info("the disk of the store is %u%% full: no alarm any more", f.used_percent);
    return 0;
}

const struct background_work background_alarm = {
    .doing = "look after the free space", .work = look, .rest = 1000};
