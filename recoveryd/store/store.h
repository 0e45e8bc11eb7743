/*
 * store: one recovery store on disk: a format file, segments, an index. The seam for other engines.
 *
 *     DIR/FORMAT      "sanrewind store", version, store id: what tells a store from any other
 * directory DIR/segments/   payloads and records, as they came DIR/index/      LMDB DIR/lock held
 * by the one recoveryd that owns the store
 *
 * The order rule is kept by whoever writes: segments_sync() before index_commit() before an
 * acknowledgement.
 */
#ifndef SANREWIND_RECOVERYD_STORE_H
#define SANREWIND_RECOVERYD_STORE_H

#include "recoveryd/index/index.h"
#include "recoveryd/store/pack.h"
#include "recoveryd/store/room.h"
#include "recoveryd/store/segments.h"

#define STORE_PACK_QUIET_NS (UINT64_C(600) * 1000000000)

enum store_mode {
    STORE_READ,  /* must exist; works beside a running recoveryd */
    STORE_WRITE, /* must exist; short writes (baselines, what settles) beside a running recoveryd */
    STORE_OWN,   /* recoveryd: made when missing (an empty or absent directory); ERR_BUSY when owned
                    already */
};

struct store {
    struct segments *segments;
    struct index *index;
    struct room *room; /* how much space is left */
    char *dir;
    enum store_mode mode;
    /* How segments are packed from now on, and for how long they must not have been written to:
     * PACK_OFF and STORE_PACK_QUIET_NS until set. */
    enum pack_level pack_level;
    uint64_t pack_quiet_ns;
    int lock_fd; /* STORE_OWN: holds the lock; otherwise -1 */
};

/*
 * ERR_FORMAT: not a store (and not empty); ERR_VERSION: from a newer version; ERR_NOT_FOUND. One
 * sentence that says what to do. Nothing in the directory is touched then.
 */
int store_open(const char *dir, enum store_mode mode, struct store **out, struct error *err);
void store_close(struct store *s);

DEFINE_AUTO(store, store_close)

#endif
