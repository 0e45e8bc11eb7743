/* recoveryctl: what an administrator asks of a recovery store. Wires and nothing else. */
#include "common/log.h"
#include "common/stop.h"
#include "recoveryd/ctl/ctl.h"

#include <locale.h>

int main(int argc, char **argv) {
    struct error err = {0};
    setlocale(LC_CTYPE, ""); /* what the terminal can show */
    log_init("recoveryctl", LOG_LEVEL_INFO);
    int code = stop_install(&err);
    if (code == 0)
        code = ctl_run(argc, argv, &err);
    if (code < 0)
        log_error("%s", err.text);
    return code < 0 ? error_exit_status(code) : 0;
}
