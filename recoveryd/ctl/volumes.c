#include "recoveryd/ctl/ctl.h"
#include "recoveryd/ctl/show.h"

static const struct option_set options = {
    .program = "recoveryctl volumes",
    .usage = "recoveryctl volumes [--json]",
    .summary = "Every volume that a monitor has seen: size, times, paths, whether it is exact.",
};

static void print(const json_t *volumes) {
    size_t i;
    const json_t *volume;
    if (json_array_size(volumes) == 0)
        printf("no volume has been seen yet\n");
    json_array_foreach(volumes, i, volume) {
        if (i > 0)
            putchar('\n');
        show_volume(volume);
    }
}

int ctl_volumes(struct ctl *ctl, int argc, char **argv, struct error *err) {
    bool json = false;
    int code = ctl_parse_simple(&options, argc, argv, &json, NULL, err);
    if (code != OPTIONS_DONE)
        return code < 0 ? code : 0;
    AUTO_JSON request = json_pack("{s:s}", "command", "volumes");
    return ctl_ask(ctl, request, json, print, err);
}
