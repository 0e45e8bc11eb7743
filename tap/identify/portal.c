#include "tap/identify/portal.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

enum { ISCSI_PORT = 3260, ADDRESS_BYTES = INET6_ADDRSTRLEN };

void portal_text(const struct portal *portal, char text[PORTAL_TEXT_BYTES]) {
    char address[ADDRESS_BYTES] = "?";
    bool six = portal->family == 6;
    inet_ntop(six ? AF_INET6 : AF_INET, portal->address, address, sizeof address);
    snprintf(text, PORTAL_TEXT_BYTES, six ? "[%s]:%u" : "%s:%u", address, portal->port);
}

/* Cuts the address off the front of *text; false when there is none. */
static bool take_address(const char **text, uint8_t *family, char address[ADDRESS_BYTES]) {
    const char *start = *text;
    *family = start[0] == '[' ? 6 : 4;
    if (*family == 6)
        start++;
    size_t length = strcspn(start, *family == 6 ? "]" : ":,");
    if (length == 0 || length >= ADDRESS_BYTES || (*family == 6 && start[length] != ']'))
        return false;
    memcpy(address, start, length);
    address[length] = '\0';
    *text = start + length + (*family == 6 ? 1 : 0);
    return true;
}

/* At most five digits, so that no number overflows. */
static bool take_number(const char **text, uint32_t *number) {
    size_t digits = strspn(*text, "0123456789");
    *number = 0;
    for (size_t i = 0; i < digits && digits <= 5; i++)
        *number = *number * 10 + (uint32_t)((*text)[i] - '0');
    *text += digits;
    return digits > 0 && digits <= 5 && *number <= UINT16_MAX;
}

bool portal_parse(const char *text, struct portal *portal) {
    static const uint8_t wildcard[16];
    char address[ADDRESS_BYTES];
    uint32_t port = ISCSI_PORT;
    uint32_t group = 0;
    *portal = (struct portal){0};
    if (!take_address(&text, &portal->family, address))
        return false;
    if (text[0] == ':' && (text++, !take_number(&text, &port) || port == 0))
        return false;
    if (text[0] == ',' && (text++, !take_number(&text, &group)))
        return false;
    portal->port = (uint16_t)port;
    return text[0] == '\0' &&
           inet_pton(portal->family == 6 ? AF_INET6 : AF_INET, address, portal->address) == 1 &&
           memcmp(portal->address, wildcard, sizeof wildcard) != 0;
}
