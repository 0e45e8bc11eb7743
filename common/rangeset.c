#include "common/rangeset.h"

#include <stdlib.h>
#include <string.h>

void rangeset_init(struct rangeset *s, size_t limit) {
    *s = (struct rangeset){.limit = limit};
}

void rangeset_release(struct rangeset *s) {
    free(s->ranges);
    *s = (struct rangeset){0};
}

void rangeset_clear(struct rangeset *s) {
    s->count = 0;
}

/* Index of the first range whose end is >= value (touching counts). */
static size_t first_reaching(const struct rangeset *s, uint64_t value) {
    size_t low = 0;
    size_t high = s->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (s->ranges[middle].end < value)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Index of the first range that ends after `value`. */
static size_t first_after(const struct rangeset *s, uint64_t value) {
    size_t i = first_reaching(s, value);
    while (i < s->count && s->ranges[i].end <= value)
        i++;
    return i;
}

static bool insert_at(struct rangeset *s, size_t index, struct range range) {
    if (s->count >= s->limit)
        return false;
    if (s->count == s->capacity) {
        size_t capacity = s->capacity > 0 ? s->capacity * 2 : 4;
        struct range *ranges = realloc(s->ranges, capacity * sizeof *ranges);
        if (ranges == NULL)
            return false;
        s->ranges = ranges;
        s->capacity = capacity;
    }
    memmove(s->ranges + index + 1, s->ranges + index, (s->count - index) * sizeof *s->ranges);
    s->ranges[index] = range;
    s->count++;
    return true;
}

static void erase(struct rangeset *s, size_t index, size_t count) {
    if (count == 0)
        return;
    size_t tail = s->count - index - count;
    memmove(s->ranges + index, s->ranges + index + count, tail * sizeof *s->ranges);
    s->count -= count;
}

bool rangeset_add(struct rangeset *s, uint64_t start, uint64_t end) {
    if (start >= end)
        return true;
    if (s->count > 0 && s->ranges[s->count - 1].end == start) {
        s->ranges[s->count - 1].end = end;
        return true;
    }
    size_t first = first_reaching(s, start);
    if (first == s->count || s->ranges[first].start > end)
        return insert_at(s, first, (struct range){start, end});
    size_t last = first;
    while (last + 1 < s->count && s->ranges[last + 1].start <= end)
        last++;
    struct range *merged = &s->ranges[first];
    if (start < merged->start)
        merged->start = start;
    if (s->ranges[last].end > end)
        end = s->ranges[last].end;
    if (end > merged->end)
        merged->end = end;
    erase(s, first + 1, last - first);
    return true;
}

bool rangeset_remove(struct rangeset *s, uint64_t start, uint64_t end) {
    if (start >= end)
        return true;
    size_t i = first_after(s, start);
    if (i < s->count && s->ranges[i].start < start) {
        struct range whole = s->ranges[i];
        if (whole.end > end) {
            if (!insert_at(s, i + 1, (struct range){end, whole.end}))
                return false;
            s->ranges[i].end = start;
            return true;
        }
        s->ranges[i].end = start;
        i++;
    }
    size_t gone = 0;
    while (i + gone < s->count && s->ranges[i + gone].end <= end)
        gone++;
    erase(s, i, gone);
    if (i < s->count && s->ranges[i].start < end)
        s->ranges[i].start = end;
    return true;
}

bool rangeset_missing(const struct rangeset *s, uint64_t start, uint64_t end, struct range *hole) {
    size_t i = first_after(s, start);
    if (i < s->count && s->ranges[i].start <= start) {
        start = s->ranges[i].end;
        i++;
    }
    if (start >= end)
        return false;
    hole->start = start;
    hole->end = i < s->count && s->ranges[i].start < end ? s->ranges[i].start : end;
    return true;
}

bool rangeset_overlap(const struct rangeset *s, uint64_t start, uint64_t end, struct range *part) {
    size_t i = first_after(s, start);
    if (i == s->count || s->ranges[i].start >= end || start >= end)
        return false;
    part->start = s->ranges[i].start > start ? s->ranges[i].start : start;
    part->end = s->ranges[i].end < end ? s->ranges[i].end : end;
    return true;
}

bool rangeset_contains(const struct rangeset *s, uint64_t start, uint64_t end) {
    struct range hole;
    return !rangeset_missing(s, start, end, &hole);
}

uint64_t rangeset_first_missing(const struct rangeset *s, uint64_t from) {
    size_t i = first_after(s, from);
    return i < s->count && s->ranges[i].start <= from ? s->ranges[i].end : from;
}

uint64_t rangeset_total(const struct rangeset *s) {
    uint64_t total = 0;
    for (size_t i = 0; i < s->count; i++)
        total += s->ranges[i].end - s->ranges[i].start;
    return total;
}
