#include "tests/property/truth.h"

#include "proto/record.h"

#include <archive.h>
#include <archive_entry.h>
#include <jansson.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SEED_UNIT = 32 };

/* Bytes 32i to 32i+31 are the SHA-256 of "corpus-base-i". */
static void fill_seeded(uint8_t *base, uint64_t size) {
    for (uint64_t i = 0; i < size / SEED_UNIT; i++) {
        char text[48];
        int length = snprintf(text, sizeof text, "corpus-base-%llu", (unsigned long long)i);
        SHA256((const unsigned char *)text, (size_t)length, base + i * SEED_UNIT);
    }
}

static int read_compressed(const char *file, uint8_t *base, uint64_t size, struct error *err) {
    struct archive *a = archive_read_new();
    struct archive_entry *entry;
    archive_read_support_filter_all(a);
    archive_read_support_format_raw(a);
    bool good = archive_read_open_filename(a, file, 65536) == ARCHIVE_OK &&
                archive_read_next_header(a, &entry) == ARCHIVE_OK &&
                archive_read_data(a, base, size) == (la_ssize_t)size;
    archive_read_free(a);
    return good ? 0 : error_set(err, ERR_FORMAT, "%s: cannot be read as an image", file);
}

static int load_base(struct truth_volume *v, const char *directory, const char *base,
                     struct error *err) {
    v->base = calloc(1, v->size);
    if (v->base == NULL)
        return error_set(err, ERR_NOMEM, "out of memory");
    if (strcmp(base, "zeros") == 0)
        return 0;
    if (strcmp(base, "seed:sha256-counter") == 0) {
        fill_seeded(v->base, v->size);
        return 0;
    }
    char file[1024];
    snprintf(file, sizeof file, "%s/%s", directory, base);
    return read_compressed(file, v->base, v->size, err);
}

static const char *text_of(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

static uint64_t number_of(const json_t *object, const char *key) {
    return (uint64_t)json_integer_value(json_object_get(object, key));
}

static int load_volume(struct truth_volume *v, const char *directory, const json_t *from,
                       struct error *err) {
    const char *target = text_of(from, "target");
    v->size = number_of(from, "size");
    v->lun = number_of(from, "lun") << 48;
    uint8_t protocol = strncmp(target, "naa.", 4) == 0 ? PATH_FCP : PATH_ISCSI;
    v->path = record_path_id(protocol, target, strlen(target), v->lun);
    snprintf(v->name, sizeof v->name, "%s", text_of(from, "volume"));
    size_t i;
    json_t *mark;
    json_array_foreach(json_object_get(from, "marks"), i, mark) {
        if (v->mark_count == TRUTH_MARKS)
            break;
        struct truth_mark *m = &v->marks[v->mark_count++];
        m->time_ns = number_of(mark, "time_ns");
        snprintf(m->sha256, sizeof m->sha256, "%s", text_of(mark, "sha256"));
        snprintf(m->label, sizeof m->label, "%s", text_of(mark, "label"));
    }
    return load_base(v, directory, text_of(from, "base"), err);
}

static int load(struct truth *t, const char *directory, const json_t *root, struct error *err) {
    const char *key;
    json_t *file;
    json_t *files = json_object_get(root, "pcaps");
    json_object_foreach(files, key, file) {
        if (t->file_count < TRUTH_FILES &&
            asprintf(&t->files[t->file_count], "%s/%s", directory, json_string_value(file)) > 0)
            t->file_count++;
    }
    size_t i;
    json_t *volume;
    int code = 0;
    json_array_foreach(json_object_get(root, "volumes"), i, volume) {
        if (code == 0 && t->volume_count < TRUTH_VOLUMES)
            code = load_volume(&t->volumes[t->volume_count++], directory, volume, err);
    }
    return code;
}

int truth_load(struct truth *t, const char *directory, const char *name, struct error *err) {
    char file[1024];
    json_error_t why;
    *t = (struct truth){0};
    snprintf(file, sizeof file, "%s/%s.truth.json", directory, name);
    json_t *root = json_load_file(file, 0, &why);
    if (root == NULL)
        return error_set(err, ERR_FORMAT, "%s: %s", file, why.text);
    int code = load(t, directory, root, err);
    json_decref(root);
    if (code < 0)
        truth_release(t);
    return code;
}

void truth_release(struct truth *t) {
    for (size_t i = 0; i < t->file_count; i++)
        free(t->files[i]);
    for (size_t i = 0; i < t->volume_count; i++)
        free(t->volumes[i].base);
    *t = (struct truth){0};
}
