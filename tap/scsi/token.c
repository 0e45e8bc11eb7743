#include "tap/scsi/internal.h"

/*
 * POPULATE TOKEN names content, RECEIVE ROD TOKEN INFORMATION brings the token that stands for it,
 * and WRITE USING TOKEN, perhaps on another session, writes it. Windows calls this offloaded data
 * transfer.
 */

enum { MOST_JOBS = 64, MOST_SOURCES = 256 };

/* Blocks of one unit, one range behind the other. */
struct extents {
    struct path *path;
    struct block_range *ranges; /* owned */
    size_t count;
    uint64_t blocks; /* of all */
};

/* A command that was done, of which a RECEIVE ROD TOKEN INFORMATION may say more. */
struct job {
    const struct nexus *nexus; /* NULL: unused; not to be followed */
    uint32_t list_id;
    bool writes;
    bool immediate;
    struct extents extents;
    uint64_t from_ns;
    uint64_t until_ns;
};

/* What a token stands for. */
struct source {
    uint8_t token[TOKEN_BYTES];
    struct extents extents; /* no path: unused */
    uint64_t from_ns;
    uint64_t until_ns;
};

/* Rings: the oldest is forgotten. */
struct tokens {
    struct job jobs[MOST_JOBS];
    size_t next_job;
    struct source sources[MOST_SOURCES];
    size_t next_source;
};

static void extents_release(struct extents *extents) {
    free(extents->ranges);
    *extents = (struct extents){0};
}

static void job_release(struct job *job) {
    extents_release(&job->extents);
    *job = (struct job){0};
}

static struct tokens *tokens_of(struct tracker *t) {
    if (t->tokens == NULL)
        t->tokens = calloc(1, sizeof *t->tokens);
    return t->tokens;
}

void token_forget(struct tracker *t, const struct nexus *n) {
    if (t->tokens == NULL)
        return;
    for (size_t i = 0; i < MOST_JOBS; i++) {
        if (n == NULL || t->tokens->jobs[i].nexus == n)
            job_release(&t->tokens->jobs[i]);
    }
    for (size_t i = 0; n == NULL && i < MOST_SOURCES; i++)
        extents_release(&t->tokens->sources[i].extents);
    if (n != NULL)
        return;
    free(t->tokens);
    t->tokens = NULL;
}

static bool extents_read(struct extents *extents, struct path *path,
                         const struct range_list *list) {
    *extents = (struct extents){.path = path, .count = list->count};
    extents->ranges = calloc(list->count > 0 ? list->count : 1, sizeof *extents->ranges);
    for (size_t i = 0; extents->ranges != NULL && i < list->count; i++) {
        extents->ranges[i] = range_list_at(list, i);
        extents->blocks += extents->ranges[i].blocks;
    }
    return extents->ranges != NULL;
}

static struct job *job_find(struct tracker *t, const struct exchange *x) {
    for (size_t i = 0; t->tokens != NULL && i < MOST_JOBS; i++) {
        struct job *job = &t->tokens->jobs[i];
        if (job->nexus == x->nexus && job->extents.path == x->path &&
            job->list_id == x->command.list_id)
            return job;
    }
    return NULL;
}

/* Takes the place of one with the same list identifier; NULL: no memory. */
static struct job *job_add(const struct ending *e, const struct range_list *list) {
    struct tokens *tokens = tokens_of(e->t);
    struct job *job = job_find(e->t, e->x);
    if (tokens == NULL)
        return NULL;
    if (job == NULL)
        job = &tokens->jobs[tokens->next_job++ % MOST_JOBS];
    job_release(job);
    if (!extents_read(&job->extents, e->x->path, list))
        return NULL;
    job->nexus = e->x->nexus;
    job->list_id = e->x->command.list_id;
    job->from_ns = e->x->issued_ns;
    job->until_ns = e->time_ns;
    return job;
}

/* What is being written may be in it or not. */
static bool is_in_flux(const struct ending *e, const struct extents *extents) {
    for (size_t i = 0; i < extents->count; i++) {
        const struct block_range *range = &extents->ranges[i];
        if (range->blocks > UINT64_MAX - range->lba ||
            rival_in_flight(e->t, extents->path->unit, e->x, range->lba,
                            range->lba + range->blocks))
            return true;
    }
    return false;
}

