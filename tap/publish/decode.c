#include "tap/publish/decode.h"

#include "proto/lun.h"
#include "tap/publish/stamper.h"
#include "tap/scsi/payload.h"

#include <jansson.h>

struct decode_sink {
    struct sink sink; /* first: the functions get a pointer to it */
    FILE *out;
    struct stamper stamper;
};

static const char *op_name(enum update_op op) {
    switch (op) {
    case UPDATE_WRITE:
        return "write";
    case UPDATE_ZERO:
        return "zero";
    case UPDATE_PATTERN:
        return "pattern";
    case UPDATE_FLUSH:
        return "flush";
    case UPDATE_COPY:
        return "copy";
    case UPDATE_OR:
        return "or";
    case UPDATE_XOR:
        return "xor";
    }
    return "unknown";
}

/* SAM-6, 5.3.1 */
static json_t *status_name(uint8_t status) {
    static const struct {
        uint8_t status;
        const char *name;
    } names[] = {
        {0x00, "good"},       {0x02, "check_condition"},      {0x04, "condition_met"},
        {0x08, "busy"},       {0x18, "reservation_conflict"}, {0x28, "task_set_full"},
        {0x30, "aca_active"}, {0x40, "task_aborted"},
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (names[i].status == status)
            return json_string(names[i].name);
    }
    return json_sprintf("0x%02x", status);
}

static const char *protocol_name(uint8_t protocol) {
    switch (protocol) {
    case PATH_ISCSI:
        return "iscsi";
    case PATH_FCP:
        return "fcoe";
    case PATH_NVME:
        return "nvme-tcp";
    default:
        return "unknown";
    }
}

static void set_path(json_t *line, const struct sink_path *path) {
    char name[PATH_NAME_BYTES];
    json_object_set_new(line, "volume", json_string(lun_path_name(path->target, path->lun, name)));
    uint64_t number = lun_number(path->lun);
    char text[LUN_TEXT_BYTES];
    json_object_set_new(line, "lun",
                        number != UINT64_MAX ? json_integer((json_int_t)number)
                                             : json_string(lun_text(path->lun, text)));
}

static void set_origin(json_t *line, const char *initiator, const struct sink_path *path) {
    json_object_set_new(line, "initiator", initiator ? json_string(initiator) : json_null());
    json_object_set_new(line, "target", path ? json_string(path->target) : json_null());
    json_object_set_new(line, "protocol",
                        path ? json_string(protocol_name(path->protocol)) : json_null());
}

static void print_line(struct decode_sink *d, json_t *line) {
    json_dumpf(line, d->out, JSON_COMPACT);
    fputc('\n', d->out);
    json_decref(line);
}

static json_t *integer(uint64_t value) {
    return json_integer((json_int_t)value);
}

static json_t *data_crc(const struct sink_update *update) {
    struct range hole;
    if (update->data == NULL ||
        payload_missing(update->data, 0, payload_length(update->data), &hole))
        return json_null();
    return json_sprintf("%08x", payload_crc32c(update->data, 0, payload_length(update->data)));
}

static void set_source(json_t *line, const struct sink_update *update) {
    char name[PATH_NAME_BYTES];
    if (update->source == NULL)
        return;
    const struct sink_path *source = update->source;
    json_object_set_new(line, "source_volume",
                        json_string(lun_path_name(source->target, source->lun, name)));
    json_object_set_new(line, "source_lba", integer(update->source_lba));
    json_object_set_new(line, "source_from_ns", integer(update->source_from_ns));
    json_object_set_new(line, "source_until_ns", integer(update->source_until_ns));
}

