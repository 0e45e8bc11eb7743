/*
 * identify_json: what the monitor would learn from a portal, as one JSON object.
 *
 *     identify_json ADDRESS:PORT SECONDS [INITIATOR [CHAP-FILE]]
 *
 * Ends with 0 and the answer; 1: none came within SECONDS; 2: usage. Its last line on standard
 * error is how long stopping took.
 */
#include "common/clock.h"
#include "common/log.h"
#include "tap/identify/identify.h"
#include "tap/identify/portal.h"
#include "tap/identify/survey.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static json_t *unit_json(const struct identity_unit *u) {
    char lun[17];
    snprintf(lun, sizeof lun, "%016" PRIx64, u->lun);
    return json_pack("{s:s, s:b, s:s, s:s, s:I, s:I, s:i, s:b, s:b}", "lun", lun, "disk",
                     (int)u->is_disk, "designator", u->designator, "serial", u->serial,
                     "size_bytes", (json_int_t)u->size_bytes, "block_bytes",
                     (json_int_t)u->block_bytes, "flags", (int)u->flags, "flags_known",
                     (int)u->flags_known, "ignores_same", (int)u->ignores_same);
}

static json_t *target_json(const struct identity_target *t) {
    json_t *units = json_array();
    for (size_t i = 0; i < t->unit_count; i++)
        json_array_append_new(units, unit_json(&t->units[i]));
    return json_pack("{s:s, s:b, s:o}", "name", t->name, "whole", (int)t->whole, "units", units);
}

static void print(const struct identity *identity) {
    char text[PORTAL_TEXT_BYTES];
    json_t *targets = json_array();
    portal_text(&identity->portal, text);
    for (size_t i = 0; i < identity->target_count; i++)
        json_array_append_new(targets, target_json(&identity->targets[i]));
    json_t *root = json_pack("{s:s, s:o}", "portal", text, "targets", targets);
    json_dumpf(root, stdout, JSON_COMPACT | JSON_PRESERVE_ORDER);
    putchar('\n');
    json_decref(root);
}

/* Until there is an answer, or the time is over. */
static struct identity *wait_for(struct identify *i, uint64_t patience_ns) {
    struct identity *identity = NULL;
    struct mono begun = clock_mono();
    while (!identify_take(i, &identity) && clock_since_ns(begun) < patience_ns)
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    return identity;
}

int main(int argc, char **argv) {
    struct portal portal;
    struct error err = {0};
    struct identify *i = NULL;
    log_init("identify_json", LOG_LEVEL_DEBUG);
    if (argc < 3 || argc > 5 || !portal_parse(argv[1], &portal)) {
        fprintf(stderr, "usage: identify_json ADDRESS:PORT SECONDS [INITIATOR [CHAP-FILE]]\n");
        return 2;
    }
    struct identify_options options = {.initiator = argc > 3 ? argv[3] : NULL,
                                       .chap_file = argc > 4 ? argv[4] : NULL};
    if (identify_create(&options, &i, &err) < 0 || !identify_ask(i, &portal)) {
        fprintf(stderr, "identify_json: %s\n", err.text);
        return error_exit_status(err.code);
    }
    AUTO(identity)
    identity = wait_for(i, (uint64_t)(strtod(argv[2], NULL) * (double)NS_PER_SECOND));
    if (identity != NULL)
        print(identity);
    struct mono stopping = clock_mono();
    identify_destroy(i);
    fprintf(stderr, "stopped in %" PRIu64 " ms\n", clock_since_ns(stopping) / NS_PER_MS);
    return identity != NULL ? 0 : 1;
}
