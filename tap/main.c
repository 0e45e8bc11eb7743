/* tapd: the monitor. Wires and nothing else. */
#include "common/log.h"
#include "common/options.h"
#include "common/stop.h"
#include "tap/monitor.h"
#include "tap/settings.h"

int main(int argc, char **argv) {
    struct error err = {0};
    struct settings settings;
    log_init("tapd", LOG_LEVEL_INFO);
    settings_init(&settings);
    int code = settings_parse(&settings, argc, argv, &err);
    if (code == OPTIONS_DONE) {
        log_init("tapd", settings.log_level);
        code = stop_install(&err);
        if (code == 0)
            code = monitor_run(&settings, &err);
    }
    settings_release(&settings);
    if (code < 0)
        log_error("%s", err.text);
    return code < 0 ? error_exit_status(code) : 0;
}
