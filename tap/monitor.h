/*
 * monitor: one capture worker from start to end: sources, pipeline, sink, heartbeats.
 */
#ifndef SANREWIND_TAP_MONITOR_H
#define SANREWIND_TAP_MONITOR_H

#include "common/error.h"
#include "tap/settings.h"

/*
 * Runs until the files are read and all that was sent is durable, or until stop_requested(). 0, or
 * why not: a file cut in the middle is ERR_FORMAT, after everything before the cut was made
 * durable.
 */
int monitor_run(const struct settings *settings, struct error *err);

#endif
