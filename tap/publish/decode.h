/*
 * decode: the sink behind --decode: one JSON object per line for each update, each media-changing
 * command that failed, each gap, and each READ that is to be compared.
 */
#ifndef SANREWIND_TAP_DECODE_H
#define SANREWIND_TAP_DECODE_H

#include "common/cleanup.h"
#include "tap/sink.h"

#include <stdio.h>

struct decode_sink;

/* Writes to `out`, which is borrowed. NULL: out of memory. */
struct decode_sink *decode_create(FILE *out);
void decode_destroy(struct decode_sink *d);
struct sink *decode_sink(struct decode_sink *d);

DEFINE_AUTO(decode_sink, decode_destroy)

#endif
