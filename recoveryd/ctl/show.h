/*
 * show: volumes and monitors as people read them. `status` and their own commands share it.
 */
#ifndef SANREWIND_RECOVERYD_SHOW_H
#define SANREWIND_RECOVERYD_SHOW_H

#include <jansson.h>

void show_monitor(const json_t *monitor);
void show_volume(const json_t *volume);

#endif
