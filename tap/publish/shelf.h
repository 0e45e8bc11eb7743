/*
 * shelf: the files of a spool in their folder, oldest first. spool.c alone includes this.
 *
 * One file holds batches of one stream, in their order; only the newest is written to. A file is
 * removed, replaced by a thinned one, or cut, as a whole. Its owner holds a lock around all calls,
 * but for what is said to need none.
 */
#ifndef SANREWIND_TAP_SHELF_H
#define SANREWIND_TAP_SHELF_H

#include "common/buffer.h"
#include "common/cleanup.h"
#include "common/error.h"
#include "tap/publish/spool_file.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct shelf_file {
    uint64_t id; /* no other file object has it */
    struct spool_file_head head;
    struct spool_extent extent; /* what is in it */
    uint64_t synced_bytes;      /* how much of it is on stable storage… */
    uint64_t synced_order;      /* …and up to which order mark */
    bool thin;                  /* no payloads are left in it */
    int fd;
    unsigned references; /* guarded by the owner's lock */
    struct shelf_file *next;
};

struct shelf {
    char *dir;
    int dir_fd;
    int lock_fd;
    uint64_t monitor;
    uint64_t next_number;
    uint64_t next_id;
    struct shelf_file *first;
    struct shelf_file *last;
    struct shelf_file *open; /* the last one, while it is written to; NULL: none is */
    uint64_t bytes;          /* of all files */
};

/*
 * Opens the folder for one monitor, and cuts what a crash left. ERR_BUSY: another tapd uses it;
 * ERR_USAGE: it belongs to another monitor; ERR_VERSION.
 */
int shelf_open(const char *dir, uint64_t monitor, struct shelf **out, struct error *err);
void shelf_close(struct shelf *s);

/* What the file system has in all, and has left. Needs no lock. UINT64_MAX: it does not say. */
void shelf_room(const struct shelf *s, uint64_t *total, uint64_t *left);

/* A new file for what comes, not in the list yet. Needs no lock, as one thread makes them all. */
struct shelf_file *shelf_make(struct shelf *s, uint64_t stream, struct error *err);
/* Puts it at the end of the list, open to be written to. */
void shelf_add(struct shelf *s, struct shelf_file *file);
/* Nothing more goes into the open file. */
void shelf_end(struct shelf *s);
/* So much more is in the open file. */
void shelf_grow(struct shelf *s, const struct spool_entry *entry, uint64_t bytes);
/* Takes the oldest file out of the list… */
struct shelf_file *shelf_take_first(struct shelf *s);
/* …and away. Needs no lock. Who holds it may still read. */
void shelf_unlink(struct shelf *s, const struct shelf_file *file);
/* The names of new files are on stable storage. Needs no lock. */
int shelf_sync_names(struct shelf *s, struct error *err);
/*
 * What a sync did not bring to stable storage is not trusted: the file ends before it, and is not
 * written to any more.
 */
void shelf_distrust(struct shelf *s, struct shelf_file *file);

/*
 * Where the batch with this order mark is; NULL: nowhere. *next: the smallest order mark of the
 * stream behind it that is somewhere, or UINT64_MAX.
 */
struct shelf_file *shelf_find(struct shelf *s, uint64_t stream, uint64_t order, uint64_t *next);
/* The file stays readable until it is let go of. */
void shelf_hold(struct shelf_file *file);
/* True: nobody holds it any more, and shelf_close_file() (which needs no lock) is due. */
bool shelf_let_go(struct shelf_file *file);
void shelf_close_file(struct shelf_file *file);

/* The oldest file that has payloads and is not written to; NULL: there is none. */
struct shelf_file *shelf_thinnable(struct shelf *s);
/*
 * Puts what is left of a file without payloads in its place on the disk, on stable storage. Needs
 * no lock. NULL: see err, and nothing has changed.
 */
struct shelf_file *shelf_thin(struct shelf *s, const struct shelf_file *file, uint64_t *lost,
                              struct error *err);
/* And in its place in the list. The old one is to be let go of. */
void shelf_replace(struct shelf *s, struct shelf_file *file, struct shelf_file *thin);

DEFINE_AUTO(shelf, shelf_close)

#endif
