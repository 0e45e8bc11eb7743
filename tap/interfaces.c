#include "tap/interfaces.h"

#include "tap/capture/nic.h"
#include "tap/capture/source.h"
#include "tap/decap/decap.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { NOTES = 8, SNAP_BYTES = 262144 };

struct notes {
    char text[NOTES][200];
    size_t count;
};

struct listing {
    bool json;
    uint64_t ring_bytes;
    json_t *array; /* owned; of --json */
};

__attribute__((format(printf, 2, 3))) static void add_note(struct notes *notes, const char *format,
                                                           ...) {
    va_list arguments;
    if (notes->count == NOTES)
        return;
    va_start(arguments, format);
    vsnprintf(notes->text[notes->count++], sizeof notes->text[0], format, arguments);
    va_end(arguments);
}

/* What may lose, join or hide packets there, and what to do about it. */
static void collect_notes(const struct source_info *info, const struct nic *nic,
                          struct notes *notes) {
    if (!info->up)
        add_note(notes, "it is down: \"ip link set %s up\"", info->name);
    if (!info->promiscuous && !info->loopback)
        add_note(notes, "it has no promiscuous mode: frames for other hosts are not seen");
    if (nic->rx_ring > 0 && nic->rx_ring < nic->rx_ring_most)
        add_note(notes,
                 "its receive ring has %" PRIu32 " of %" PRIu32 " entries: bursts are dropped "
                 "by the card; \"ethtool -G %s rx %" PRIu32 "\"",
                 nic->rx_ring, nic->rx_ring_most, info->name, nic->rx_ring_most);
    if (nic->gro || nic->lro)
        add_note(notes,
                 "%s joins segments before they are captured, with one time for all: on a "
                 "mirror port \"ethtool -K %s gro off lro off\"",
                 nic->lro ? "LRO" : "GRO", info->name);
    if (nic->gso || nic->tso)
        add_note(notes, "what this host sends is seen as super segments with checksums still to be "
                        "made: both are understood");
    if (!nic->stamps_all)
        add_note(notes, "the card does not stamp every packet: times are the kernel's");
}

static json_t *strings(const char *first, size_t stride, size_t count) {
    json_t *array = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(array, json_string(first + i * stride));
    return array;
}

static void add_json(struct listing *l, const struct source_info *info, const struct nic *nic,
                     const struct notes *notes) {
    json_t *entry = json_pack(
        "{s:s, s:s, s:b, s:b, s:b, s:b, s:b, s:o, s:o, s:b, s:I, s:s, s:i, s:i, s:b, s:b, s:b, "
        "s:b, s:o}",
        "interface", info->name, "description", info->description, "up", info->up, "loopback",
        info->loopback, "can_capture", *info->refusal == '\0', "readable", info->readable,
        "promiscuous", info->promiscuous, "link_types",
        strings(info->links[0], sizeof info->links[0], info->link_count), "time_stamps",
        strings(info->stamps[0], sizeof info->stamps[0], info->stamp_count), "hardware_stamps",
        nic->stamps_all, "ring_bytes", (json_int_t)l->ring_bytes, "driver", nic->driver, "rx_ring",
        (int)nic->rx_ring, "rx_ring_most", (int)nic->rx_ring_most, "gro", nic->gro, "lro", nic->lro,
        "gso", nic->gso, "tso", nic->tso, "notes",
        strings(notes->text[0], sizeof notes->text[0], notes->count));
    if (entry != NULL && *info->refusal != '\0')
        json_object_set_new(entry, "refusal", json_string(info->refusal));
    json_array_append_new(l->array, entry);
}

static void print_list(const char *title, const char *first, size_t stride, size_t count) {
    printf("  %s", title);
    for (size_t i = 0; i < count; i++)
        printf("%s%s", i > 0 ? ", " : "", first + i * stride);
    printf("%s\n", count == 0 ? "the host's" : "");
}

static void print_text(const struct listing *l, const struct source_info *info,
                       const struct nic *nic, const struct notes *notes) {
    printf("%s%s%s\n", info->name, *info->description != '\0' ? ": " : "", info->description);
    if (*info->refusal != '\0') {
        printf("  cannot be captured from: %s\n", info->refusal);
        return;
    }
    print_list("link type     ", info->links[0], sizeof info->links[0], info->link_count);
    print_list("time stamps   ", info->stamps[0], sizeof info->stamps[0], info->stamp_count);
    printf("  kernel's ring %" PRIu64 " MiB (--ring)\n", l->ring_bytes >> 20);
    if (nic->rx_ring > 0)
        printf("  card's ring   %" PRIu32 " of %" PRIu32 " entries (%s)\n", nic->rx_ring,
               nic->rx_ring_most, nic->driver);
    for (size_t i = 0; i < notes->count; i++)
        printf("  note: %s\n", notes->text[i]);
}

/* Devices that give no packets of a network are left out of the text. */
static void take(void *context, const struct source_info *info) {
    struct listing *l = context;
    struct nic nic;
    struct notes notes = {.count = 0};
    nic_read(info->name, &nic);
    if (*info->refusal == '\0')
        collect_notes(info, &nic, &notes);
    if (l->json)
        add_json(l, info, &nic, &notes);
    else if (info->readable || (*info->refusal != '\0' && *nic.driver != '\0'))
        print_text(l, info, &nic, &notes);
}

int interfaces_print(bool json, uint64_t ring_bytes, struct error *err) {
    struct listing l = {.json = json, .ring_bytes = ring_bytes, .array = json_array()};
    struct capture_options options = {.ring_bytes = 1 << 20, /* for a moment only */
                                      .snap_bytes = SNAP_BYTES,
                                      .knows_link = decap_knows_link};
    int code = source_list(&options, take, &l, err);
    if (code == 0 && json) {
        json_dumpf(l.array, stdout, JSON_INDENT(2));
        printf("\n");
    }
    json_decref(l.array);
    if (code == 0 && fflush(stdout) != 0)
        return error_set(err, ERR_IO, "cannot write to standard output");
    return code;
}
