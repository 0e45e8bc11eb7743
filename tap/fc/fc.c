#include "tap/fc/fc.h"

#include "common/crc32.h"
#include "common/log.h"
#include "tap/fc/internal.h"

#include <stdio.h>

/* A mirror makes copies when it has made so many within so long. */
#define COPIES_NS (10 * NS_PER_SECOND)
enum { COPIES_PROVE = 4 };

struct fc *fc_create(struct tracker *tracker, size_t window_bytes) {
    AUTO(fc) f = calloc(1, sizeof *f);
    if (f == NULL)
        return NULL;
    f->tracker = tracker;
    f->window = window_create(window_bytes);
    f->sequences = sequences_create();
    f->names = names_create();
    f->logins = logins_create();
    f->pairs = pairs_create();
    if (f->window == NULL || f->sequences == NULL || f->names == NULL || f->logins == NULL ||
        f->pairs == NULL)
        return NULL;
    return take_pointer(&f);
}

void fc_restarted(struct fc *f, uint64_t since_ns) {
    f->restarted = true;
    f->restarted_ns = since_ns;
}

const struct fc_counters *fc_counters(const struct fc *f) {
    return &f->counters;
}

void fc_copy_proven(struct fc *f, uint64_t time_ns) {
    if (time_ns > f->copies_ns + COPIES_NS)
        f->copies = 0;
    f->copies++;
    if (time_ns > f->copies_ns)
        f->copies_ns = time_ns;
}

bool fc_makes_copies(const struct fc *f, uint64_t time_ns) {
    return f->copies >= COPIES_PROVE && time_ns < f->copies_ns + COPIES_NS;
}

void fc_skew_proven(struct fc *f, uint64_t time_ns) {
    if (time_ns > f->skew_ns + COPIES_NS)
        f->skews = 0;
    f->skews++;
    if (time_ns > f->skew_ns)
        f->skew_ns = time_ns;
}

bool fc_has_skew(const struct fc *f, uint64_t time_ns) {
    return f->skews >= COPIES_PROVE && time_ns < f->skew_ns + COPIES_NS;
}

/* Frames in order */

static void take_nvme(struct fc *f) {
    f->counters.nvme++;
    if (f->nvme_said)
        return;
    f->nvme_said = true;
    log_warning("FC-NVMe passes here: it is not read, and volumes that it writes to are not "
                "protected");
}

static void take_fcp(struct fc *f, struct seen *seen) {
    uint8_t r_ctl = seen->frame.r_ctl;
    if (r_ctl == R_CTL_FC4_REQUEST || r_ctl == R_CTL_FC4_REPLY) {
        logins_frame(f, seen);
        seen_free(seen);
        return;
    }
    if (r_ctl == R_CTL_COMMAND || r_ctl == R_CTL_RESPONSE)
        seen = sequences_add(f->sequences, seen);
    if (seen != NULL)
        duty_frame(f, seen);
}

static void take_other(struct fc *f, struct seen *seen) {
    switch (seen->frame.type) {
    case TYPE_ELS:
        seen = sequences_add(f->sequences, seen);
        if (seen != NULL)
            logins_frame(f, seen);
        break;
    case TYPE_BLS:
        abort_frame(f, seen);
        break;
    case TYPE_NVME:
        take_nvme(f);
        break;
    default:
        f->counters.other_type++;
        break;
    }
    seen_free(seen);
}

static bool is_fcp(const struct frame *frame) {
    switch (frame->r_ctl) {
    case R_CTL_DATA:
    case R_CTL_CONFIRM:
    case R_CTL_READY:
    case R_CTL_COMMAND:
    case R_CTL_RESPONSE:
    case R_CTL_FC4_REQUEST:
    case R_CTL_FC4_REPLY:
        return frame->type == TYPE_FCP;
    default:
        return false;
    }
}

static void take(struct fc *f, struct seen *seen) {
    if (seen->time_ns > f->clock_ns)
        f->clock_ns = seen->time_ns;
    else if (seen->time_ns < f->clock_ns)
        f->counters.late++;
    settle_judge(f);
    if (seen->frame.is_fip) {
        logins_fip(f, seen);
        seen_free(seen);
    } else if (is_fcp(&seen->frame)) {
        take_fcp(f, seen);
    } else {
        take_other(f, seen);
    }
}

static void run(struct fc *f, uint64_t until_ns) {
    struct seen *seen = window_next(f->window, until_ns);
    while (seen != NULL) {
        take(f, seen);
        seen = window_next(f->window, until_ns);
    }
    if (until_ns != UINT64_MAX && until_ns > f->clock_ns) {
        f->clock_ns = until_ns;
        settle_judge(f);
    }
}

void fc_tick(struct fc *f, uint64_t now_ns) {
    if (now_ns > f->newest_ns)
        f->newest_ns = now_ns;
    run(f, f->newest_ns > WINDOW_NS ? f->newest_ns - WINDOW_NS : 0);
}

/* Frames as they come */

/* 0 is no time: a broken clock, or a file without times. */
static uint64_t time_of(uint64_t time_ns) {
    return time_ns > 0 ? time_ns : 1;
}

static void keep(struct fc *f, const struct frame *frame, uint64_t time_ns) {
    if (!window_add(f->window, frame, time_ns)) {
        f->counters.overflow++;
        tracker_gap(f->tracker, GAP_OVERFLOW, "no memory left to hold a frame", time_ns - 1);
    }
    fc_tick(f, time_ns);
}

