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

void show_volume(const json_t *volume) {
    char size[CTL_TEXT_BYTES];
    uint64_t bytes = ctl_number(volume, "size_bytes");
    printf("volume %s\n", ctl_string(volume, "volume"));
    printf("  id        %s\n", ctl_string(volume, "id"));
    printf("  size      %s, blocks of %" PRIu64 " bytes\n",
           bytes > 0 ? ctl_bytes_text(bytes, size) : "unknown", ctl_number(volume, "block_size"));
    printf("  from      %s\n", ctl_string(volume, "first"));
    printf("  to        %s\n", ctl_string(volume, "latest"));
    show_exactness(volume);
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
    printf("  dropped   %" PRIu64 " packets, by the kernel or the interface\n",
           ctl_number(monitor, "dropped"));
}
