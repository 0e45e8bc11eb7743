/*
 * forecast: when the store's disk will be full at the rate of the last day, and what was promised
 * and cannot be kept till then.
 */
#ifndef SANREWIND_RECOVERYD_RETENTION_FORECAST_H
#define SANREWIND_RECOVERYD_RETENTION_FORECAST_H

#include "recoveryd/image/volume.h"
#include "recoveryd/index/thinned.h"
#include "recoveryd/settle/background.h"
#include "recoveryd/store/store.h"

struct forecast {
    uint64_t disk_bytes; /* of the file system */
    uint64_t free_bytes; /* that recoveryd may still use */
    unsigned used_percent;
    bool alarm;         /* as much is used as the store's alarm_percent */
    uint64_t day_bytes; /* that segments take in a day at the rate of the last one; 0: not known */
    uint64_t full_ns;   /* when it is full at that rate; 0: not known, or not within 10 years */
};
int forecast_make(struct store *s, uint64_t now_ns, struct forecast *f, struct error *err);

/*
 * When the volume's history will be as long as its rule promises; 0: it is, or nothing is promised.
 */
uint64_t forecast_promise(const struct volume *v, const struct retention_entry *rule);

/* Says once when the level is reached, and once when it is not any more. */
extern const struct background_work background_alarm;

#endif
