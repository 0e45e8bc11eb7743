#include "tap/decap/device_time.h"

#include "common/clock.h"

enum {
    METAMAKO_TRAILER = 12, /* without extensions and the original FCS */
    EXABLAZE_TRAILER = 16,
    TICK_TRAILER = 4,
    VSS_TRAILER = 8,
    FCS_BYTES = 4,
};
#define NS_PER_US    UINT64_C(1000)
#define PLAUSIBLE_NS (UINT64_C(86400) * NS_PER_SECOND)
/* Ticks anchored by the capture's clock follow it by this part of the difference. */
enum { FOLLOW = 256 };
/* Farther off than this, a clock was set, or another device answers at the address. */
#define STEP_NS NS_PER_SECOND
/* Four bytes are taken for ticks when they are this near to what the last keyframe lets expect. */
#define TICKS_OFF_NS (10 * NS_PER_MS)

const char *device_clock_name(enum device_clock clock) {
    static const char *const names[] = {
        [CLOCK_CAPTURE] = "capture",       [CLOCK_ERSPAN] = "erspan",
        [CLOCK_METAMAKO] = "metamako",     [CLOCK_EXABLAZE] = "exablaze",
        [CLOCK_EXALINK] = "exalink",       [CLOCK_ARISTA] = "arista",
        [CLOCK_ARISTA7150] = "arista7150", [CLOCK_VSS] = "vss",
    };
    return clock < DEVICE_CLOCKS ? names[clock] : NULL;
}

static uint64_t apart(uint64_t a, uint64_t b) {
    return a > b ? a - b : b - a;
}

uint64_t device_time_stamp(struct device_time *t, uint64_t wall_ns, uint64_t capture_ns) {
    if (apart(wall_ns, capture_ns) > PLAUSIBLE_NS) {
        t->counters.refused++;
        return device_time_of(t, capture_ns);
    }
    t->counters.stamped++;
    t->known = true;
    t->offset_ns = (int64_t)(wall_ns - capture_ns);
    return wall_ns;
}

/* --- ticks ------------------------------------------------------------------------------------ */

static struct tick_anchor *find_anchor(struct device_time *t, const uint8_t *source) {
    for (size_t i = 0; i < TICK_SOURCES; i++) {
        if (t->anchors[i].used && memcmp(t->anchors[i].source, source, 16) == 0)
            return &t->anchors[i];
    }
    return NULL;
}

static struct tick_anchor *find_or_add_anchor(struct device_time *t, const uint8_t *source) {
    struct tick_anchor *a = find_anchor(t, source);
    if (a != NULL)
        return a;
    a = &t->anchors[t->next_anchor++ % TICK_SOURCES];
    *a = (struct tick_anchor){.used = true};
    memcpy(a->source, source, 16);
    return a;
}

/* Ticks since the anchor of a counter that wraps at `modulus`: of all that are possible, what the
 * capture's clock comes nearest to. */
static int64_t ticks_since(uint64_t ticks, uint64_t anchor, uint64_t modulus,
                           int64_t expected_ticks) {
    int64_t wrap = (int64_t)modulus;
    int64_t rest = (int64_t)((ticks + modulus - anchor % modulus) % modulus);
    int64_t wraps = (expected_ticks - rest + wrap / 2) / wrap;
    if (expected_ticks - rest + wrap / 2 < 0)
        wraps--;
    return rest + wraps * wrap;
}

static void set_anchor(struct tick_anchor *a, uint64_t ticks, uint64_t wall_ns,
                       uint64_t capture_ns) {
    a->ticks = ticks;
    a->wall_ns = wall_ns;
    a->capture_ns = capture_ns;
}

