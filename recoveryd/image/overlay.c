#include "recoveryd/image/overlay.h"

#include <stdlib.h>
#include <string.h>

static bool reserve(void **array, size_t *capacity, size_t count, size_t size) {
    if (count < *capacity)
        return true;
    size_t wanted = *capacity > 0 ? *capacity * 2 : 16;
    void *grown = realloc(*array, wanted * size);
    if (grown == NULL)
        return false;
    *array = grown;
    *capacity = wanted;
    return true;
}

void overlay_init(struct overlay *o, uint64_t start, uint64_t end) {
    *o = (struct overlay){0};
    o->failed = !reserve((void **)&o->holes, &o->hole_capacity, 0, sizeof *o->holes);
    if (!o->failed && start < end)
        o->holes[o->hole_count++] = (struct overlay_hole){.start = start, .end = end};
}

void overlay_release(struct overlay *o) {
    free(o->holes);
    free(o->unless);
    free(o->runs);
    *o = (struct overlay){0};
}

bool overlay_covered(const struct overlay *o) {
    return o->hole_count == 0;
}

/* Index of the first hole that ends after `at`. */
static size_t hole_after(const struct overlay *o, uint64_t at) {
    size_t low = 0;
    size_t high = o->hole_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (o->holes[middle].end <= at)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Makes two holes of the one that `at` lies inside of. */
static void split(struct overlay *o, uint64_t at) {
    size_t i = hole_after(o, at);
    if (i == o->hole_count || o->holes[i].start >= at)
        return;
    if (!reserve((void **)&o->holes, &o->hole_capacity, o->hole_count, sizeof *o->holes)) {
        o->failed = true;
        return;
    }
    memmove(&o->holes[i + 1], &o->holes[i], (o->hole_count - i) * sizeof *o->holes);
    o->hole_count++;
    o->holes[i].end = at;
    o->holes[i + 1].start = at;
}

/* The holes that lie in [start, end), which are cut so that none lies across: *first, and how many.
 */
static size_t holes_in(struct overlay *o, uint64_t start, uint64_t end, size_t *first) {
    split(o, start);
    split(o, end);
    *first = hole_after(o, start);
    size_t last = *first;
    while (last < o->hole_count && o->holes[last].start < end)
        last++;
    return o->failed ? 0 : last - *first;
}

bool overlay_alike(const struct image_run *a, const struct image_run *b) {
    if (a->kind != b->kind || a->kind == RUN_UNKNOWN)
        return false;
    return a->kind == RUN_ZERO ||
           (a->whole_offset == b->whole_offset && a->extent.bytes == b->extent.bytes &&
            a->payload_crc32c == b->payload_crc32c);
}

static bool is_same(const struct overlay *o, const struct image_run *a, const struct image_run *b) {
    return overlay_alike(a, b) && o->same != NULL && o->same(o->same_context, a, b);
}

/* Its place plus one; 0: out of memory. */
static uint32_t keep_unless(struct overlay *o, const struct image_run *content) {
    if (o->unless_count == UINT32_MAX ||
        !reserve((void **)&o->unless, &o->unless_capacity, o->unless_count, sizeof *o->unless)) {
        o->failed = true;
        return 0;
    }
    o->unless[o->unless_count++] = *content;
    return (uint32_t)o->unless_count;
}

/* Two doubts are none only when both would be none for the same content. */
static bool agrees(const struct overlay *o, const struct overlay_hole *hole,
                   const struct image_run *unless) {
    if (!hole->tainted)
        return true;
    return hole->unless != 0 && is_same(o, &o->unless[hole->unless - 1], unless);
}

void overlay_taint(struct overlay *o, uint64_t start, uint64_t end, uint16_t reason,
                   const struct stamp *since, const struct image_run *unless) {
    size_t first;
    size_t count = holes_in(o, start, end, &first);
    uint32_t kept = unless != NULL && count > 0 ? keep_unless(o, unless) : 0;
    for (size_t i = first; i < first + count; i++) {
        struct overlay_hole *hole = &o->holes[i];
        hole->unless = kept != 0 && agrees(o, hole, unless) ? kept : 0;
        hole->tainted = true;
        hole->reason = reason;
        hole->since = *since;
    }
}

static void add_run(struct overlay *o, const struct overlay_hole *hole,
                    const struct image_run *content) {
    if (!reserve((void **)&o->runs, &o->run_capacity, o->run_count, sizeof *o->runs)) {
        o->failed = true;
        return;
    }
    struct image_run *run = &o->runs[o->run_count++];
    bool harmless = hole->unless != 0 && is_same(o, &o->unless[hole->unless - 1], content);
    bool tainted = hole->tainted && !harmless;
    *run = *content;
    run->offset_bytes = hole->start;
    run->length_bytes = hole->end - hole->start;
    run->exact = !tainted && content->kind != RUN_UNKNOWN;
    if (tainted && content->kind != RUN_UNKNOWN) {
        run->gap_reason = hole->reason;
        run->gap_stamp = hole->since;
    }
}

void overlay_fill(struct overlay *o, uint64_t start, uint64_t end,
                  const struct image_run *content) {
    size_t first;
    size_t count = holes_in(o, start, end, &first);
    for (size_t i = first; i < first + count; i++)
        add_run(o, &o->holes[i], content);
    size_t behind = o->hole_count - first - count;
    if (count > 0)
        memmove(&o->holes[first], &o->holes[first + count], behind * sizeof *o->holes);
    o->hole_count -= count;
}

/* A copy of run i with another range. */
static void add_part(struct overlay *o, size_t i, uint64_t start, uint64_t end) {
    if (start >= end)
        return;
    if (!reserve((void **)&o->runs, &o->run_capacity, o->run_count, sizeof *o->runs)) {
        o->failed = true;
        return;
    }
    struct image_run *part = &o->runs[o->run_count++];
    *part = o->runs[i];
    part->offset_bytes = start;
    part->length_bytes = end - start;
}

/* Run i becomes its part inside of the range; what lies beside it becomes runs of their own. */
static void cut_run(struct overlay *o, size_t i, uint64_t start, uint64_t end) {
    uint64_t run_start = o->runs[i].offset_bytes;
    uint64_t run_end = run_start + o->runs[i].length_bytes;
    start = start > run_start ? start : run_start;
    end = end < run_end ? end : run_end;
    add_part(o, i, run_start, start);
    add_part(o, i, end, run_end);
    o->runs[i].offset_bytes = start;
    o->runs[i].length_bytes = end - start;
}

void overlay_doubt(struct overlay *o, uint64_t start, uint64_t end, const struct image_run *older,
                   uint16_t (*rivalry)(void *context, const struct image_run *newer,
                                       const struct image_run *older),
                   void *context) {
    size_t count = o->run_count; /* without what is cut off below */
    for (size_t i = 0; i < count && !o->failed; i++) {
        const struct image_run *run = &o->runs[i];
        if (run->offset_bytes >= end || run->offset_bytes + run->length_bytes <= start ||
            run->kind == RUN_UNKNOWN)
            continue;
        uint16_t reason = rivalry(context, run, older);
        bool since_before = !run->exact && stamp_compare(&run->gap_stamp, &older->stamp) <= 0;
        if (reason == 0 || since_before)
            continue;
        cut_run(o, i, start, end);
        o->runs[i].exact = false;
        o->runs[i].gap_reason = reason;
        o->runs[i].gap_stamp = older->stamp;
    }
}

static int compare_runs(const void *left, const void *right) {
    const struct image_run *a = left;
    const struct image_run *b = right;
    return a->offset_bytes < b->offset_bytes ? -1 : a->offset_bytes > b->offset_bytes;
}

static bool same_source(const struct image_run *a, const struct image_run *b) {
    return a->kind == b->kind && a->exact == b->exact && a->gap_reason == b->gap_reason &&
           stamp_compare(&a->gap_stamp, &b->gap_stamp) == 0 &&
           stamp_compare(&a->holder, &b->holder) == 0 && a->extent.segment == b->extent.segment &&
           a->extent.offset == b->extent.offset && a->whole_offset == b->whole_offset;
}

bool overlay_finish(struct overlay *o, struct image_run **runs, size_t *count) {
    if (o->failed)
        return false;
    if (o->run_count > 1)
        qsort(o->runs, o->run_count, sizeof *o->runs, compare_runs);
    size_t kept = 0;
    for (size_t i = 0; i < o->run_count; i++) {
        struct image_run *last = kept > 0 ? &o->runs[kept - 1] : NULL;
        if (last != NULL && same_source(last, &o->runs[i]))
            last->length_bytes += o->runs[i].length_bytes;
        else
            o->runs[kept++] = o->runs[i];
    }
    *runs = o->runs;
    *count = kept;
    o->runs = NULL;
    return true;
}
