#include "recoveryd/ctl/ctl.h"
#include "recoveryd/ctl/show.h"

#include "common/clock.h"

#include <inttypes.h>

static const struct option_set options = {
    .program = "recoveryctl status",
    .usage = "recoveryctl status [--json]",
    .summary = "The store, its monitors and its volumes at a glance.",
};

static void print_settling(const json_t *settling) {
    uint64_t copies = ctl_number(settling, "copies");
    uint64_t unresolved = ctl_number(settling, "unresolved");
    uint64_t audits = ctl_number(settling, "audits");
    if (copies + unresolved + audits > 0)
        printf("  waiting   %" PRIu64 " copies, %" PRIu64 " audits; %" PRIu64
               " copies of unknown content\n",
               copies, audits, unresolved);
}

/* A view that stays open for long keeps the index from using space again. */
enum { MANY_COMMITS = 10000, MANY_SECONDS = 600 };

static void print_index(const json_t *index) {
    char bytes[CTL_TEXT_BYTES];
    uint64_t commits = ctl_number(index, "oldest_view_commits");
    printf("  index     %s\n", ctl_bytes_text(ctl_number(index, "bytes"), bytes));
    if (ctl_number(index, "oldest_image_seconds") >= MANY_SECONDS)
        printf("  image     open for %s: the index keeps what was freed since\n",
               ctl_duration_text(ctl_number(index, "oldest_image_seconds") * NS_PER_SECOND, bytes));
    if (commits >= MANY_COMMITS)
        printf("  held by   process %" PRIu64 ", whose view is %" PRIu64
               " commits old: the index grows until it is closed\n",
               ctl_number(index, "oldest_view_pid"), commits);
}

static void print_segments(const json_t *segments) {
    char bytes[CTL_TEXT_BYTES];
    uint64_t packed = ctl_number(segments, "packed_files");
    uint64_t dead = ctl_number(segments, "dead_bytes");
    printf("  segments  %s", ctl_bytes_text(ctl_number(segments, "disk_bytes"), bytes));
    if (packed > 0)
        printf(", %" PRIu64 " of %" PRIu64 " files packed", packed, ctl_number(segments, "files"));
    if (dead > 0)
        printf(", %s dead, to be given back", ctl_bytes_text(dead, bytes));
    putchar('\n');
}

static void print_forecast(const json_t *space) {
    char bytes[CTL_TEXT_BYTES];
    char span[CTL_TEXT_BYTES];
    const json_t *rate = json_object_get(space, "bytes_per_day");
    if (!json_is_integer(rate))
        return;
    printf("  growth    %s a day", ctl_bytes_text(ctl_number(space, "bytes_per_day"), bytes));
    printf(", over the last %s\n",
           ctl_duration_text(ctl_number(space, "measured_seconds") * NS_PER_SECOND, span));
    if (ctl_number(space, "full_at_ns") > 0)
        printf("  full at   %s, as it grows now\n", ctl_string(space, "full_at"));
}

static void print_space(const json_t *space) {
    char bytes[CTL_TEXT_BYTES];
    const json_t *full = json_object_get(space, "full");
    printf("  left      %s; %" PRIu64 "%% are used\n",
           ctl_bytes_text(ctl_number(space, "left_bytes"), bytes), ctl_number(space, "percent"));
    print_forecast(space);
    if (json_is_string(full))
        printf("  FULL      by the %s%s\n", json_string_value(full),
               json_is_true(json_object_get(space, "waiting"))
                   ? ": nothing is acknowledged, monitors wait"
                   : "");
    else if (json_is_true(json_object_get(space, "alarm")))
        printf("  ALARM     %" PRIu64 "%% or more are used\n", ctl_number(space, "alarm_percent"));
}

static void print(const json_t *status) {
    size_t i;
    const json_t *item;
    printf("store %s\n", ctl_string(status, "store"));
    print_segments(json_object_get(status, "segments"));
    print_index(json_object_get(status, "index"));
    print_space(json_object_get(status, "space"));
    printf("  now       %s\n", ctl_string(status, "now"));
    print_settling(json_object_get(status, "settling"));
    if (json_array_size(json_object_get(status, "monitors")) == 0)
        printf("\nno monitor has sent anything yet\n");
    json_array_foreach(json_object_get(status, "monitors"), i, item) {
        putchar('\n');
        show_monitor(item);
    }
    json_array_foreach(json_object_get(status, "volumes"), i, item) {
        putchar('\n');
        show_volume(item);
    }
}

int ctl_status(struct ctl *ctl, int argc, char **argv, struct error *err) {
    bool json = false;
    int code = ctl_parse_simple(&options, argc, argv, &json, NULL, err);
    if (code != OPTIONS_DONE)
        return code < 0 ? code : 0;
    AUTO_JSON request = json_pack("{s:s}", "command", "status");
    return ctl_ask(ctl, request, json, print, err);
}
