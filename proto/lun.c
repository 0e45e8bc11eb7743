#include "proto/lun.h"

#include <inttypes.h>
#include <stdio.h>

enum { METHOD_PERIPHERAL = 0, METHOD_FLAT = 1, METHOD_EXTENDED = 3 };

uint64_t lun_number(uint64_t field) {
    uint64_t first = field >> 48;
    uint64_t rest = field & UINT64_C(0xffffffffffff);
    switch (first >> 14) {
    case METHOD_PERIPHERAL:
    case METHOD_FLAT:
        return rest == 0 ? first & 0x3fff : UINT64_MAX;
    case METHOD_EXTENDED:
        /* Extended flat space addressing, 4-byte form: D2h and a 24-bit number. */
        if (first >> 8 == 0xd2 && (field & 0xffffffff) == 0)
            return field >> 32 & 0xffffff;
        return UINT64_MAX;
    default:
        return UINT64_MAX;
    }
}

const char *lun_text(uint64_t field, char text[LUN_TEXT_BYTES]) {
    uint64_t number = lun_number(field);
    if (number != UINT64_MAX)
        snprintf(text, LUN_TEXT_BYTES, "%" PRIu64, number);
    else
        snprintf(text, LUN_TEXT_BYTES, "0x%016" PRIx64, field);
    return text;
}

const char *lun_path_name(const char *target, uint64_t field, char text[PATH_NAME_BYTES]) {
    char lun[LUN_TEXT_BYTES];
    snprintf(text, PATH_NAME_BYTES, "%s/%s", target, lun_text(field, lun));
    return text;
}