void token_populated(const struct ending *e) {
    struct exchange *x = e->x;
    size_t bytes = 0;
    struct range_list list;
    struct job *old = job_find(e->t, x);
    if (old != NULL)
        job_release(old);
    AUTO_FREE uint8_t *data = exchange_parameters(x, &bytes);
    if (data == NULL || e->residual_bytes > 0 || !populate_list_parse(data, bytes, &list))
        return;
    struct job *job = job_add(e, &list);
    if (job == NULL)
        return;
    job->immediate = token_populate_immediate(data, bytes);
    if (is_in_flux(e, &job->extents))
        job_release(job);
}

/* How many blocks of the job are said to be done. */
static uint64_t blocks_done(const struct job *job, const struct token_information *info) {
    uint32_t block_bytes = job->extents.path->sink.block_bytes;
    if (info->progress != TOKEN_DONE || block_bytes == 0)
        return 0;
    if (info->in_blocks)
        return info->transferred;
    if (info->unit_bytes == 0 || info->transferred > UINT64_MAX / info->unit_bytes)
        return 0;
    return info->transferred * info->unit_bytes / block_bytes;
}

static void learn(const struct ending *e, struct job *job, const struct token_information *info) {
    struct tokens *tokens = e->t->tokens;
    if (job->immediate)
        job->until_ns = e->time_ns;
    if (info->progress != TOKEN_DONE || info->token == NULL ||
        token_kind(info->token) != TOKEN_POINT_IN_TIME ||
        (job->immediate && is_in_flux(e, &job->extents)))
        return;
    struct source *source = &tokens->sources[tokens->next_source++ % MOST_SOURCES];
    extents_release(&source->extents);
    *source = (struct source){
        .extents = job->extents, .from_ns = job->from_ns, .until_ns = job->until_ns};
    memcpy(source->token, info->token, TOKEN_BYTES);
    uint64_t blocks = blocks_done(job, info);
    if (blocks < source->extents.blocks)
        source->extents.blocks = blocks;
    job->extents = (struct extents){0};
}

static void doubt(const struct ending *e, const struct extents *extents, const char *text) {
    uint32_t block_bytes = extents->path->block_stale ? 0 : extents->path->sink.block_bytes;
    for (size_t i = 0; i < extents->count; i++) {
        const struct block_range *range = &extents->ranges[i];
        if (range->blocks > 0)
            region_blocks(e, extents->path, GAP_UNKNOWN_CONTENT, text, range->lba, range->blocks,
                          block_bytes);
    }
}

/* GOOD was not all that there was to say about the WRITE USING TOKEN. */
static void check(const struct ending *e, const struct job *job,
                  const struct token_information *info) {
    if (job->immediate)
        doubt(e, &job->extents, "tells that a WRITE USING TOKEN ended in the background");
    else if (blocks_done(job, info) < job->extents.blocks)
        doubt(e, &job->extents, "tells that a WRITE USING TOKEN did not write everything");
}

void token_informed(const struct ending *e) {
    struct exchange *x = e->x;
    struct token_information info;
    struct job *job = job_find(e->t, x);
    if (job == NULL || x->answer_bytes == 0 ||
        !token_information_parse(x->answer, x->answer_bytes, &info) || info.writes != job->writes ||
        info.progress == TOKEN_GOING_ON)
        return;
    if (job->writes)
        check(e, job, &info);
    else
        learn(e, job, &info);
    job_release(job);
}

static const struct source *source_find(const struct tracker *t, const uint8_t *token) {
    for (size_t i = 0; t->tokens != NULL && i < MOST_SOURCES; i++) {
        const struct source *source = &t->tokens->sources[i];
        if (source->extents.path != NULL && memcmp(source->token, token, TOKEN_BYTES) == 0)
            return source;
    }
    return NULL;
}

/* The way through a token while its content is written. All in bytes. */
struct reading {
    const struct source *source;
    uint32_t block_bytes; /* of the source */
    uint64_t at;
};

