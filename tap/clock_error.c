#include "tap/clock_error.h"

#include <stdbool.h>
#include <sys/timex.h>

/* Linux, kernel/time/ntp.c: what maxerror grows by in a second (MAXFREQ), and where it ends
 * (NTP_PHASE_LIMIT), which is also what both figures are when nobody ever set them. */
enum { GROWTH_US = 500, LIMIT_US = 16000000 };
#define NS_PER_US UINT64_C(1000)

/* The figures of somebody who only ever sets maxerror to 0: what it has grown by since. The
 * estimate beside it is 0 too (systemd-timesyncd), or what the kernel began with (phc2sys). */
static bool is_nobodys(const struct timex *clock) {
    bool no_estimate = clock->esterror <= 0 || clock->esterror >= LIMIT_US;
    return no_estimate && clock->maxerror % GROWTH_US == 0;
}

uint64_t clock_error_of(const struct timex *clock) {
    if ((clock->status & (STA_UNSYNC | STA_CLOCKERR)) != 0)
        return 0;
    if (clock->maxerror < 0 || clock->maxerror >= LIMIT_US || is_nobodys(clock))
        return 0;
    /* A bound below the estimate is none. */
    long us = clock->maxerror > clock->esterror ? clock->maxerror : clock->esterror;
    return us > 0 && us < LIMIT_US ? (uint64_t)us * NS_PER_US : 0;
}

uint64_t clock_error_now(void) {
    struct timex clock = {.modes = 0};
    return adjtimex(&clock) >= 0 ? clock_error_of(&clock) : 0;
}