/* It may have been a command. */
static void lose(struct fc *f, const char *text, uint64_t time_ns) {
    f->counters.unreadable++;
    tracker_gap(f->tracker, GAP_STREAM_HOLE, text, time_ns - 1);
}

void fc_frame(struct fc *f, const struct fc_frame *from) {
    struct frame frame;
    uint64_t time_ns = time_of(from->time_ns);
    f->counters.frames++;
    f->counters.cut += from->bytes < from->wire_bytes;
    switch (frame_parse(from, &frame)) {
    case FRAME_GOOD:
        keep(f, &frame, time_ns);
        break;
    case FRAME_DAMAGED:
        f->counters.damaged++;
        fc_tick(f, time_ns);
        break;
    case FRAME_MALFORMED:
        f->counters.malformed++;
        fc_tick(f, time_ns);
        break;
    case FRAME_UNREADABLE:
        lose(f, "a Fibre Channel frame of which the capture has not even the header", time_ns);
        break;
    case FRAME_ENCRYPTED:
        lose(f, "Fibre Channel frames that are encrypted", time_ns);
        break;
    }
}

void fc_fip(struct fc *f, const struct fc_fip_frame *from) {
    uint8_t bytes[FIP_ADDRESSES + 2200];
    size_t most = sizeof bytes - FIP_ADDRESSES;
    uint32_t length = from->bytes < most ? from->bytes : (uint32_t)most;
    memcpy(bytes, from->destination, 6);
    memcpy(bytes + 6, from->source, 6);
    if (length > 0)
        memcpy(bytes + FIP_ADDRESSES, from->data, length);
    length += FIP_ADDRESSES;
    f->counters.fip++;
    keep(f,
         &(struct frame){.is_fip = true,
                         .vsan = from->vsan,
                         .payload = bytes,
                         .bytes = length,
                         .wire_bytes = length,
                         .checksum = crc32_frame(0, bytes, length)},
         time_of(from->time_ns));
}

void fc_loss(struct fc *f, uint16_t vsan, const char *text, uint64_t time_ns) {
    struct fc_nexus *n, *next;
    if (vsan == 0) {
        tracker_gap(f->tracker, GAP_CAPTURE_LOSS, text, time_ns);
        return;
    }
    HASH_ITER(hh, f->nexuses, n, next) {
        if (n->key.vsan == vsan)
            tracker_nexus_gap(n->nexus, GAP_CAPTURE_LOSS, text, time_ns);
    }
}

uint64_t fc_oldest_pending(const struct fc *f) {
    uint64_t oldest_ns = window_oldest(f->window);
    for (const struct task *t = f->open; t != NULL; t = t->open_next) {
        if ((t->exchange != NULL || t->unreadable) && t->issued_ns < oldest_ns)
            oldest_ns = t->issued_ns;
    }
    for (const struct task *t = f->answered; t != NULL; t = t->wait_next) {
        if (t->issued_ns < oldest_ns)
            oldest_ns = t->issued_ns;
    }
    for (const struct slot *s = f->stray; s != NULL; s = s->stray_next) {
        if (s->strays.first_ns < oldest_ns)
            oldest_ns = s->strays.first_ns;
    }
    return oldest_ns < UINT64_MAX && oldest_ns > 0 ? oldest_ns - 1 : oldest_ns;
}

void fc_finish(struct fc *f) {
    run(f, UINT64_MAX);
    settle_finish(f);
}

void fc_destroy(struct fc *f) {
    struct fc_nexus *n, *next;
    if (f == NULL)
        return;
    /* What is in flight is in flight: nothing is said about it. */
    HASH_ITER(hh, f->nexuses, n, next) {
        nexus_discard(n);
    }
    window_destroy(f->window);
    sequences_destroy(f->sequences);
    names_destroy(f->names);
    logins_destroy(f->logins);
    pairs_destroy(f->pairs);
    free(f);
}

/* Configured names */

static bool take_line(struct fc *f, char *line) {
    char *rest = NULL;
    uint64_t wwpn;
    line[strcspn(line, "#\r\n")] = '\0';
    char *id = strtok_r(line, " \t", &rest);
    if (id == NULL)
        return true;
    char *name = strtok_r(NULL, " \t", &rest);
    char *end = NULL;
    unsigned long fc_id = strtoul(id, &end, 16);
    return name != NULL && *end == '\0' && fc_id > 0 && fc_id < FC_FABRIC_PORT &&
           names_parse(name, &wwpn) && strtok_r(NULL, " \t", &rest) == NULL &&
           names_configure(f->names, (uint32_t)fc_id, wwpn);
}

int fc_load_names(struct fc *f, const char *file, struct error *err) {
    char line[256];
    unsigned number = 0;
    AUTO_FCLOSE FILE *in = fopen(file, "re");
    if (in == NULL)
        return error_set(err, ERR_IO, "%s: cannot be opened", file);
    while (fgets(line, sizeof line, in) != NULL) {
        number++;
        if (!take_line(f, line))
            return error_set(err, ERR_USAGE,
                             "%s, line %u: not 'FCID WWPN', as 010203 "
                             "20:00:52:54:00:00:00:0b",
                             file, number);
    }
    return ferror(in) == 0 ? 0 : error_set(err, ERR_IO, "%s: cannot be read", file);
}