/* 32-bit ticks of `tick_ns`, for which the device gives no wall time. */
static uint64_t follow_ticks(struct device_time *t, const struct erspan_stamp *stamp,
                             uint64_t tick_ns, uint64_t capture_ns) {
    struct tick_anchor *a = find_or_add_anchor(t, stamp->source);
    int64_t passed_ns = (int64_t)(capture_ns - a->capture_ns);
    int64_t ticks =
        ticks_since(stamp->ticks, a->ticks, UINT64_C(1) << 32, passed_ns / (int64_t)tick_ns);
    uint64_t wall_ns = a->wall_ns + (uint64_t)(ticks * (int64_t)tick_ns);
    if (a->wall_ns == 0 || apart(wall_ns, capture_ns) > STEP_NS)
        wall_ns = capture_ns;
    int64_t off_ns = (int64_t)(capture_ns - wall_ns);
    set_anchor(a, stamp->ticks, wall_ns + (uint64_t)(off_ns / FOLLOW), capture_ns);
    return device_time_stamp(t, wall_ns, capture_ns);
}

/* IEEE 1588: nanoseconds of a second; the second from the sub-header, or by the capture's clock. */
static uint64_t read_1588(struct device_time *t, const struct erspan_stamp *stamp,
                          uint64_t capture_ns) {
    if (stamp->ticks >= NS_PER_SECOND) {
        t->counters.refused++;
        return device_time_of(t, capture_ns);
    }
    if (stamp->has_seconds)
        return device_time_stamp(t, stamp->seconds * NS_PER_SECOND + stamp->ticks, capture_ns);
    uint64_t about_ns = device_time_of(t, capture_ns);
    int64_t since = ticks_since(stamp->ticks, 0, NS_PER_SECOND, (int64_t)about_ns);
    return device_time_stamp(t, (uint64_t)since, capture_ns);
}

/* Ticks whose length and wall time marker packets tell. */
static uint64_t read_marked(struct device_time *t, const struct erspan_stamp *stamp,
                            uint64_t capture_ns) {
    struct tick_anchor *a = find_anchor(t, stamp->source);
    if (a == NULL || !a->exact || a->tick_ns == 0)
        return device_time_of(t, capture_ns);
    int64_t passed_ns = (int64_t)(capture_ns - a->capture_ns);
    int64_t ticks =
        ticks_since(stamp->ticks, a->ticks, UINT64_C(1) << 32, passed_ns / (int64_t)a->tick_ns);
    return device_time_stamp(t, a->wall_ns + (uint64_t)(ticks * (int64_t)a->tick_ns), capture_ns);
}

uint64_t device_time_erspan(struct device_time *t, const struct erspan_stamp *stamp,
                            uint64_t capture_ns) {
    switch (stamp->granularity) {
    case 0:
        return follow_ticks(t, stamp, 100 * NS_PER_US, capture_ns);
    case 1:
        return follow_ticks(t, stamp, 100, capture_ns);
    case 2:
        return read_1588(t, stamp, capture_ns);
    default:
        return read_marked(t, stamp, capture_ns);
    }
}

uint64_t device_time_arista(struct device_time *t, const struct arista_stamp *stamp,
                            uint64_t capture_ns) {
    if (stamp->fraction_ns >= NS_PER_SECOND) {
        t->counters.refused++;
        return device_time_of(t, capture_ns);
    }
    uint64_t seconds = stamp->seconds;
    if (stamp->short_seconds) {
        uint64_t about_s = device_time_of(t, capture_ns) / NS_PER_SECOND + stamp->ahead_s;
        seconds = (uint64_t)ticks_since(seconds, 0, 1 << 16, (int64_t)about_s);
    }
    uint64_t wall_ns = (seconds - stamp->ahead_s) * NS_PER_SECOND + stamp->fraction_ns;
    return device_time_stamp(t, wall_ns, capture_ns);
}

/* The length of a tick, when two markers agree that it is 1 ns, 100 ns or 100 µs within 1%. */
static uint64_t tick_between(const struct tick_anchor *a, uint64_t long_ticks, uint64_t wall_ns) {
    static const uint64_t lengths[] = {1, 100, 100 * NS_PER_US};
    uint64_t ticks = long_ticks - a->long_ticks;
    uint64_t passed_ns = wall_ns - a->wall_ns;
    if (long_ticks <= a->long_ticks || wall_ns <= a->wall_ns || passed_ns > PLAUSIBLE_NS)
        return 0;
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        if (ticks <= PLAUSIBLE_NS / lengths[i] &&
            apart(ticks * lengths[i], passed_ns) <= passed_ns / 100)
            return lengths[i];
    }
    return 0;
}

