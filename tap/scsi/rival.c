#include "tap/scsi/internal.h"

/*
 * Two commands that touch the same blocks while both are open have no order on the wire. The one
 * that ends first is noted with the one that is still open (its rivals), which is judged when it
 * ends itself: then its own data is known.
 */

enum {
    MAX_CLASHES = 64,
    MAX_PENDING = 16,
    FIRST_OPEN_CAPACITY = 32,
};

/* A write of just the same range, while the other's data had not all come. */
struct pending {
    uint64_t id;           /* of its content; 0 unknown */
    uint64_t agreed_bytes; /* so many had come, and agreed; UINT64_MAX: they did not */
};

struct rivals {
    struct rangeset clashes; /* blocks that others wrote otherwise */
    struct pending pending[MAX_PENDING];
    size_t pending_count;
    bool agreed;        /* another wrote the same bytes to all of the range */
    uint64_t newest_ns; /* when the last of them ended */
};

static uint64_t end_of(const struct command *command) {
    if (command->kind == COMMAND_WRITE_SAME && command->blocks == 0)
        return UINT64_MAX; /* to the end of the volume */
    if (command->blocks > UINT64_MAX - command->lba)
        return UINT64_MAX;
    return command->lba + command->blocks;
}

/* The others end in a gap over all that they touched, or look for what ended meanwhile. */
static bool is_exact_kind(enum command_kind kind) {
    return kind == COMMAND_WRITE || kind == COMMAND_COMPARE_WRITE || kind == COMMAND_WRITE_SAME ||
           kind == COMMAND_UNMAP || kind == COMMAND_SCATTERED;
}

struct range rival_range(const struct exchange *x) {
    const struct command *command = &x->command;
    switch (command->kind) {
    case COMMAND_OPAQUE_RANGE:
        if (command->physical)
            break;
        /* fall through */
    case COMMAND_WRITE:
    case COMMAND_COMPARE_WRITE:
    case COMMAND_WRITE_SAME:
        return (struct range){command->lba, end_of(command)};
    default:
        break;
    }
    return (struct range){0, UINT64_MAX};
}

static bool append_open(struct unit *unit, const struct open_change *change) {
    if (unit->open_count == unit->open_capacity) {
        size_t capacity =
            unit->open_capacity > 0 ? unit->open_capacity * 2 : (size_t)FIRST_OPEN_CAPACITY;
        struct open_change *open = realloc(unit->open, capacity * sizeof *open);
        if (open == NULL)
            return false;
        unit->open = open;
        unit->open_capacity = capacity;
    }
    change->exchange->open_index = unit->open_count;
    unit->open[unit->open_count++] = *change;
    return true;
}

void rival_open(struct exchange *x) {
    struct tracker *t = x->nexus->tracker;
    struct range range = rival_range(x);
    struct open_change change = {.first = range.start, .end = range.end, .exchange = x};
    x->recent_before = t->recent_count;
    x->came_late = x->issued_ns < t->newest_ns;
    if (x->came_late)
        copied_open(x);
    if (!command_changes_media(&x->command) || x->command.kind == COMMAND_EXTENDED_COPY)
        return;
    if (append_open(x->path->unit, &change))
        return;
    /* Without memory for it, what it writes cannot be compared: it is then not believed at all. */
    x->data_dropped = true;
    t->overlooks = true;
}

bool rival_judges(const struct exchange *x) {
    return x->open_index != NOT_OPEN && is_exact_kind(x->command.kind);
}

void rival_close(struct exchange *x) {
    struct unit *unit = x->path->unit;
    if (x->open_index == NOT_OPEN)
        return;
    struct open_change *last = &unit->open[--unit->open_count];
    unit->open[x->open_index] = *last;
    last->exchange->open_index = x->open_index;
    x->open_index = NOT_OPEN;
}

void rival_move(struct unit *from, struct unit *to, const struct path *path) {
    for (size_t i = from->open_count; i > 0; i--) {
        struct open_change change = from->open[i - 1];
        if (change.exchange->path != path)
            continue;
        rival_close(change.exchange);
        if (append_open(to, &change))
            continue;
        change.exchange->data_dropped = true;
        change.exchange->nexus->tracker->overlooks = true;
    }
}

void rival_free(struct rivals *r) {
    if (r == NULL)
        return;
    rangeset_release(&r->clashes);
    free(r);
}

