/*
 * clock_error: how far the clock that stamps the packets may be from UTC.
 *
 * The kernel stamps packets with its own clock, CLOCK_REALTIME, and keeps two figures beside it
 * (adjtimex(2)), in microseconds: `esterror`, what the daemon that disciplines the clock estimates,
 * and `maxerror`, a bound. The bound is what is taken: chrony and ntpd set it to the distance to
 * the reference clock (half the round-trip delay plus dispersion, RFC 5905 "root distance"), and
 * between their updates the kernel lets it grow by 500 ppm, more than a free-running crystal is
 * off. At 16 s the kernel itself says that the clock is not synchronised.
 *
 * Not all who set the clock keep the figure: systemd-timesyncd and phc2sys set it to 0 with every
 * update, only to keep the kernel from giving up. Those are recognised, and their bound is unknown.
 * chrony tells the kernel nothing unless "rtcsync" is in its configuration (it is in Debian's).
 *
 * Packets that are stamped by the clock of a network card (there is no such capture yet) need that
 * clock's distance to UTC instead, which the kernel does not keep: a function of its own beside
 * clock_error_of(), from what PTP_SYS_OFFSET and the PTP daemon say.
 *
 * Pure, but for clock_error_now(). Any thread.
 */
#ifndef SANREWIND_TAP_CLOCK_ERROR_H
#define SANREWIND_TAP_CLOCK_ERROR_H

#include <stdint.h>

struct timex;

/* The bound, in ns; 0: unknown. */
uint64_t clock_error_of(const struct timex *clock);
/* The same of this machine's clock as it is now. Changes nothing. */
uint64_t clock_error_now(void);

#endif