/*
 * 58 bytes, as seen from Nexus 9000 and 10000 switches: a head of 20 bytes like GRE's with ERSPAN's
 * type, FFFFh, version, session, granularity, TAI - UTC in seconds, the 48-bit counter in 8 bytes,
 * TAI seconds, nanoseconds, sequence, reserved, A5A5A5A5h. A counter of 0 says that it has none.
 */
bool device_time_marker(struct device_time *t, struct cursor payload, const uint8_t *source,
                        uint64_t capture_ns) {
    if (cursor_left(&payload) != 58)
        return false;
    cursor_skip(&payload, 2);
    bool ours = cursor_be16(&payload) == 0x22eb;
    cursor_skip(&payload, 16);
    ours = cursor_be16(&payload) == 0xffff && ours;
    cursor_skip(&payload, 3);
    uint8_t tai_utc = cursor_u8(&payload);
    uint64_t long_ticks = cursor_be64(&payload);
    uint64_t seconds = cursor_be32(&payload);
    uint64_t fraction_ns = cursor_be32(&payload);
    cursor_skip(&payload, 12);
    if (!ours || cursor_be32(&payload) != 0xa5a5a5a5 || seconds < tai_utc ||
        fraction_ns >= NS_PER_SECOND)
        return false;
    t->counters.keyframes++;
    uint64_t wall_ns = (seconds - tai_utc) * NS_PER_SECOND + fraction_ns;
    if (long_ticks == 0 || apart(wall_ns, capture_ns) > PLAUSIBLE_NS)
        return true;
    struct tick_anchor *a = find_or_add_anchor(t, source);
    uint64_t tick_ns = a->exact ? tick_between(a, long_ticks, wall_ns) : 0;
    if (tick_ns != 0)
        a->tick_ns = tick_ns;
    a->exact = true;
    a->long_ticks = long_ticks;
    set_anchor(a, long_ticks & UINT32_MAX, wall_ns, capture_ns);
    return true;
}

/* --- trailers --------------------------------------------------------------------------------- */

/* The last `bytes` of a frame, `behind` bytes before its end; failed when it is shorter. */
static struct cursor tail(struct cursor frame, size_t bytes, size_t behind) {
    size_t left = cursor_left(&frame);
    if (left < bytes + behind) {
        frame.failed = true;
        return frame;
    }
    cursor_skip(&frame, left - bytes - behind);
    return cursor_child(&frame, bytes);
}

static bool is_plausible(uint64_t seconds, uint64_t capture_ns) {
    return apart(seconds * NS_PER_SECOND, capture_ns) <= PLAUSIBLE_NS;
}

/*
 * Extensions lie in front of the 12 bytes, each with its tag word last: bit 5 says that it is the
 * one farthest in, bits 6 and 7 how many words of data precede it; tag 31 has 10 bits of length,
 * less one. SIZE_MAX: they reach past the frame.
 */
static size_t metamako_extensions(struct cursor frame, size_t behind) {
    size_t bytes = 0;
    for (;;) {
        struct cursor word_at = tail(frame, 4, behind + bytes);
        uint32_t word = cursor_be32(&word_at);
        if (!cursor_ok(&word_at))
            return SIZE_MAX;
        size_t words = (word & 0x1f) == 0x1f ? (word >> 6 & 0x3ff) + 1 : word >> 6 & 3;
        bytes += 4 + 4 * words;
        if ((word >> 5 & 1) != 0)
            return bytes;
    }
}

enum { FLAG_FCS_VALID = 0x01, FLAG_EXTENSIONS = 0x02, FLAG_DUPLICATE = 0x04, FLAG_DEGRADED = 0x10 };

