/*
 * commands: the functions behind control_run(), one or two to a file. Internal to control/.
 */
#ifndef SANREWIND_RECOVERYD_COMMANDS_H
#define SANREWIND_RECOVERYD_COMMANDS_H

#include "recoveryd/control/control.h"
#include "recoveryd/control/exactness.h"
#include "recoveryd/control/lease.h"
#include "recoveryd/image/volume.h"

struct control {
    struct store *store;
    struct leases *leases;
    struct exactness *exactness;
    _Atomic uint64_t tidied_ns; /* monotonic */
};

typedef int command_function(struct control *c, const json_t *request, json_t **result,
                             struct buffer *data, struct error *err);

command_function command_status;
command_function command_monitors;
command_function command_volumes;
command_function command_window;
command_function command_timeline;
command_function command_resolve;
command_function command_image_open;
command_function command_image_chunk;
command_function command_image_gaps;
command_function command_image_close;
command_function command_image_changes;
command_function command_image_range;
command_function command_baseline;
command_function command_retention;

/* --- fields of a request -------------------------------------------------------------------------
 */

/* Borrowed from the request. ERR_USAGE when it is missing or not a string. */
int argument_string(const json_t *request, const char *name, const char **value, struct error *err);
/* NULL when it is not there. */
const char *argument_optional(const json_t *request, const char *name);
/* `missing` when it is not there; ERR_USAGE when it is not a number from 0 on. */
int argument_number(const json_t *request, const char *name, uint64_t missing, uint64_t *value,
                    struct error *err);
bool argument_flag(const json_t *request, const char *name);

/* --- one moment of the store ---------------------------------------------------------------------
 */

/* Zero-initialise. */
struct snapshot {
    struct index_reader *reader;
    struct volume_list volumes;
};

int snapshot_open(struct snapshot *s, struct store *store, struct error *err);
void snapshot_release(struct snapshot *s);
/* The volume that request[name] names. */
int snapshot_volume(const struct snapshot *s, const json_t *request, const struct volume **volume,
                    struct error *err);
#define AUTO_SNAPSHOT __attribute__((cleanup(snapshot_release))) struct snapshot

/* --- facts as JSON: new references, NULL when out of memory
 * ---------------------------------------- */

/* JSON numbers are signed: what does not fit is the greatest. */
json_t *fact_number(uint64_t number);
/* Names come from the wire: what is not UTF-8 in them becomes '?', and does not spoil the whole
 * answer. */
json_t *fact_text(const char *text);
/* Adds NAME, a string that --at takes, and NAME_ns, a number; null and 0 when it is not known. */
void fact_put_time(json_t *object, const char *name, uint64_t time_ns);

/* `audits`: with what the audits of each found. */
int fact_volumes(struct control *c, const struct snapshot *s, bool audits, json_t **result,
                 struct error *err);
int fact_monitors(const struct snapshot *s, json_t **result, struct error *err);

/* The monitor's name, or its number in hex when the store does not know it. */
json_t *fact_monitor_name(const struct snapshot *s, uint64_t monitor);

#endif