static struct rivals *rivals_of(struct exchange *x) {
    if (x->rivals != NULL)
        return x->rivals;
    x->rivals = calloc(1, sizeof *x->rivals);
    if (x->rivals != NULL)
        rangeset_init(&x->rivals->clashes, MAX_CLASHES);
    return x->rivals;
}

static void add_clash(struct exchange *x, uint64_t first, uint64_t end, uint64_t time_ns) {
    struct rivals *r = rivals_of(x);
    if (r == NULL) {
        x->data_dropped = true;
        return;
    }
    if (time_ns > r->newest_ns)
        r->newest_ns = time_ns;
    if (rangeset_add(&r->clashes, first, end))
        return;
    /* Too many to tell apart: one range over all of them. */
    struct range all = {first, end};
    if (r->clashes.ranges[0].start < first)
        all.start = r->clashes.ranges[0].start;
    if (r->clashes.ranges[r->clashes.count - 1].end > end)
        all.end = r->clashes.ranges[r->clashes.count - 1].end;
    rangeset_clear(&r->clashes);
    rangeset_add(&r->clashes, all.start, all.end);
}

/* Does an UNMAP touch [first, end)? It does, as long as its list has not come. */
static bool unmap_touches(const struct exchange *x, uint64_t first, uint64_t end) {
    size_t bytes = 0;
    AUTO_FREE uint8_t *data = exchange_parameters(x, &bytes);
    struct range_list list;
    if (data == NULL || !unmap_list_parse(data, bytes, &list))
        return true;
    for (size_t i = 0; i < list.count; i++) {
        struct block_range range = range_list_at(&list, i);
        if (range.lba < end && (range.lba > first || first - range.lba < range.blocks))
            return true;
    }
    return false;
}

/*
 * SAM-6 8.6: a task with the ORDERED attribute runs after those that came before it, and those that
 * come after it wait for it. Then order of arrival is order of execution.
 */
static bool proven_before(const struct exchange *ended, const struct exchange *open) {
    enum { ORDERED = 2 };
    return ended->nexus == open->nexus && ended->path == open->path &&
           ended->number < open->number && ended->attribute != 0 && open->attribute != 0 &&
           (ended->attribute == ORDERED || open->attribute == ORDERED);
}

void tracker_ended_at(struct exchange *x, uint64_t time_ns) {
    /* What was left out for an end that was none is found again by the times. */
    if (x->ended_ns > 0 && time_ns != x->ended_ns) {
        x->came_late = true;
        x->recent_before = x->nexus->tracker->recent_count;
    }
    x->ended_ns = time_ns;
}

/* The same kind of write of the same blocks, of which all data is here? */
static bool is_twin(const struct exchange *ended, const struct exchange *open) {
    const struct command *a = &ended->command;
    const struct command *b = &open->command;
    return a->kind == b->kind && a->lba == b->lba && a->blocks == b->blocks &&
           a->unmap == b->unmap && a->kind != COMMAND_UNMAP && a->kind != COMMAND_SCATTERED &&
           a->combination == b->combination && a->combination != COMBINE_XOR &&
           ended->data_out_bytes == open->data_out_bytes && exchange_complete(ended) != NULL;
}

/* True when the twin's data is kept in mind, to be compared. */
static bool note_twin(const struct payload *ended, struct exchange *open, uint64_t time_ns) {
    struct rivals *r = rivals_of(open);
    if (r == NULL || r->pending_count == MAX_PENDING)
        return false;
    if (time_ns > r->newest_ns)
        r->newest_ns = time_ns;
    struct pending *pending = &r->pending[r->pending_count++];
    *pending = (struct pending){.id = payload_id64(ended)};
    if (open->payload == NULL)
        return true;
    bool agrees = payload_agrees(open->payload, ended);
    pending->agreed_bytes = agrees ? payload_arrived(open->payload) : UINT64_MAX;
    return true;
}

static void note(const struct exchange *ended, struct open_change *change,
                 const struct ended_change *what, bool content_known) {
    struct exchange *open = change->exchange;
    uint64_t first = what->first;
    uint64_t end = what->end;
    if (open->ended_ns > 0 && ended->issued_ns >= open->ended_ns)
        return;
    if (open == ended || (content_known && proven_before(ended, open)))
        return;
    if (open->command.kind == COMMAND_UNMAP && !unmap_touches(open, first, end))
        return;
    if (content_known && is_twin(ended, open) && note_twin(ended->payload, open, what->ended_ns))
        return;
    add_clash(open, first > change->first ? first : change->first,
              end < change->end ? end : change->end, what->ended_ns);
}

