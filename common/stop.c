#include "common/stop.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

static atomic_bool stop_flag;
static int stop_event = -1; /* written by stop_install only */

bool stop_requested(void) {
    return atomic_load(&stop_flag);
}

void stop_request(void) {
    atomic_store(&stop_flag, true);
    uint64_t one = 1;
    int saved = errno;
    if (stop_event >= 0 && write(stop_event, &one, sizeof one) < 0) {
        /* The counter is full: it is readable already, which is all that is wanted. */
    }
    errno = saved;
}

static void on_signal(int signal_number) {
    (void)signal_number;
    stop_request();
}

int stop_install(struct error *err) {
    stop_event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (stop_event < 0)
        return error_errno(err, errno, "cannot make an event descriptor");
    struct sigaction action = {.sa_handler = on_signal};
    sigemptyset(&action.sa_mask);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    action.sa_handler = SIG_IGN;
    sigaction(SIGPIPE, &action, NULL);
    return 0;
}

int stop_fd(void) {
    return stop_event;
}
