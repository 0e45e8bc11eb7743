/* Stored values cut short, grown, or with a field that cannot be: refused, one by one. */
#include "recoveryd/index/values.h"

#include <criterion/criterion.h>
#include <string.h>

static const struct stamp stamp = {1, 2, 3, 4};

struct decoded {
    struct kv_item item;
    uint64_t path;
    uint64_t number;
    struct stamp stamp;
    uint8_t level;
    struct piece piece;
    struct floor floor;
    struct gap_entry gap;
    struct event_entry event;
    struct path_entry entry;
    struct stream_entry stream;
    struct meta_entry meta;
    struct size_entry size;
    struct resume_entry resume;
    struct derived_entry derived;
    struct audit_entry audit;
    struct audited_entry audited;
    struct thinned_entry thinned;
};

static int as_size(struct decoded *d) {
    return value_decode_size(d->item, &d->size, NULL);
}
static int as_join(struct decoded *d) {
    return value_decode_join(d->item, &d->path, &d->number, NULL);
}
static int as_resume(struct decoded *d) {
    return value_decode_resume(d->item, &d->resume, NULL);
}
static int as_derived(struct decoded *d) {
    return value_decode_derived(d->item, &d->derived, NULL);
}
static int as_audit(struct decoded *d) {
    return value_decode_audit(d->item, &d->audit, NULL);
}
static int as_audited(struct decoded *d) {
    return value_decode_audited(d->item, &d->audited, NULL);
}

static int as_piece(struct decoded *d) {
    return value_decode_piece(d->item, &d->path, &d->number, &d->piece, NULL);
}
static int as_floor(struct decoded *d) {
    return value_decode_floor(d->item, &d->path, &d->floor, NULL);
}
static int as_gap(struct decoded *d) {
    return value_decode_gap(d->item, &d->gap, NULL);
}
static int as_event(struct decoded *d) {
    return value_decode_event(d->item, &d->path, &d->stamp, &d->event, NULL);
}
static int as_path(struct decoded *d) {
    return value_decode_path(d->item, &d->entry, NULL);
}
static int as_stream(struct decoded *d) {
    return value_decode_stream(d->item, &d->stream, NULL);
}
static int as_tally(struct decoded *d) {
    return value_decode_tally(d->item, &d->path, &d->level, &d->number, &d->number, NULL);
}

static int as_thinned(struct decoded *d) {
    return value_decode_thinned(d->item, &d->thinned, NULL);
}

/* Good as it is; bad with any number of bytes less or one more, in the key and in the value. */
static void check_lengths(int (*decode)(struct decoded *), const struct kv_key *key,
                          const struct buffer *value) {
    static struct decoded d;
    uint8_t longer[4096] = {0};
    cr_assert_lt(value->length, sizeof longer);
    memcpy(longer, value->data, value->length);
    d.item =
        (struct kv_item){cursor_of(key->bytes, key->length), cursor_of(value->data, value->length)};
    cr_assert_eq(decode(&d), 0);
    for (size_t length = 0; length <= value->length + 1; length++) {
        if (length == value->length)
            continue;
        d.item.value = cursor_of(longer, length);
        cr_assert_eq(decode(&d), ERR_FORMAT, "a value of %zu bytes", length);
    }
    d.item.value = cursor_of(value->data, value->length);
    for (size_t length = 0; length <= (size_t)key->length + 1; length++) {
        if (length == key->length)
            continue;
        d.item.key = cursor_of(key->bytes, length);
        cr_assert_eq(decode(&d), ERR_FORMAT, "a key of %zu bytes", length);
    }
}

static const struct piece good_piece = {.stamp = {1, 2, 3, 4},
                                        .offset_bytes = INDEX_CHUNK_BYTES + 512,
                                        .length_bytes = 1024,
                                        .whole_offset = INDEX_CHUNK_BYTES,
                                        .extent = {1, 4096, 8192},
                                        .kind = PIECE_DATA};

static int decode_changed(struct piece piece, uint64_t chunk) {
    static struct decoded d;
    AUTO_BUFFER value;
    buffer_init(&value, 4096);
    value_encode_piece(&value, &piece);
    struct kv_key key = key_piece(5, chunk, &piece.stamp);
    d.item =
        (struct kv_item){cursor_of(key.bytes, key.length), cursor_of(value.data, value.length)};
    return as_piece(&d);
}