static void decode_update(struct sink *s, const struct sink_update *update) {
    struct decode_sink *d = (struct decode_sink *)s;
    if (update->op == UPDATE_FLUSH)
        return;
    json_t *line = json_object();
    uint64_t bytes = update->blocks * update->block_bytes;
    json_object_set_new(
        line, "time_ns",
        integer(update->applied ? stamper_time(&d->stamper, update->time_ns) : update->time_ns));
    json_object_set_new(line, "order",
                        update->applied ? integer(stamper_order(&d->stamper)) : json_null());
    set_path(line, update->path);
    json_object_set_new(line, "op", json_string(op_name(update->op)));
    json_object_set_new(line, "lba", integer(update->lba));
    json_object_set_new(line, "blocks", integer(update->blocks));
    json_object_set_new(line, "block_size", integer(update->block_bytes));
    json_object_set_new(line, "bytes", integer(bytes));
    json_object_set_new(line, "status", status_name(update->status));
    json_object_set_new(line, "crc32c", data_crc(update));
    set_source(line, update);
    set_origin(line, update->initiator, update->path);
    json_object_set_new(line, "opcode", integer(update->opcode));
    json_object_set_new(line, "issued_ns", integer(update->issued_ns));
    print_line(d, line);
}

static void decode_gap(struct sink *s, const struct sink_gap *gap) {
    struct decode_sink *d = (struct decode_sink *)s;
    json_t *line = json_object();
    json_object_set_new(line, "time_ns", integer(stamper_time(&d->stamper, gap->time_ns)));
    json_object_set_new(line, "order", integer(stamper_order(&d->stamper)));
    if (gap->path != NULL)
        set_path(line, gap->path);
    else
        json_object_set_new(line, "volume", json_null());
    json_object_set_new(line, "op", json_string("gap"));
    uint32_t block = gap->path != NULL && gap->path->block_bytes > 0 ? gap->path->block_bytes : 0;
    bool to_end = gap->length_bytes == GAP_TO_END;
    if (block > 0) {
        json_object_set_new(line, "lba", integer(gap->offset_bytes / block));
        json_object_set_new(line, "blocks",
                            to_end ? json_null() : integer(gap->length_bytes / block));
        json_object_set_new(line, "block_size", integer(block));
    }
    json_object_set_new(line, "offset_bytes", integer(gap->offset_bytes));
    json_object_set_new(line, "bytes", to_end ? json_null() : integer(gap->length_bytes));
    json_object_set_new(line, "reason", json_string(record_gap_reason(gap->reason)));
    json_object_set_new(line, "text", json_string(gap->text));
    set_origin(line, gap->initiator, gap->path);
    print_line(d, line);
}

static void decode_audit(struct sink *s, const struct sink_audit *audit) {
    struct decode_sink *d = (struct decode_sink *)s;
    json_t *line = json_object();
    json_object_set_new(line, "time_ns", integer(stamper_time(&d->stamper, audit->time_ns)));
    json_object_set_new(line, "order", integer(stamper_order(&d->stamper)));
    set_path(line, audit->path);
    json_object_set_new(line, "op", json_string("audit"));
    json_object_set_new(line, "lba", integer(audit->lba));
    json_object_set_new(line, "blocks", integer(audit->blocks));
    json_object_set_new(line, "block_size", integer(audit->block_bytes));
    json_object_set_new(line, "bytes", integer((uint64_t)audit->blocks * audit->block_bytes));
    json_t *sums = json_array();
    for (uint32_t i = 0; i < audit->blocks; i++)
        json_array_append_new(sums, json_sprintf("%08x", audit->sums[i]));
    json_object_set_new(line, "sums", sums);
    json_object_set_new(line, "issued_ns", integer(audit->issued_ns));
    print_line(d, line);
}

static void decode_path(struct sink *s, const struct sink_path *path, uint64_t time_ns) {
    (void)s;
    (void)path;
    (void)time_ns;
}

struct decode_sink *decode_create(FILE *out) {
    struct decode_sink *d = calloc(1, sizeof *d);
    if (d == NULL)
        return NULL;
    d->sink = (struct sink){
        .update = decode_update, .gap = decode_gap, .path = decode_path, .audit = decode_audit};
    d->out = out;
    return d;
}

void decode_destroy(struct decode_sink *d) {
    free(d);
}

struct sink *decode_sink(struct decode_sink *d) {
    return &d->sink;
}
