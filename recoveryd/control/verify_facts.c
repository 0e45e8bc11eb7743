#include "recoveryd/control/verify_facts.h"

#include "recoveryd/control/commands.h"
#include "recoveryd/store/segment_file.h"

#include <inttypes.h>
#include <stdio.h>

static json_t *segment_fact(uint32_t segment) {
    char name[SEGMENT_NAME_BYTES];
    if (segment == 0)
        return json_null();
    segment_file_name(segment, name);
    return json_string(name);
}

static json_t *volume_fact(const struct verify_volume *v) {
    return json_pack("{s:o,s:o,s:o,s:o,s:o,s:o}", "volume", fact_text(v->volume->name), "id",
                     fact_text(v->volume->id), "pieces", fact_number(v->pieces), "payloads",
                     fact_number(v->payloads), "bytes", fact_number(v->bytes), "damaged",
                     fact_number(v->damaged));
}

/* Random numbers of 64 bits: JSON's cannot hold them. */
static json_t *number_text(uint64_t number) {
    char text[17];
    snprintf(text, sizeof text, "%016" PRIx64, number);
    return json_string(text);
}

static json_t *damage_fact(const struct verify_damage *d) {
    json_t *fact = json_pack("{s:o,s:o,s:o,s:o}", "volume", fact_text(d->volume->name), "id",
                             fact_text(d->volume->id), "offset_bytes", fact_number(d->offset_bytes),
                             "length_bytes", fact_number(d->length_bytes));
    fact_put_time(fact, "time", d->time_ns);
    json_object_set_new(fact, "monitor",
                        d->from_monitor ? number_text(d->stamp.monitor) : json_null());
    json_object_set_new(fact, "stream",
                        d->from_monitor ? number_text(d->stamp.stream) : json_null());
    json_object_set_new(fact, "order", d->from_monitor ? fact_number(d->stamp.order) : json_null());
    json_object_set_new(fact, "segment", segment_fact(d->extent.segment));
    json_object_set_new(fact, "segment_offset", fact_number(d->extent.offset));
    json_object_set_new(fact, "segment_bytes", fact_number(d->extent.bytes));
    json_object_set_new(fact, "why", fact_text(d->why));
    return fact;
}

static json_t *stretches_fact(const struct verify_result *r) {
    json_t *list = json_array();
    for (size_t i = 0; i < r->stretch_count; i++) {
        const struct verify_stretch *s = &r->stretches[i];
        json_array_append_new(list,
                              json_pack("{s:o,s:o,s:o,s:o}", "segment", segment_fact(s->segment),
                                        "offset", fact_number(s->offset), "bytes",
                                        fact_number(s->bytes), "why", fact_text(s->why)));
    }
    return list;
}

static json_t *unused_fact(const struct verify_result *r) {
    json_t *list = json_array();
    for (size_t i = 0; i < r->unused_count; i++)
        json_array_append_new(list,
                              json_pack("{s:o,s:o}", "segment", segment_fact(r->unused[i].segment),
                                        "bytes", fact_number(r->unused[i].bytes)));
    return list;
}

static json_t *segments_fact(const struct verify_result *r) {
    if (!r->has_segments)
        return json_null();
    return json_pack("{s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o}", "files",
                     fact_number(r->segments), "reclaimed_bytes", fact_number(r->reclaimed_bytes),
                     "bytes", fact_number(r->segment_bytes), "batches", fact_number(r->batches),
                     "records", fact_number(r->records), "unknown_records",
                     fact_number(r->unknown_records), "torn_ends", fact_number(r->torn_ends),
                     "torn_bytes", fact_number(r->torn_bytes), "unused", unused_fact(r),
                     "unused_left_out", fact_number(r->unused_left_out), "damaged",
                     stretches_fact(r), "damaged_left_out", fact_number(r->stretches_left_out));
}

json_t *verify_facts(const struct verify_result *result) {
    json_t *volumes = json_array();
    json_t *damaged = json_array();
    for (size_t i = 0; i < result->volume_count; i++)
        json_array_append_new(volumes, volume_fact(&result->volumes[i]));
    for (size_t i = 0; i < result->damage_count; i++)
        json_array_append_new(damaged, damage_fact(&result->damages[i]));
    return json_pack("{s:b,s:o,s:o,s:o,s:o}", "good", verify_is_good(result), "volumes", volumes,
                     "damaged", damaged, "damaged_left_out", fact_number(result->damages_left_out),
                     "segments", segments_fact(result));
}
