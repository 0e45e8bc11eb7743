/*
 * verify_facts: what verify found, as JSON for recoveryctl and those who watch it.
 */
#ifndef SANREWIND_RECOVERYD_VERIFY_FACTS_H
#define SANREWIND_RECOVERYD_VERIFY_FACTS_H

#include "recoveryd/verify/verify.h"

#include <jansson.h>

/*
 * {"good", "volumes": [{"volume", "id", "pieces", "payloads", "bytes", "damaged"}], "damaged":
 * [{"volume", "id", "offset_bytes", "length_bytes", "time", "time_ns", "monitor", "stream",
 * "order", "segment", "segment_offset", "segment_bytes", "why"}], "damaged_left_out", "segments":
 * null or {"files", "bytes", "batches", "records", "unknown_records", "torn_ends", "torn_bytes",
 * "unused":
 * [{"segment", "bytes"}], "unused_left_out", "damaged": [{"segment", "offset", "bytes", "why"}],
 * "damaged_left_out"}}. Monitor and stream are 16 hex digits; null, as the order mark, where no
 * monitor sent it (a baseline). A segment is the name of its file; null: the index itself is
 * damaged.
 */
json_t *verify_facts(const struct verify_result *result);

#endif
