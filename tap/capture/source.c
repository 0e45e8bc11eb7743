#include "tap/capture/source.h"

#include "common/clock.h"
#include "tap/capture/unpack.h"

#include <errno.h>
#include <limits.h>
#include <net/if.h>
#include <pcap/pcap.h>
#include <stdio.h>
#include <string.h>

enum {
    FILE_BUFFER_BYTES = 1 << 17, /* it stays in the cache */
    BLOCK_TIMEOUT_MS = 20,       /* a part-filled block of the ring is handed over after this */
    SCHEDULING_MS = 50,          /* how late this process may be, on a busy machine */
};

struct source {
    pcap_t *pcap;
    char *name;
    char *file_buffer; /* stdio's; must outlive the file */
    bool live;
    bool ended;
    bool microseconds; /* stamps are in µs: ns were not to be had */
    int link_type;
    uint64_t packets;
    unsigned last_drops; /* libpcap's counters are 32 bits wide, and wrap */
    unsigned last_interface_drops;
    uint64_t dropped;
};

uint64_t source_settle_ns(void) {
    return (2 * BLOCK_TIMEOUT_MS + SCHEDULING_MS) * NS_PER_MS;
}

void source_close(struct source *s) {
    if (s == NULL)
        return;
    if (s->pcap != NULL)
        pcap_close(s->pcap);
    free(s->file_buffer);
    free(s->name);
    free(s);
}

static struct source *source_create(const char *name, struct error *err) {
    struct source *s = calloc(1, sizeof *s);
    if (s != NULL && (s->name = strdup(name)) != NULL)
        return s;
    source_close(s);
    error_set(err, ERR_NOMEM, "%s: out of memory", name);
    return NULL;
}

static int set_filter(struct source *s, const char *filter, struct error *err) {
    if (filter == NULL)
        return 0;
    struct bpf_program program;
    if (pcap_compile(s->pcap, &program, filter, 1, PCAP_NETMASK_UNKNOWN) != 0)
        return error_set(err, ERR_USAGE,
                         "the filter \"%s\" is not understood: %s (see pcap-filter(7))", filter,
                         pcap_geterr(s->pcap));
    int status = pcap_setfilter(s->pcap, &program);
    pcap_freecode(&program);
    if (status != 0)
        return error_set(err, ERR_IO, "%s: cannot set the filter: %s", s->name,
                         pcap_geterr(s->pcap));
    return 0;
}

static int check_link(struct source *s, const struct capture_options *options, struct error *err) {
    s->link_type = pcap_datalink(s->pcap);
    if (options->knows_link == NULL || options->knows_link(s->link_type))
        return 0;
    const char *name = pcap_datalink_val_to_name(s->link_type);
    return error_set(
        err, ERR_FORMAT,
        "%s: frames of link type %s (%d) cannot be read: Ethernet, Linux cooked, loopback "
        "and raw IP can",
        s->name, name != NULL ? name : "unknown", s->link_type);
}

struct source *source_open_file(const char *path, const struct capture_options *options,
                                struct error *err) {
    AUTO(source) s = source_create(path, err);
    AUTO_FCLOSE FILE *file = s != NULL ? unpack_open(path, err) : NULL;
    if (file == NULL)
        return NULL;
    s->file_buffer = malloc(FILE_BUFFER_BYTES);
    if (s->file_buffer != NULL)
        setvbuf(file, s->file_buffer, _IOFBF, FILE_BUFFER_BYTES);
    char text[PCAP_ERRBUF_SIZE] = "";
    s->pcap = pcap_fopen_offline_with_tstamp_precision(file, PCAP_TSTAMP_PRECISION_NANO, text);
    if (s->pcap == NULL) {
        error_set(err, ERR_FORMAT, "%s is not a capture file (pcap or pcapng): %s", path, text);
        fclose(take_pointer(&file)); /* before its buffer goes */
        return NULL;
    }
    take_pointer(&file); /* pcap_close closes it */
    if (check_link(s, options, err) != 0 || set_filter(s, options->filter, err) != 0)
        return NULL;
    return take_pointer(&s);
}