Test(index_values, lengths_are_exact) {
    AUTO_BUFFER value;
    buffer_init(&value, 4096);
    struct kv_key key = key_piece(5, 1, &stamp);
    value_encode_piece(&value, &good_piece);
    check_lengths(as_piece, &key, &value);
    buffer_clear(&value);
    key = key_floor(5, &stamp, FLOOR_ZERO);
    value_encode_floor(&value, &(struct floor){.kind = FLOOR_ZERO, .text = "a file"});
    check_lengths(as_floor, &key, &value);
    buffer_clear(&value);
    key = key_stamped(5, &stamp);
    value_encode_gap(&value, &(struct gap_entry){.length_bytes = 512, .text = "why"});
    check_lengths(as_gap, &key, &value);
    buffer_clear(&value);
    value_encode_event(&value, &(struct event_entry){.op = UPDATE_ZERO, .length_bytes = 512});
    check_lengths(as_event, &key, &value);
    buffer_clear(&value);
    key = key_path(5);
    value_encode_path(&value,
                      &(struct path_entry){.target = "t", .designator = "d", .serial = "s"});
    check_lengths(as_path, &key, &value);
    buffer_clear(&value);
    key = key_stream(1, 2);
    static struct stream_entry stream = {
        .name = "m", .frontier = 1, .run_count = 2, .runs = {{2, 3, 0}, {4, 5, 0}}};
    value_encode_stream(&value, &stream);
    check_lengths(as_stream, &key, &value);
    buffer_clear(&value);
    key = key_tally(5, 0, 1);
    value_encode_tally(&value, 7);
    check_lengths(as_tally, &key, &value);
    buffer_clear(&value);
    key = key_thinned(5, 9);
    value_encode_thinned(&value, &(struct thinned_entry){.from_ns = 8});
    check_lengths(as_thinned, &key, &value);
}

Test(index_values, a_stretch_that_was_thinned_out_is_checked) {
    static const struct {
        uint64_t from_ns;
        uint64_t next_chunk;
        bool good;
    } rows[] = {
        {0, 0, true},   {8, THINNED_HISTORY, true},     {8, THINNED_DONE, true}, {9, 0, false},
        {10, 0, false}, {8, THINNED_HISTORY + 1, false}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        AUTO_BUFFER value;
        buffer_init(&value, 64);
        struct kv_key key = key_thinned(5, 9);
        struct thinned_entry e = {.from_ns = rows[i].from_ns, .next_chunk = rows[i].next_chunk};
        value_encode_thinned(&value, &e);
        struct kv_item item = {cursor_of(key.bytes, key.length),
                               cursor_of(value.data, value.length)};
        cr_assert_eq(value_decode_thinned(item, &e, NULL), rows[i].good ? 0 : ERR_FORMAT);
    }
}

Test(index_values, the_name_in_a_retention_is_checked) {
    struct retention_entry e = {.volume = "naa.1", .every_ns = 1, .step_ns = 2, .until_ns = 3};
    struct kv_key key = key_retention("naa.1");
    AUTO_BUFFER value;
    buffer_init(&value, 1024);
    value_encode_retention(&value, &e);
    struct kv_item item = {cursor_of(key.bytes, key.length), cursor_of(value.data, value.length)};
    memset(&e, 0, sizeof e);
    cr_assert_eq(value_decode_retention(item, &e, NULL), 0);
    cr_assert_str_eq(e.volume, "naa.1");
    cr_assert(e.every_ns == 1 && e.step_ns == 2 && e.until_ns == 3 && e.bytes == 0);
    item.value = cursor_of(value.data, 31);
    cr_assert_eq(value_decode_retention(item, &e, NULL), ERR_FORMAT);
    value.data[33] = 0;
    item.value = cursor_of(value.data, value.length);
    cr_assert_eq(value_decode_retention(item, &e, NULL), ERR_FORMAT, "a NUL in a name");
    char name[LIMIT_NAME_BYTES + 1] = {'x'};
    buffer_put(&value, name, sizeof name);
    memset(value.data + 32, 'x', value.length - 32);
    item.value = cursor_of(value.data, value.length);
    cr_assert_eq(value_decode_retention(item, &e, NULL), ERR_FORMAT, "too long");
}