/* Original FCS, extensions, seconds, nanoseconds, flags, device, port. */
static size_t read_metamako(struct device_time *t, struct cursor frame, size_t behind,
                            uint64_t capture_ns, uint64_t *time_ns, bool *damaged) {
    struct cursor c = tail(frame, METAMAKO_TRAILER, behind);
    uint64_t seconds = cursor_be32(&c);
    uint64_t fraction_ns = cursor_be32(&c);
    uint8_t flags = cursor_u8(&c);
    if (!cursor_ok(&c) || fraction_ns >= NS_PER_SECOND || !is_plausible(seconds, capture_ns))
        return 0;
    size_t bytes = METAMAKO_TRAILER;
    if ((flags & FLAG_EXTENSIONS) != 0) {
        size_t extensions = metamako_extensions(frame, behind + bytes);
        if (extensions == SIZE_MAX)
            return 0;
        bytes += extensions;
    }
    bytes += FCS_BYTES;
    if (cursor_left(&frame) < bytes + behind)
        return 0;
    *damaged = (flags & FLAG_FCS_VALID) == 0;
    t->counters.duplicate += (flags & FLAG_DUPLICATE) != 0;
    if ((flags & FLAG_DEGRADED) != 0)
        t->counters.degraded++;
    else
        *time_ns = device_time_stamp(t, seconds * NS_PER_SECOND + fraction_ns, capture_ns);
    return bytes + behind;
}

/* Original FCS, device, port, seconds, a fraction of 40 bits, reserved. */
static size_t read_exablaze(struct device_time *t, struct cursor frame, size_t behind,
                            uint64_t capture_ns, uint64_t *time_ns) {
    struct cursor c = tail(frame, EXABLAZE_TRAILER, behind);
    cursor_skip(&c, 6);
    uint64_t seconds = cursor_be32(&c);
    uint64_t fraction = cursor_be(&c, 5);
    if (!cursor_ok(&c) || !is_plausible(seconds, capture_ns))
        return 0;
    uint64_t fraction_ns = ((fraction >> 8) * NS_PER_SECOND) >> 32;
    *time_ns = device_time_stamp(t, seconds * NS_PER_SECOND + fraction_ns, capture_ns);
    return EXABLAZE_TRAILER + behind;
}

/* Seconds; the source of the clock in 2 bits (0: it is not synchronised), nanoseconds in 30. */
static size_t read_vss(struct device_time *t, struct cursor frame, size_t behind,
                       uint64_t capture_ns, uint64_t *time_ns) {
    struct cursor c = tail(frame, VSS_TRAILER, behind);
    uint64_t seconds = cursor_be32(&c);
    uint32_t fraction = cursor_be32(&c);
    uint64_t fraction_ns = fraction & 0x3fffffff;
    if (!cursor_ok(&c) || fraction_ns >= NS_PER_SECOND || !is_plausible(seconds, capture_ns))
        return 0;
    if (fraction >> 30 == 0)
        t->counters.degraded++;
    else
        *time_ns = device_time_stamp(t, seconds * NS_PER_SECOND + fraction_ns, capture_ns);
    return VSS_TRAILER + behind;
}

static const uint8_t keyframe_source[16];

/* 350 MHz: 20/7 ns. */
static uint64_t ticks_to_ns(int64_t ticks) {
    return (uint64_t)(ticks * 20 / 7);
}

static size_t read_ticks(struct device_time *t, struct cursor frame, size_t behind,
                         uint64_t capture_ns, uint64_t *time_ns) {
    const struct tick_anchor *a = find_anchor(t, keyframe_source);
    struct cursor c = tail(frame, TICK_TRAILER, behind);
    uint32_t ticks = cursor_be32(&c);
    uint64_t modulus = UINT64_C(1) << 32;
    if (!cursor_ok(&c) || a == NULL || apart(capture_ns, a->capture_ns) > PLAUSIBLE_NS)
        return 0;
    if (t->clock == CLOCK_ARISTA7150) { /* 31 bits: bit 7 is not part of it */
        ticks = (ticks >> 1 & 0x7fffff80) | (ticks & 0x7f);
        modulus = UINT64_C(1) << 31;
    }
    int64_t passed_ns = (int64_t)(capture_ns - a->capture_ns);
    int64_t since = ticks_since(ticks, a->ticks, modulus, passed_ns * 7 / 20);
    uint64_t wall_ns = a->wall_ns + ticks_to_ns(since);
    if (apart(wall_ns - a->wall_ns, capture_ns - a->capture_ns) > TICKS_OFF_NS)
        return 0;
    *time_ns = device_time_stamp(t, wall_ns, capture_ns);
    return TICK_TRAILER + behind;
}