static int explain_activation(struct source *s, int status, struct error *err) {
    switch (status) {
    case PCAP_ERROR_NO_SUCH_DEVICE:
        return error_set(err, ERR_IO,
                         "there is no interface %s here that can be captured from: \"ip link\" "
                         "lists those that exist",
                         s->name);
    case PCAP_ERROR_PERM_DENIED:
    case PCAP_ERROR_PROMISC_PERM_DENIED:
        return error_set(err, ERR_IO,
                         "no permission to capture from interface %s: run as root, or give the "
                         "program CAP_NET_RAW",
                         s->name);
    case PCAP_ERROR_IFACE_NOT_UP:
        return error_set(err, ERR_IO, "interface %s is down: \"ip link set %s up\" first", s->name,
                         s->name);
    default:
        return error_set(err, ERR_IO, "cannot capture from interface %s: %s%s%s", s->name,
                         pcap_statustostr(status), *pcap_geterr(s->pcap) != '\0' ? ": " : "",
                         pcap_geterr(s->pcap));
    }
}

static void configure(struct source *s, const struct capture_options *options) {
    int ring = options->ring_bytes < INT_MAX ? (int)options->ring_bytes : INT_MAX;
    pcap_set_snaplen(s->pcap, options->snap_bytes);
    pcap_set_promisc(s->pcap, 1);
    pcap_set_timeout(s->pcap, BLOCK_TIMEOUT_MS);
    if (ring > 0)
        pcap_set_buffer_size(s->pcap, ring);
    s->microseconds = pcap_set_tstamp_precision(s->pcap, PCAP_TSTAMP_PRECISION_NANO) != 0;
}

struct source *source_open_interface(const char *name, const struct capture_options *options,
                                     struct error *err) {
    AUTO(source) s = source_create(name, err);
    if (s == NULL)
        return NULL;
    s->live = true;
    char text[PCAP_ERRBUF_SIZE] = "";
    s->pcap = pcap_create(name, text);
    if (s->pcap == NULL) {
        error_set(err, ERR_IO, "cannot capture from interface %s: %s", name, text);
        return NULL;
    }
    configure(s, options);
    int status = pcap_activate(s->pcap); /* positive: a warning, such as no promiscuous mode */
    if (status < 0) {
        explain_activation(s, status, err);
        return NULL;
    }
    if (pcap_setnonblock(s->pcap, 1, text) != 0) {
        error_set(err, ERR_IO, "cannot capture from interface %s: %s", name, text);
        return NULL;
    }
    if (check_link(s, options, err) != 0 || set_filter(s, options->filter, err) != 0)
        return NULL;
    return take_pointer(&s);
}

static int explain_read(struct source *s, struct error *err) {
    if (s->live)
        return error_set(err, ERR_IO, "capturing from interface %s failed: %s", s->name,
                         pcap_geterr(s->pcap));
    FILE *file = pcap_file(s->pcap);
    if (file != NULL && ferror(file) && errno != EBADMSG)
        return error_set(err, ERR_IO, "%s: cannot read behind packet %llu: %s", s->name,
                         (unsigned long long)s->packets, pcap_geterr(s->pcap));
    return error_set(err, ERR_FORMAT,
                     "%s is cut short or damaged behind packet %llu (%s): what comes before was "
                     "used; copy the file again",
                     s->name, (unsigned long long)s->packets, pcap_geterr(s->pcap));
}

int source_read(struct source *s, struct packet *packet, struct error *err) {
    struct pcap_pkthdr *header = NULL;
    const u_char *data = NULL;
    if (s->ended)
        return SOURCE_NONE;
    int status = pcap_next_ex(s->pcap, &header, &data);
    if (status == 1) {
        uint64_t fraction = (uint64_t)header->ts.tv_usec;
        packet->data = data;
        packet->caplen = header->caplen;
        packet->wire_length = header->len;
        packet->time_ns = (uint64_t)header->ts.tv_sec * NS_PER_SECOND +
                          (s->microseconds ? fraction * 1000 : fraction);
        packet->link_type = s->link_type;
        s->packets++;
        return SOURCE_PACKET;
    }
    if (status == 0)
        return SOURCE_NONE;
    s->ended = true;
    return status == PCAP_ERROR_BREAK ? SOURCE_NONE : explain_read(s, err);
}