/* As much of [at, at + want) as lies together; 0: past the end, or in the middle of a block. */
static uint64_t reading_next(const struct reading *r, uint64_t want, uint64_t *lba) {
    uint64_t at = r->at;
    uint64_t all = r->source->extents.blocks * r->block_bytes;
    if (at % r->block_bytes != 0 || at >= all)
        return 0;
    if (want > all - at)
        want = all - at;
    for (size_t i = 0; i < r->source->extents.count; i++) {
        const struct block_range *range = &r->source->extents.ranges[i];
        uint64_t bytes = range->blocks * r->block_bytes;
        if (at < bytes) {
            *lba = range->lba + at / r->block_bytes;
            return want < bytes - at ? want : bytes - at;
        }
        at -= bytes;
    }
    return 0;
}

/* One range of the destination, in pieces that lie together in the source. */
static void write_range(const struct ending *e, struct reading *r, const struct block_range *range,
                        uint64_t until) {
    struct path *path = e->x->path;
    uint32_t block_bytes = path->sink.block_bytes;
    struct change_source from = {.path = r->source->extents.path,
                                 .from_ns = r->source->from_ns,
                                 .until_ns = r->source->until_ns};
    uint64_t lba = range->lba;
    uint64_t left = range->blocks;
    while (left > 0) {
        uint64_t bytes = reading_next(r, left * block_bytes, &from.lba);
        uint64_t blocks = bytes / block_bytes;
        if (blocks == 0) {
            region_blocks(e, path, GAP_UNKNOWN_CONTENT, "wrote more than its token stands for", lba,
                          left, block_bytes);
            r->at += left * block_bytes;
            return;
        }
        change_copy(e, path, lba, blocks, &from, until);
        r->at += blocks * block_bytes;
        lba += blocks;
        left -= blocks;
    }
}

static void write_all(const struct ending *e, const struct extents *to, const struct source *source,
                      uint64_t offset) {
    uint64_t until = e->t->recent_count;
    struct reading r = {.source = source};
    if (source != NULL) {
        r.block_bytes = source->extents.path->sink.block_bytes;
        r.at = offset * e->x->path->sink.block_bytes;
    }
    for (size_t i = 0; i < to->count; i++) {
        if (to->ranges[i].blocks == 0)
            continue;
        if (source != NULL)
            write_range(e, &r, &to->ranges[i], until);
        else
            change_copy(e, e->x->path, to->ranges[i].lba, to->ranges[i].blocks, NULL, until);
    }
}

static bool fits(const struct extents *extents) {
    uint32_t block_bytes = extents->path->sink.block_bytes;
    if (block_bytes == 0 || extents->path->block_stale || extents->path->refused)
        return false;
    for (size_t i = 0; i < extents->count; i++) {
        if (!change_range_fits(extents->ranges[i].lba, extents->ranges[i].blocks, block_bytes))
            return false;
    }
    return extents->blocks <= CHANGE_MOST_COPIED_BYTES / block_bytes;
}

/* Why what it wrote can't be told; NULL: it can. */
static const char *why_unknown(const struct ending *e, const struct extents *to,
                               const struct token_use *use, const struct source *source) {
    if (use->immediate)
        return "writes in the background, and nobody sees when";
    if (!fits(to) || use->offset > (uint64_t)INT64_MAX / e->x->path->sink.block_bytes)
        return "wrote to blocks that cannot be told";
    if (token_kind(use->token) == TOKEN_ZEROS)
        return NULL;
    if (source == NULL || !fits(&source->extents))
        return "wrote content that is not on the wire, by a token that was not seen being made";
    return NULL;
}

void token_apply(const struct ending *e) {
    struct exchange *x = e->x;
    size_t bytes = 0;
    struct range_list list;
    struct token_use use;
    AUTO_FREE uint8_t *data = exchange_parameters(x, &bytes);
    struct job *job = NULL;
    if (data != NULL && e->residual_bytes == 0 && token_list_parse(data, bytes, &list) &&
        token_use_parse(data, bytes, &use))
        job = job_add(e, &list);
    if (job == NULL) {
        region_gap(e, GAP_UNKNOWN_CONTENT, "wrote content that is not on the wire");
        return;
    }
    job->writes = true;
    job->immediate = use.immediate;
    const struct source *source = source_find(e->t, use.token);
    const char *why = why_unknown(e, &job->extents, &use, source);
    if (why != NULL)
        region_gap(e, GAP_UNKNOWN_CONTENT, why);
    else
        write_all(e, &job->extents, token_kind(use.token) == TOKEN_ZEROS ? NULL : source,
                  use.offset);
}
