/*
 * clock: by how much the clocks of a volume's monitors may disagree. Internal to the image folder
 * and to settling.
 *
 * What one monitor saw is ordered by its own clock. Of what two saw, the order is known only where
 * their time marks are further apart than both clocks may be wrong together. An error that no
 * monitor measured counts as none.
 */
#ifndef SANREWIND_RECOVERYD_CLOCK_TABLE_H
#define SANREWIND_RECOVERYD_CLOCK_TABLE_H

#include "recoveryd/index/index.h"

enum { CLOCK_MONITORS = 64 };

/*
 * How long before a monitor knows of a loss it may have happened. The gap of it, over the whole
 * volume, begins where all was still right; what was lost may have been written up to this much
 * later. The monitor says so itself of what it saw meanwhile, but not of what others saw.
 */
#define CLOCK_LOSS_NS (UINT64_C(2) * 1000000000)

/* Zero-initialise. */
struct clock_table {
    struct clock_row {
        uint64_t monitor;
        uint64_t error_ns; /* the greatest that it ever announced */
    } rows[CLOCK_MONITORS];
    size_t count;
};

/* The monitors that have announced the path; beyond CLOCK_MONITORS the last one stands for all. */
int clock_table_add_path(struct clock_table *t, struct index_reader *r, uint64_t path,
                         struct error *err);
void clock_table_add(struct clock_table *t, uint64_t monitor);
/* Fills the errors in. */
int clock_table_read_errors(struct clock_table *t, struct index_reader *r, struct error *err);

/* How far apart time marks of both must be. */
uint64_t clock_table_between(const struct clock_table *t, uint64_t a, uint64_t b);
/* The most that any two may be apart; 0 for one monitor. */
uint64_t clock_table_reach(const struct clock_table *t);

#endif