Test(index_values, piece_ranges_are_checked) {
    cr_assert_eq(decode_changed(good_piece, 1), 0);
    cr_assert_eq(decode_changed(good_piece, 0), ERR_FORMAT, "not of this chunk");
    cr_assert_eq(decode_changed(good_piece, level_chunk(1, 0)), 0);
    cr_assert_eq(decode_changed(good_piece, level_chunk(LEVELS, 0)), ERR_FORMAT);
    struct piece p = good_piece;
    p.length_bytes = 0;
    cr_assert_eq(decode_changed(p, 1), ERR_FORMAT);
    p.length_bytes = 4096;
    cr_assert_eq(decode_changed(p, 1), ERR_FORMAT, "more than the payload has");
    p.kind = PIECE_PATTERN;
    cr_assert_eq(decode_changed(p, 1), 0, "a pattern repeats");
    p.length_bytes = INDEX_CHUNK_BYTES;
    cr_assert_eq(decode_changed(p, 1), ERR_FORMAT, "across the chunk's end");
    p.length_bytes = UINT64_MAX;
    cr_assert_eq(decode_changed(p, 1), ERR_FORMAT);
    p = good_piece;
    p.whole_offset = p.offset_bytes + 1;
    cr_assert_eq(decode_changed(p, 1), ERR_FORMAT);
    p = good_piece;
    p.extent.segment = 0;
    cr_assert_eq(decode_changed(p, 1), ERR_FORMAT);
    p = good_piece;
    p.extent.bytes = LIMIT_UPDATE_PAYLOAD_BYTES + 1;
    cr_assert_eq(decode_changed(p, 1), ERR_FORMAT);
    p.extent.bytes = 0;
    p.kind = PIECE_PATTERN;
    cr_assert_eq(decode_changed(p, 1), ERR_FORMAT, "a pattern of nothing");
    p = good_piece;
    p.kind = PIECE_GAP + 1;
    cr_assert_eq(decode_changed(p, 1), ERR_FORMAT);
    p.kind = 0;
    cr_assert_eq(decode_changed(p, 1), ERR_FORMAT);
}

Test(index_values, runs_of_a_stream_are_checked) {
    static struct decoded d;
    static struct stream_entry bad[] = {
        {.frontier = 5, .run_count = 1, .runs = {{4, 6, 0}}},
        {.frontier = 5, .run_count = 1, .runs = {{6, 6, 0}}},
        {.frontier = 5, .run_count = 2, .runs = {{6, 9, 0}, {8, 10, 0}}},
    };
    struct kv_key key = key_stream(1, 2);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        AUTO_BUFFER value;
        buffer_init(&value, 4096);
        value_encode_stream(&value, &bad[i]);
        d.item =
            (struct kv_item){cursor_of(key.bytes, key.length), cursor_of(value.data, value.length)};
        cr_assert_eq(as_stream(&d), ERR_FORMAT);
        buffer_patch_le(&value, value.length - 16 - bad[i].run_count * 24 - 4, UINT32_MAX, 4);
        d.item.value = cursor_of(value.data, value.length);
        cr_assert_eq(as_stream(&d), ERR_FORMAT, "more runs than there may be");
    }
}

Test(index_values, text_lengths_are_checked) {
    static struct decoded d;
    AUTO_BUFFER value;
    buffer_init(&value, 4096);
    struct kv_key key = key_floor(5, &stamp, FLOOR_GAP);
    value_encode_floor(&value, &(struct floor){.kind = FLOOR_GAP, .text = "abc"});
    size_t at = value.length - 5;
    d.item.key = cursor_of(key.bytes, key.length);
    for (uint64_t length = 0; length < 300; length++) {
        buffer_patch_le(&value, at, length, 2);
        d.item.value = cursor_of(value.data, value.length);
        cr_assert_eq(as_floor(&d), length == 3 ? 0 : ERR_FORMAT);
    }
    buffer_patch_le(&value, at, 3, 2);
    buffer_patch_le(&value, at + 3, 0, 1);
    d.item.value = cursor_of(value.data, value.length);
    cr_assert_eq(as_floor(&d), ERR_FORMAT, "a NUL inside");
}

static const struct derived_entry good_copy = {.stamp = {1, 2, 3, 4},
                                               .path = 5,
                                               .offset_bytes = 4096,
                                               .length_bytes = 8192,
                                               .op = UPDATE_COPY,
                                               .state = DERIVED_WAITING,
                                               .source_path = 6,
                                               .source_offset_bytes = 512,
                                               .source_from_ns = 7,
                                               .source_until_ns = 8};
static const struct derived_entry good_or = {.stamp = {1, 2, 3, 4},
                                             .path = 5,
                                             .length_bytes = 512,
                                             .op = UPDATE_OR,
                                             .payload = {1, 512, 4096}};

static int decode_derived(const struct derived_entry *entry, struct derived_entry *out) {
    static struct decoded d;
    AUTO_BUFFER value;
    buffer_init(&value, 4096);
    struct kv_key key = key_waiting(&entry->stamp, entry->path);
    value_encode_derived(&value, entry);
    d.item =
        (struct kv_item){cursor_of(key.bytes, key.length), cursor_of(value.data, value.length)};
    int code = as_derived(&d);
    *out = d.derived;
    return code;
}

