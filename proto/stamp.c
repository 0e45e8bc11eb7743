#include "proto/stamp.h"

#include "common/digest.h"

#include <string.h>

uint64_t stamp_monitor_id(const char *name) {
    return digest_id64(name, strlen(name));
}
