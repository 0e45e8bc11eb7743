/*
 * stop: SIGTERM and SIGINT as a flag and a file descriptor.
 *
 * stop_install() once in main, before threads: both signals then set the flag and make the
 * descriptor readable. Everything that waits polls the descriptor; everything that works asks the
 * flag.
 */
#ifndef SANREWIND_COMMON_STOP_H
#define SANREWIND_COMMON_STOP_H

#include "common/error.h"

#include <stdbool.h>

int stop_install(struct error *err);
bool stop_requested(void);
/* As if a signal had come: from a thread that cannot go on. Async-signal-safe. */
void stop_request(void);
/* Readable (POLLIN) from the first stop on; never read from it. -1 before stop_install. */
int stop_fd(void);

#endif