Test(index_values, lengths_of_what_waits_are_exact) {
    AUTO_BUFFER value;
    buffer_init(&value, 4096);
    struct kv_key key = key_waiting(&stamp, 5);
    value_encode_derived(&value, &good_copy);
    check_lengths(as_derived, &key, &value);
    buffer_clear(&value);
    value_encode_derived(&value, &good_or);
    check_lengths(as_derived, &key, &value);
    buffer_clear(&value);
    const uint8_t crcs[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    struct audit_entry audit = {.block_bytes = 512, .blocks = 2, .sums = crcs};
    value_encode_audit(&value, &audit);
    check_lengths(as_audit, &key, &value);
    buffer_clear(&value);
    key = key_path(5);
    value_encode_audited(&value, &(struct audited_entry){.blocks = 1});
    check_lengths(as_audited, &key, &value);
    buffer_clear(&value);
    key = key_size(5, 6);
    value_encode_size(&value, &(struct size_entry){.size_bytes = 7, .block_bytes = 512});
    check_lengths(as_size, &key, &value);
    buffer_clear(&value);
    key = key_join(5, 6);
    check_lengths(as_join, &key, &value);
    key = key_resume(&(struct resume_entry){1, 2, 3, 4, 5});
    check_lengths(as_resume, &key, &value);
}

Test(index_values, derived_entries_survive_and_impossible_ones_are_refused) {
    struct derived_entry out;
    cr_assert_eq(decode_derived(&good_copy, &out), 0);
    cr_assert_eq(memcmp(&out, &good_copy, sizeof out), 0);
    cr_assert_eq(decode_derived(&good_or, &out), 0);
    cr_assert_eq(memcmp(&out, &good_or, sizeof out), 0);
    struct derived_entry bad[9];
    for (size_t i = 0; i < 6; i++)
        bad[i] = good_copy;
    for (size_t i = 6; i < 9; i++)
        bad[i] = good_or;
    bad[0].length_bytes = DERIVED_MOST_BYTES + 1;
    bad[1].source_offset_bytes = INT64_MAX;
    bad[2].source_path = 0;
    bad[3].source_until_ns = 6;
    bad[4].state = DERIVED_STATES;
    bad[5].offset_bytes = UINT64_MAX - 4096;
    bad[6].payload.bytes = 511;
    bad[7].payload.segment = 0;
    bad[8].op = UPDATE_WRITE;
    for (size_t i = 0; i < 9; i++)
        cr_assert_eq(decode_derived(&bad[i], &out), ERR_FORMAT, "number %zu", i);
}

Test(index_values, an_audit_of_impossible_size_is_refused) {
    static struct decoded d;
    AUTO_BUFFER value;
    buffer_init(&value, 8192);
    const uint8_t crcs[8] = {0};
    struct kv_key key = key_waiting(&stamp, 5);
    value_encode_audit(&value,
                       &(struct audit_entry){.block_bytes = 512, .blocks = 2, .sums = crcs});
    static const struct {
        size_t at;
        uint64_t value;
        size_t width;
    } patches[] = {{16, 0, 4},          {20, 0, 4},
                   {20, 1, 4},          {20, 3, 4},
                   {20, UINT32_MAX, 4}, {20, AUDIT_BLOCKS + 1, 4},
                   {8, UINT64_MAX, 8},  {8, INT64_MAX - 512, 8}};
    for (size_t i = 0; i < sizeof patches / sizeof patches[0]; i++) {
        AUTO_BUFFER changed;
        buffer_init(&changed, 8192);
        buffer_put(&changed, value.data, value.length);
        buffer_patch_le(&changed, patches[i].at, patches[i].value, patches[i].width);
        d.item = (struct kv_item){cursor_of(key.bytes, key.length),
                                  cursor_of(changed.data, changed.length)};
        cr_assert_eq(as_audit(&d), ERR_FORMAT, "patch %zu", i);
    }
}

/* A key with a part, cut short anywhere but where the part begins. */
static void check_lengths_of_part(const struct kv_key *key, const struct buffer *value) {
    static struct decoded d;
    d.item.value = cursor_of(value->data, value->length);
    for (size_t length = 0; length < key->length; length++) {
        d.item.key = cursor_of(key->bytes, length);
        cr_assert_eq(as_piece(&d), length == key->length - 8u ? 0 : ERR_FORMAT);
    }
}

Test(index_values, a_part_behind_a_stamp_comes_back_and_zero_is_none) {
    static struct decoded d;
    struct piece piece = good_piece;
    AUTO_BUFFER value;
    buffer_init(&value, 4096);
    value_encode_piece(&value, &piece);
    struct kv_key key = key_piece(5, 1, &stamp);
    key_add_part(&key, 77);
    d.item =
        (struct kv_item){cursor_of(key.bytes, key.length), cursor_of(value.data, value.length)};
    cr_assert_eq(as_piece(&d), 0);
    cr_assert_eq(d.piece.part, 77);
    check_lengths_of_part(&key, &value);
    key = key_piece(5, 1, &stamp);
    kv_key_add(&key, 0, 8);
    d.item =
        (struct kv_item){cursor_of(key.bytes, key.length), cursor_of(value.data, value.length)};
    cr_assert_eq(as_piece(&d), ERR_FORMAT, "a part that should not be there");
}
