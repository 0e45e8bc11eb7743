#include "recoveryd/control/exactness.h"

#include "recoveryd/image/clock.h"
#include "recoveryd/image/image.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { REMEMBERED = 4096 };

/* Everything that decides it, as numbers. */
struct grounds {
    uint64_t first_ns;
    uint64_t size_bytes;
    uint64_t facts;
    struct waiting_counts waiting;
    uint64_t updates;
    uint64_t gaps;
    struct stamp newest_gap;
    uint64_t reach_ns; /* of the monitors' clocks */
    uint64_t paths;
    uint64_t strangers; /* a sum of their numbers */
    uint64_t strange_changes;
};

struct memory {
    char *id; /* of the volume; owned */
    struct grounds grounds;
    struct exactness_answer answer;
};

struct exactness {
    struct store *store;
    pthread_mutex_t lock; /* guards all below */
    struct memory *memories;
    size_t count;
};

struct exactness *exactness_create(struct store *store) {
    struct exactness *x = calloc(1, sizeof *x);
    if (x == NULL)
        return NULL;
    x->store = store;
    pthread_mutex_init(&x->lock, NULL);
    return x;
}

static void forget(struct exactness *x) {
    for (size_t i = 0; i < x->count; i++)
        free(x->memories[i].id);
    free(x->memories);
    x->memories = NULL;
    x->count = 0;
}

void exactness_destroy(struct exactness *x) {
    if (x == NULL)
        return;
    forget(x);
    pthread_mutex_destroy(&x->lock);
    free(x);
}

/* --- grounds -------------------------------------------------------------------------------------
 */

static bool count_gap(void *context, const struct gap_entry *gap) {
    struct grounds *g = context;
    g->gaps++;
    if (stamp_compare(&gap->stamp, &g->newest_gap) > 0)
        g->newest_gap = gap->stamp;
    return true;
}

static int count_path(struct index_reader *r, const struct volume *v, uint64_t path,
                      struct grounds *g, struct clock_table *clocks, struct error *err) {
    uint64_t updates = 0;
    int code = index_count_updates(r, path, v->watermark_ns, &updates, err);
    g->updates += updates;
    if (code == 0)
        code = index_each_gap(r, path, v->watermark_ns, count_gap, g, err);
    return code == 0 ? clock_table_add_path(clocks, r, path, err) : code;
}

static int count_stranger(struct index_reader *r, const struct volume *v, uint64_t path,
                          struct grounds *g, struct clock_table *clocks, struct error *err) {
    struct grounds strange = {0};
    int code = count_path(r, v, path, &strange, clocks, err);
    g->strangers += path;
    g->strange_changes += strange.updates + strange.gaps;
    return code;
}

static int read_grounds(struct index_reader *r, const struct volume *v, struct grounds *g,
                        struct error *err) {
    struct clock_table clocks = {0};
    memset(g, 0, sizeof *g); /* compared byte by byte */
    g->first_ns = v->first_ns;
    g->size_bytes = volume_size_at(v, v->watermark_ns).size_bytes;
    g->paths = v->path_count;
    int code = index_facts(r, &g->facts, err);
    if (code == 0)
        code = index_count_waiting(r, &g->waiting, err);
    for (size_t i = 0; code == 0 && i < v->path_count; i++)
        code = count_path(r, v, v->paths[i].path, g, &clocks, err);
    for (size_t i = 0; code == 0 && i < v->stranger_count; i++)
        code = count_stranger(r, v, v->strangers[i]->path, g, &clocks, err);
    if (code == 0)
        code = clock_table_read_errors(&clocks, r, err);
    g->reach_ns = clock_table_reach(&clocks);
    return code;
}

/* --- memory --------------------------------------------------------------------------------------
 */

static struct memory *find(struct exactness *x, const char *id) {
    for (size_t i = 0; i < x->count; i++) {
        if (strcmp(x->memories[i].id, id) == 0)
            return &x->memories[i];
    }
    return NULL;
}

static bool recall(struct exactness *x, const struct volume *v, const struct grounds *g,
                   struct exactness_answer *answer) {
    pthread_mutex_lock(&x->lock);
    const struct memory *m = find(x, v->id);
    bool known = m != NULL && memcmp(&m->grounds, g, sizeof *g) == 0;
    if (known)
        *answer = m->answer;
    pthread_mutex_unlock(&x->lock);
    return known;
}

static struct memory *add(struct exactness *x, const char *id) {
    if (x->count == REMEMBERED)
        forget(x);
    struct memory *grown = realloc(x->memories, (x->count + 1) * sizeof *grown);
    if (grown == NULL)
        return NULL;
    x->memories = grown;
    grown[x->count] = (struct memory){.id = strdup(id)};
    return grown[x->count].id != NULL ? &grown[x->count++] : NULL;
}

/* Without memory it is found out again next time. */
static void remember(struct exactness *x, const struct volume *v, const struct grounds *g,
                     const struct exactness_answer *answer) {
    pthread_mutex_lock(&x->lock);
    struct memory *m = find(x, v->id);
    if (m == NULL)
        m = add(x, v->id);
    if (m != NULL) {
        m->grounds = *g;
        m->answer = *answer;
    }
    pthread_mutex_unlock(&x->lock);
}

/* --- the answer ----------------------------------------------------------------------------------
 */

static int find_out(struct store *store, const struct volume *v, struct exactness_answer *answer,
                    struct error *err) {
    AUTO(image) image = NULL;
    AUTO_FREE struct image_gap *gaps = NULL;
    size_t count = 0;
    struct error why = {0};
    *answer = (struct exactness_answer){0};
    int code = image_open(store, v, v->watermark_ns, &image, &why);
    if (code == 0)
        code = image_gaps(image, &gaps, &count, &why);
    if (code == ERR_INEXACT) {
        snprintf(answer->why, sizeof answer->why, "%s", why.text);
        return 0;
    }
    answer->exact = code == 0 && count == 0;
    answer->gaps = count;
    return code == 0 ? 0 : error_set(err, code, "%s", why.text);
}

int exactness_of(struct exactness *x, struct index_reader *r, const struct volume *v,
                 struct exactness_answer *answer, struct error *err) {
    struct grounds grounds;
    int code = read_grounds(r, v, &grounds, err);
    if (code != 0)
        return code;
    if (v->watermark_ns != 0 && recall(x, v, &grounds, answer))
        return 0;
    code = find_out(x->store, v, answer, err);
    if (code == 0 && answer->why[0] == '\0')
        remember(x, v, &grounds, answer);
    return code;
}