static size_t read_trailer(struct device_time *t, struct cursor frame, size_t behind,
                           uint64_t capture_ns, uint64_t *time_ns, bool *damaged) {
    switch (t->clock) {
    case CLOCK_METAMAKO:
        return read_metamako(t, frame, behind, capture_ns, time_ns, damaged);
    case CLOCK_EXABLAZE:
        return read_exablaze(t, frame, behind, capture_ns, time_ns);
    case CLOCK_VSS:
        return read_vss(t, frame, behind, capture_ns, time_ns);
    case CLOCK_EXALINK:
    case CLOCK_ARISTA7150:
        return read_ticks(t, frame, behind, capture_ns, time_ns);
    default:
        return 0;
    }
}

size_t device_time_trailer(struct device_time *t, struct cursor frame, uint64_t capture_ns,
                           uint64_t *time_ns, bool *damaged) {
    /* What may lie behind: nothing, the frame's FCS; for VSS also a port of one byte or two. */
    static const size_t behinds[] = {0, FCS_BYTES, 1, 2, 1 + FCS_BYTES, 2 + FCS_BYTES};
    size_t count = t->clock == CLOCK_VSS ? 6 : 2;
    for (size_t i = 0; i < count; i++) {
        size_t bytes = read_trailer(t, frame, behinds[i], capture_ns, time_ns, damaged);
        if (bytes > 0)
            return bytes;
    }
    return 0;
}

static void take_keyframe(struct device_time *t, uint64_t ticks, uint64_t wall_ns,
                          uint64_t capture_ns) {
    t->counters.keyframes++;
    if (apart(wall_ns, capture_ns) > PLAUSIBLE_NS) {
        t->counters.refused++;
        return;
    }
    struct tick_anchor *a = find_or_add_anchor(t, keyframe_source);
    set_anchor(a, ticks, wall_ns, capture_ns);
}

/* "EXKF", version 1; or the number 1 in little-endian order, version 0. */
static bool keyframe_exalink(struct device_time *t, struct cursor c, uint64_t capture_ns) {
    uint32_t magic = cursor_be32(&c);
    uint8_t version = cursor_u8(&c);
    cursor_skip(&c, 3);
    uint64_t wall_ns = cursor_be64(&c);
    uint64_t ticks = cursor_be64(&c);
    uint64_t frequency = cursor_be64(&c);
    bool known = (magic == 0x45584b46 && version == 1) || (magic == 0x01000000 && version == 0);
    if (!cursor_ok(&c) || !known || frequency != 350000000)
        return false;
    take_keyframe(t, ticks & UINT32_MAX, wall_ns, capture_ns);
    return true;
}

/*
 * Counter, UTC, last synchronisation; then either a skew of 1/1 (later EOS releases, and what
 * imitates them) or not; the rest is of no interest here.
 */
static bool keyframe_arista(struct device_time *t, struct cursor c, uint64_t capture_ns) {
    size_t bytes = cursor_left(&c);
    uint64_t ticks = cursor_be64(&c);
    uint64_t wall_ns = cursor_be64(&c);
    cursor_skip(&c, 8);
    if (!cursor_ok(&c) || (bytes != 46 && bytes != 62))
        return false;
    if (bytes == 62) {
        uint64_t numerator = cursor_be64(&c);
        if (numerator != 1 || cursor_be64(&c) != 1)
            return false;
    }
    take_keyframe(t, ticks & 0x7fffffff, wall_ns, capture_ns);
    return true;
}

bool device_time_keyframe(struct device_time *t, struct cursor payload, uint64_t capture_ns) {
    if (t->clock == CLOCK_EXALINK)
        return keyframe_exalink(t, payload, capture_ns);
    if (t->clock == CLOCK_ARISTA7150)
        return keyframe_arista(t, payload, capture_ns);
    return false;
}