static void remember(struct tracker *t, const struct ended_change *what) {
    struct ended_change *slot = &t->recent[t->recent_count++ % RECENT_CHANGES];
    if (what->ended_ns > t->newest_ns)
        t->newest_ns = what->ended_ns;
    *slot = *what;
    slot->newest_ns = t->newest_ns;
    if (t->samplers != NULL)
        sample_touch(t, what->first, what->end);
}

void rival_note(struct unit *unit, const struct exchange *ended, uint64_t first, uint64_t end,
                uint64_t time_ns, bool content_known) {
    const struct ended_change what = {.unit = unit,
                                      .first = first,
                                      .end = end,
                                      .issued_ns = ended->issued_ns,
                                      .ended_ns = time_ns,
                                      .nexus = ended->nexus,
                                      .number = ended->number,
                                      .in_place = rival_range(ended).end != UINT64_MAX};
    remember(ended->nexus->tracker, &what);
    for (size_t i = 0; i < unit->open_count; i++) {
        struct open_change *change = &unit->open[i];
        if (change->first < end && first < change->end &&
            is_exact_kind(change->exchange->command.kind))
            note(ended, change, &what, content_known);
    }
}

void rival_note_all(struct tracker *t, struct unit *unit, uint64_t time_ns) {
    remember(t, &(struct ended_change){.unit = unit, .end = UINT64_MAX, .ended_ns = time_ns});
    for (size_t i = 0; i < unit->open_count; i++) {
        const struct open_change *change = &unit->open[i];
        if (is_exact_kind(change->exchange->command.kind))
            add_clash(change->exchange, change->first, change->end, time_ns);
    }
}

/* The twins' data against its own, as far as that has come. */
static void settle_twins(struct exchange *x) {
    struct rivals *r = x->rivals;
    const struct payload *complete = exchange_complete(x);
    uint64_t id = complete != NULL && r->pending_count > 0 ? payload_id64(complete) : 0;
    for (size_t i = 0; i < r->pending_count; i++) {
        const struct pending *pending = &r->pending[i];
        uint64_t arrived = x->payload != NULL ? payload_arrived(x->payload) : 0;
        bool same = complete != NULL ? pending->id != 0 && pending->id == id
                                     : pending->agreed_bytes == arrived;
        if (same)
            r->agreed = true;
        else
            add_clash(x, x->command.lba, end_of(&x->command), r->newest_ns);
    }
    r->pending_count = 0;
}

static bool is_of(const struct ended_change *r, const struct unit *unit) {
    return r->unit == unit || r->unit == NULL;
}

/* Of those that ended before it began here: was it in flight together with them? */
static void compare_late(struct exchange *x, const struct ended_change *r, uint64_t time_ns) {
    struct range own = rival_range(x);
    bool together = r->ended_ns > x->issued_ns && r->issued_ns < time_ns;
    if (!together || !is_of(r, x->path->unit) || r->first >= own.end || own.start >= r->end)
        return;
    add_clash(x, r->first > own.start ? r->first : own.start, r->end < own.end ? r->end : own.end,
              r->ended_ns);
}

/*
 * A command can come late, when something before it was missing. What ended meanwhile may have been
 * in flight together with it: times tell. (Content is not compared any more.)
 */
static void settle_late(struct exchange *x, uint64_t time_ns) {
    const struct tracker *t = x->nexus->tracker;
    uint64_t oldest = t->recent_count > RECENT_CHANGES ? t->recent_count - RECENT_CHANGES : 0;
    uint64_t i = x->recent_before;
    while (i > oldest) {
        const struct ended_change *r = &t->recent[--i % RECENT_CHANGES];
        if (r->newest_ns <= x->issued_ns)
            return;
        compare_late(x, r, time_ns);
    }
    /* Nobody remembers so far back. */
    if (oldest > 0)
        add_clash(x, 0, UINT64_MAX, t->newest_ns);
}

void rival_settle(struct exchange *x, uint64_t time_ns) {
    const struct tracker *t = x->nexus->tracker;
    if (!rival_judges(x))
        return;
    /* What nobody saw while it was open, and nobody was told of. */
    if (t->all_hushed_ns > x->issued_ns)
        add_clash(x, 0, UINT64_MAX, t->all_hushed_ns < time_ns ? t->all_hushed_ns : time_ns);
    if (x->came_late)
        settle_late(x, time_ns);
    if (x->rivals != NULL)
        settle_twins(x);
}

static const char sent_twice[] = "data was sent twice, and which copy the target took is not known";

