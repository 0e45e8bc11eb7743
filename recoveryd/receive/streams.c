#include "recoveryd/receive/streams.h"

#include "proto/stamp.h"
#include "proto/when.h"
#include "recoveryd/receive/marks.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* A failed allocation inside the hash table must not end the program. */
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

struct stream_key {
    uint64_t monitor;
    uint64_t stream;
};

struct slot {
    struct stream stream; /* first: callers get a pointer to it */
    struct stream_key key;
    size_t holders;  /* batches under way */
    bool superseded; /* a newer start of the monitor said HELLO */
    UT_hash_handle hh;
};

struct streams {
    pthread_mutex_t lock; /* guards all below, and the entries */
    struct slot *slots;   /* oldest first, as uthash keeps them */
    size_t count;
    size_t limit;
};

struct streams *streams_create(size_t limit) {
    struct streams *s = calloc(1, sizeof *s);
    if (s == NULL)
        return NULL;
    pthread_mutex_init(&s->lock, NULL);
    s->limit = limit;
    return s;
}

static void remove_slot(struct streams *s, struct slot *slot) {
    HASH_DEL(s->slots, slot);
    s->count--;
    waiting_release(&slot->stream.waiting);
    free(slot);
}

void streams_destroy(struct streams *s) {
    if (s == NULL)
        return;
    while (s->slots != NULL)
        remove_slot(s, s->slots);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

static struct slot *find_slot(struct streams *s, uint64_t monitor, uint64_t id) {
    struct stream_key key = {monitor, id};
    struct slot *slot = NULL;
    if (s->slots != NULL)
        HASH_FIND(hh, s->slots, &key, sizeof key, slot);
    return slot;
}

/* A stream that said HELLO and nothing else makes room when strangers fill the table. */
static void make_room(struct streams *s) {
    for (struct slot *slot = s->slots; slot != NULL; slot = slot->hh.next) {
        if (!slot->stream.stored && slot->holders == 0 &&
            waiting_count(&slot->stream.waiting) == 0) {
            remove_slot(s, slot);
            return;
        }
    }
}

static struct slot *add_slot(struct streams *s, const struct stream_entry *entry, bool stored) {
    if (s->count >= s->limit)
        make_room(s);
    struct slot *slot = s->count < s->limit ? calloc(1, sizeof *slot) : NULL;
    if (slot == NULL)
        return NULL;
    slot->stream.entry = *entry;
    slot->stream.stored = stored;
    slot->key = (struct stream_key){entry->monitor, entry->stream};
    HASH_ADD(hh, s->slots, key, sizeof slot->key, slot);
    if (slot->hh.tbl == NULL) {
        free(slot);
        return NULL;
    }
    s->count++;
    return slot;
}

static bool load_one(void *context, const struct stream_entry *entry) {
    return add_slot(context, entry, true) != NULL;
}

int streams_load(struct streams *s, struct index *index, struct error *err) {
    AUTO(index_reader) reader = NULL;
    int code = index_read(index, &reader, err);
    if (code == 0)
        code = index_each_stream(reader, load_one, s, err);
    if (code == 0 && s->count >= s->limit)
        return error_set(err, ERR_FULL, "the store knows %zu streams, more than this server holds",
                         s->count);
    return code;
}

/* --- greeting ------------------------------------------------------------------------------------
 */

/* Names go to terminals, logs and file names: printable UTF-8 of at least one byte. */
static bool is_name(const char *name, size_t bytes) {
    if (bytes == 0 || bytes > LIMIT_NAME_BYTES)
        return false;
    for (size_t i = 0; i < bytes; i++) {
        unsigned char c = (unsigned char)name[i];
        if (c < 0x20 || c == 0x7f)
            return false;
    }
    return true;
}

static struct slot *newest_of(struct streams *s, uint64_t monitor) {
    struct slot *newest = NULL;
    for (struct slot *slot = s->slots; slot != NULL; slot = slot->hh.next) {
        if (slot->key.monitor == monitor &&
            (newest == NULL || slot->key.stream > newest->key.stream))
            newest = slot;
    }
    return newest;
}

static int refuse_older(const char *name, const struct slot *newer, struct error *err) {
    char since[WHEN_TEXT_BYTES];
    return error_set(err, ERR_BUSY,
                     "monitor %s: another tapd of this name was started later (%s); give each its "
                     "own --monitor name, or set this machine's clock if it went back",
                     name, when_print_utc(newer->key.stream, since));
}

static void supersede_older(struct streams *s, const struct slot *newer) {
    for (struct slot *slot = s->slots; slot != NULL; slot = slot->hh.next) {
        if (slot->key.monitor == newer->key.monitor && slot->key.stream < newer->key.stream)
            slot->superseded = true;
    }
}

static int check_name(const struct message_hello *hello, char *name, struct error *err) {
    if (!is_name(hello->name, hello->name_bytes))
        return error_set(err, ERR_FORMAT,
                         "a monitor's name has 1 to %d bytes, none of them a control character",
                         LIMIT_NAME_BYTES);
    memcpy(name, hello->name, hello->name_bytes);
    name[hello->name_bytes] = '\0';
    if (hello->monitor != stamp_monitor_id(name))
        return error_set(err, ERR_FORMAT, "monitor %s introduces itself with the number of another",
                         name);
    return 0;
}

static int greet(struct streams *s, const struct message_hello *hello, const char *name,
                 uint64_t *frontier, struct error *err) {
    struct slot *newest = newest_of(s, hello->monitor);
    if (newest != NULL && strcmp(newest->stream.entry.name, name) != 0)
        return error_set(err, ERR_BUSY,
                         "the name %s has the same number as monitor %s: choose another --monitor",
                         name, newest->stream.entry.name);
    struct slot *slot = find_slot(s, hello->monitor, hello->stream);
    if ((slot != NULL && slot->superseded) ||
        (slot == NULL && newest != NULL && newest->key.stream > hello->stream))
        return refuse_older(name, newest, err);
    if (slot == NULL) {
        struct stream_entry entry = {.monitor = hello->monitor, .stream = hello->stream};
        memcpy(entry.name, name, sizeof entry.name);
        slot = add_slot(s, &entry, false);
    }
    if (slot == NULL)
        return error_set(err, ERR_FULL, "this server holds as many streams as it can");
    supersede_older(s, slot);
    *frontier = slot->stream.entry.frontier;
    return 0;
}

int streams_hello(struct streams *s, const struct message_hello *hello, uint64_t *frontier,
                  struct error *err) {
    char name[LIMIT_NAME_BYTES + 1] = {0};
    int code = check_name(hello, name, err);
    if (code < 0)
        return code;
    pthread_mutex_lock(&s->lock);
    code = greet(s, hello, name, frontier, err);
    pthread_mutex_unlock(&s->lock);
    return code;
}

/* --- batches -------------------------------------------------------------------------------------
 */

struct stream *streams_admit(struct streams *s, uint64_t monitor, uint64_t id, bool *superseded) {
    pthread_mutex_lock(&s->lock);
    struct slot *slot = find_slot(s, monitor, id);
    *superseded = slot != NULL && slot->superseded;
    if (slot != NULL)
        slot->holders++;
    pthread_mutex_unlock(&s->lock);
    return slot != NULL ? &slot->stream : NULL;
}

void streams_release(struct streams *s, struct stream *stream) {
    struct slot *slot = (struct slot *)stream;
    pthread_mutex_lock(&s->lock);
    slot->holders--;
    pthread_mutex_unlock(&s->lock);
}

bool streams_have_all(struct streams *s, struct stream *stream, const struct landing *landing) {
    bool all = true;
    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < landing->count && all; i++)
        all = marks_have(&stream->entry, landing->arrivals[i].order);
    pthread_mutex_unlock(&s->lock);
    return all;
}

void streams_install(struct streams *s, struct stream *stream, const struct stream_entry *entry) {
    pthread_mutex_lock(&s->lock);
    stream->entry = *entry;
    stream->stored = true;
    pthread_mutex_unlock(&s->lock);
}
