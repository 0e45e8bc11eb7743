#include "recoveryd/ctl/show.h"

#include "recoveryd/ctl/ctl.h"

#include <inttypes.h>

static void show_lun(const json_t *lun) {
    if (json_is_integer(lun))
        printf("/%" JSON_INTEGER_FORMAT "\n", json_integer_value(lun));
    else
        printf("/%s\n", json_is_string(lun) ? json_string_value(lun) : "?");
}

static void show_paths(const json_t *paths) {
    size_t i;
    const json_t *path;
    json_array_foreach(paths, i, path) {
        printf("  path      %s %s", ctl_string(path, "protocol"), ctl_string(path, "target"));
        show_lun(json_object_get(path, "lun"));
    }
}

static void show_exactness(const json_t *volume) {
    const char *why = json_string_value(json_object_get(volume, "why"));
    if (why != NULL)
        printf("  not yet   %s\n", why);
    else if (json_is_true(json_object_get(volume, "exact")))
        printf("  exact     yes\n");
    else
        printf("  exact     no: %" PRIu64 " ranges; recoveryctl gaps says which and why\n",
               ctl_number(volume, "gaps"));
}

/* Only `status` has it. */
static void show_audited(const json_t *audited) {
    char length[CTL_TEXT_BYTES];
    if (ctl_number(audited, "audits") == 0)
        return;
    printf("  audited   %" PRIu64 " blocks, %" PRIu64 " of them proven, %" PRIu64
           " not comparable\n",
           ctl_number(audited, "blocks"), ctl_number(audited, "proven"),
           ctl_number(audited, "skipped"));
    if (ctl_number(audited, "mismatches") == 0)
        return;
    printf("  MISMATCH  %" PRIu64 " blocks; the last at %s:\n", ctl_number(audited, "mismatches"),
           ctl_string(audited, "last_mismatch"));
    printf("            %s at byte %" PRIu64 "\n",
           ctl_bytes_text(ctl_number(audited, "mismatch_length_bytes"), length),
           ctl_number(audited, "mismatch_offset_bytes"));
}

void show_volume(const json_t *volume) {
    char size[CTL_TEXT_BYTES];
    uint64_t bytes = ctl_number(volume, "size_bytes");
    printf("volume %s\n", ctl_string(volume, "volume"));
    printf("  id        %s\n", ctl_string(volume, "id"));
    printf("  size      %s, blocks of %" PRIu64 " bytes\n",
           bytes > 0 ? ctl_bytes_text(bytes, size) : "unknown", ctl_number(volume, "block_size"));
    if (json_is_true(json_object_get(volume, "provisional")))
        printf("  note      no login was seen yet: the name is the target's address\n");
    printf("  from      %s\n", ctl_string(volume, "first"));
    printf("  to        %s\n", ctl_string(volume, "latest"));
    show_exactness(volume);
    show_audited(json_object_get(volume, "audited"));
    show_paths(json_object_get(volume, "paths"));
}

void show_monitor(const json_t *monitor) {
    char lag[CTL_TEXT_BYTES];
    char bytes[CTL_TEXT_BYTES];
    printf("monitor %s\n", ctl_string(monitor, "monitor"));
    if (json_is_true(json_object_get(monitor, "live")))
        printf("  state     watching, %s behind\n",
               ctl_duration_text(ctl_number(monitor, "lag_ns"), lag));
    else
        printf("  state     ended\n");
    printf("  frontier  %s\n", ctl_string(monitor, "frontier"));
    printf("  heard     %s\n", ctl_string(monitor, "heard"));
    printf("  saw       %" PRIu64 " updates, %s, in %" PRIu64 " packets\n",
           ctl_number(monitor, "updates"), ctl_bytes_text(ctl_number(monitor, "bytes"), bytes),
           ctl_number(monitor, "packets"));
    if (ctl_number(monitor, "clock_error_max_ns") > 0)
        printf("  clock     within %.3f ms, %.3f ms at worst\n",
               (double)ctl_number(monitor, "clock_error_ns") / 1e6,
               (double)ctl_number(monitor, "clock_error_max_ns") / 1e6);
    printf("  dropped   %" PRIu64 " packets, by the kernel or the interface\n",
           ctl_number(monitor, "dropped"));
}