int source_fd(const struct source *s) {
    return pcap_get_selectable_fd(s->pcap);
}

uint64_t source_dropped(struct source *s) {
    struct pcap_stat now = {0};
    if (!s->live || pcap_stats(s->pcap, &now) != 0)
        return s->dropped;
    s->dropped += now.ps_drop - s->last_drops;
    s->dropped += now.ps_ifdrop - s->last_interface_drops;
    s->last_drops = now.ps_drop;
    s->last_interface_drops = now.ps_ifdrop;
    return s->dropped;
}

static void list_links(pcap_t *pcap, struct source_info *info) {
    int *links = NULL;
    int count = pcap_list_datalinks(pcap, &links);
    for (int i = 0; i < count && info->link_count < SOURCE_LINKS; i++) {
        const char *name = pcap_datalink_val_to_name(links[i]);
        snprintf(info->links[info->link_count++], sizeof info->links[0], "%s",
                 name != NULL ? name : "unknown");
    }
    pcap_free_datalinks(links);
}

static void list_stamps(pcap_t *pcap, struct source_info *info) {
    int *stamps = NULL;
    int count = pcap_list_tstamp_types(pcap, &stamps);
    for (int i = 0; i < count && info->stamp_count < SOURCE_STAMPS; i++) {
        const char *name = pcap_tstamp_type_val_to_name(stamps[i]);
        snprintf(info->stamps[info->stamp_count++], sizeof info->stamps[0], "%s",
                 name != NULL ? name : "unknown");
    }
    pcap_free_tstamp_types(stamps);
}

static void look_at(const pcap_if_t *device, const struct capture_options *options,
                    struct source_info *info) {
    AUTO(source) s = source_create(device->name, NULL);
    char text[PCAP_ERRBUF_SIZE] = "";
    struct error reason = {0};
    if (s != NULL)
        s->pcap = pcap_create(device->name, text);
    if (s == NULL || s->pcap == NULL) {
        snprintf(info->refusal, sizeof info->refusal, "%s", text);
        return;
    }
    list_stamps(s->pcap, info);
    configure(s, options);
    int status = pcap_activate(s->pcap);
    if (status < 0) {
        explain_activation(s, status, &reason);
        snprintf(info->refusal, sizeof info->refusal, "%s", reason.text);
        return;
    }
    info->promiscuous = status != PCAP_WARNING_PROMISC_NOTSUP;
    info->readable = check_link(s, options, &reason) == 0;
    list_links(s->pcap, info);
}

int source_list(const struct capture_options *options,
                void (*each)(void *context, const struct source_info *info), void *context,
                struct error *err) {
    pcap_if_t *devices = NULL;
    char text[PCAP_ERRBUF_SIZE] = "";
    if (pcap_findalldevs(&devices, text) != 0)
        return error_set(err, ERR_IO, "cannot list interfaces: %s", text);
    for (const pcap_if_t *device = devices; device != NULL; device = device->next) {
        /* Not to be opened for a look: netfilter's queues would lose packets to it. */
        if (if_nametoindex(device->name) == 0 && strcmp(device->name, "any") != 0)
            continue;
        struct source_info info = {.up = (device->flags & PCAP_IF_UP) != 0,
                                   .loopback = (device->flags & PCAP_IF_LOOPBACK) != 0};
        snprintf(info.name, sizeof info.name, "%s", device->name);
        snprintf(info.description, sizeof info.description, "%s",
                 device->description != NULL ? device->description : "");
        look_at(device, options, &info);
        each(context, &info);
    }
    pcap_freealldevs(devices);
    return 0;
}
