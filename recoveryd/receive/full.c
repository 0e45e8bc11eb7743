#include "recoveryd/receive/full.h"

#include "common/log.h"
#include "common/stop.h"

#include <poll.h>

enum { RETRY_MS = 500 };

bool full_wait(struct full *f, const struct error *err) {
    uint64_t left_out;
    if (!f->waiting)
        atomic_fetch_add(f->stalled, 1);
    f->waiting = true;
    if (rate_allows(&f->lines, 60 * NS_PER_SECOND, &left_out))
        log_error("%s; nothing is acknowledged until there is space, monitors wait", err->text);
    struct pollfd stop = {.fd = stop_fd(), .events = POLLIN};
    poll(&stop, 1, RETRY_MS);
    return !stop_requested();
}

void full_end(struct full *f) {
    if (f->waiting && atomic_fetch_sub(f->stalled, 1) == 1 && !stop_requested())
        log_info("there is space again: it goes on");
    f->waiting = false;
}
