/*
 * portal: addresses of portals as text. Pure; any thread.
 */
#ifndef SANREWIND_TAP_IDENTIFY_PORTAL_H
#define SANREWIND_TAP_IDENTIFY_PORTAL_H

#include "tap/identity.h"

enum { PORTAL_TEXT_BYTES = 64 };

/* "192.0.2.7:3260", "[2001:db8::7]:3260" */
void portal_text(const struct portal *portal, char text[PORTAL_TEXT_BYTES]);

/*
 * A TargetAddress (RFC 7143 13.8): ADDRESS[:PORT][,GROUP], an IPv6 address in brackets. False when
 * it does not say where that is: a host name, a wildcard, nonsense.
 */
bool portal_parse(const char *text, struct portal *portal);

#endif
