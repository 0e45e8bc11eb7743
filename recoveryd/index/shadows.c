#include "recoveryd/index/shadows.h"

struct rangeset *shadows_of(struct shadows *s, uint64_t monitor) {
    for (size_t i = 0; i < s->count; i++) {
        if (s->list[i].monitor == monitor)
            return &s->list[i].hidden;
    }
    if (s->count == SHADOWS_MONITORS)
        return NULL;
    struct shadow *shadow = &s->list[s->count++];
    shadow->monitor = monitor;
    rangeset_init(&shadow->hidden, s->ranges);
    return &shadow->hidden;
}

void shadows_clear(struct shadows *s) {
    for (size_t i = 0; i < s->count; i++)
        rangeset_clear(&s->list[i].hidden);
}

void shadows_release(struct shadows *s) {
    for (size_t i = 0; i < s->count; i++)
        rangeset_release(&s->list[i].hidden);
}