static void doubt_ended(struct nexus *n, struct path *path, const struct ended_change *r) {
    struct tracker *t = n->tracker;
    uint32_t block_bytes = path->block_stale ? 0 : path->sink.block_bytes;
    struct gap_cause cause = {.reason = GAP_STREAM_HOLE,
                              .text = sent_twice,
                              .time_ns = r->ended_ns,
                              .issued_ns = r->issued_ns,
                              .initiator = n->initiator};
    bool fits = r->in_place && block_bytes > 0;
    uint64_t first = fits ? r->first : 0;
    uint64_t end = fits ? r->end : UINT64_MAX;
    if (fits)
        gap_blocks(t, path, first, end, block_bytes, &cause);
    else
        gap_volume(t, path, &cause);
    alias_doubt(t, path, first, end, r->ended_ns);
    if (t->samplers != NULL)
        sample_touch(t, first, end);
}

void tracker_ended_dispute(struct nexus *n, uint64_t lun, uint64_t number) {
    const struct tracker *t = n->tracker;
    struct path *path = path_of(n, lun);
    uint64_t oldest = t->recent_count > RECENT_CHANGES ? t->recent_count - RECENT_CHANGES : 0;
    if (path == NULL)
        return;
    bool found = false;
    for (uint64_t i = t->recent_count; i > oldest; i--) {
        const struct ended_change *r = &t->recent[(i - 1) % RECENT_CHANGES];
        if (r->nexus != n || r->number != number || r->unit != path->unit)
            continue;
        doubt_ended(n, path, r);
        found = true;
    }
    /* Nobody remembers so far back. */
    if (!found && oldest > 0)
        tracker_unit_gap(n, lun, GAP_STREAM_HOLE, sent_twice, t->newest_ns);
}

bool rival_is_open(const struct unit *unit, const struct exchange *except, uint64_t first,
                   uint64_t end) {
    for (size_t i = 0; i < unit->open_count; i++) {
        const struct open_change *change = &unit->open[i];
        bool near = change->first < end && first < change->end;
        if (near && change->exchange != except &&
            (change->exchange->command.kind != COMMAND_UNMAP ||
             unmap_touches(change->exchange, first, end)))
            return true;
    }
    return false;
}

bool rival_in_flight(struct tracker *t, const struct unit *unit, const struct exchange *except,
                     uint64_t first, uint64_t end) {
    if (t->overlooks || rival_is_open(unit, except, first, end) ||
        alias_is_open(t, unit, first, end))
        return true;
    for (const struct exchange *x = t->copies; x != NULL; x = x->copy_next) {
        if (x != except && copy_touches(x, unit, first, end))
            return true;
    }
    return false;
}

void rival_during(const struct exchange *x, const struct unit *unit, uint64_t first, uint64_t end,
                  uint64_t until, uint64_t time_ns, void *context,
                  void (*found)(void *context, uint64_t first, uint64_t end, uint64_t ended_ns)) {
    const struct tracker *t = x->nexus->tracker;
    uint64_t oldest = t->recent_count > RECENT_CHANGES ? t->recent_count - RECENT_CHANGES : 0;
    uint64_t i = until;
    for (; i > oldest; i--) {
        const struct ended_change *r = &t->recent[(i - 1) % RECENT_CHANGES];
        bool after = i > x->recent_before; /* it ended here while `x` was open */
        if (!after && r->newest_ns <= x->issued_ns)
            return;
        bool together = r->ended_ns > x->issued_ns && r->issued_ns < time_ns;
        if ((after || together) && is_of(r, unit) && r->first < end && first < r->end)
            found(context, r->first > first ? r->first : first, r->end < end ? r->end : end,
                  r->ended_ns);
    }
    /* Nobody remembers so far back. */
    if (oldest > 0)
        found(context, first, end, t->newest_ns);
}

void rival_clashes(const struct exchange *x, uint64_t first, uint64_t end, void *context,
                   void (*found)(void *context, uint64_t first, uint64_t end)) {
    if (x->rivals == NULL)
        return;
    struct range part;
    while (rangeset_overlap(&x->rivals->clashes, first, end, &part)) {
        found(context, part.start, part.end);
        first = part.end;
    }
}

uint64_t rival_newest_ns(const struct exchange *x) {
    return x->rivals != NULL ? x->rivals->newest_ns : 0;
}

bool rival_agreed(const struct exchange *x) {
    return x->rivals != NULL && x->rivals->agreed && x->rivals->clashes.count == 0 &&
           !x->data_lost && !x->data_dropped;
}
