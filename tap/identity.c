#include "tap/identity.h"

#include <stdlib.h>
#include <string.h>

bool portal_equal(const struct portal *a, const struct portal *b) {
    return a->family == b->family && a->port == b->port &&
           memcmp(a->address, b->address, sizeof a->address) == 0;
}

void identity_destroy(struct identity *identity) {
    if (identity == NULL)
        return;
    for (size_t i = 0; i < identity->target_count; i++)
        free(identity->targets[i].units);
    free(identity->targets);
    free(identity);
}

size_t identity_units(const struct identity *identity) {
    size_t units = 0;
    for (size_t i = 0; i < identity->target_count; i++)
        units += identity->targets[i].unit_count;
    return units;
}

const struct identity_unit *identity_unit_at(const struct identity_target *target, uint64_t lun) {
    for (size_t i = 0; i < target->unit_count; i++) {
        if (target->units[i].lun == lun)
            return &target->units[i];
    }
    return NULL;
}

static bool copy_units(struct identity_target *to, const struct identity_target *from) {
    to->unit_count = 0;
    to->units = calloc(from->unit_count > 0 ? from->unit_count : 1, sizeof *to->units);
    if (to->units == NULL)
        return false;
    if (from->unit_count > 0)
        memcpy(to->units, from->units, from->unit_count * sizeof *to->units);
    to->unit_count = from->unit_count;
    return true;
}

struct identity *identity_copy(const struct identity *identity) {
    AUTO(identity) copy = calloc(1, sizeof *copy);
    if (copy == NULL)
        return NULL;
    copy->portal = identity->portal;
    copy->targets =
        calloc(identity->target_count > 0 ? identity->target_count : 1, sizeof *copy->targets);
    for (size_t i = 0; copy->targets != NULL && i < identity->target_count; i++) {
        copy->targets[i] = identity->targets[i];
        bool good = copy_units(&copy->targets[i], &identity->targets[i]);
        copy->target_count++;
        if (!good)
            return NULL;
    }
    return copy->targets != NULL ? take_pointer(&copy) : NULL;
}
