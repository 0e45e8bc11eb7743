/*
 * piece_walk: the pieces of one chunk over several paths, newest first. What an image is made of.
 *
 * Made once for an image and moved from chunk to chunk. Lives no longer than its reader, and is
 * used by one thread at a time.
 */
#ifndef SANREWIND_RECOVERYD_PIECE_WALK_H
#define SANREWIND_RECOVERYD_PIECE_WALK_H

#include "recoveryd/index/index.h"

struct piece_walk;

/*
 * The last `strangers` of the `count` paths are of other volumes: their pieces say so. Of what lies
 * hidden under newer updates of the same path and monitor, some may be left out, and what is left
 * of one may come in several parts; not when all are wanted.
 */
enum piece_walk_kind { WALK_SHOWN, WALK_ALL };
int piece_walk_create(struct index_reader *r, enum piece_walk_kind kind, const uint64_t *paths,
                      size_t count, size_t strangers, struct piece_walk **out, struct error *err);
void piece_walk_destroy(struct piece_walk *w);

/* To the newest piece of `chunk` with a stamp <= until. */
int piece_walk_seek(struct piece_walk *w, uint64_t chunk, const struct stamp *until,
                    struct error *err);
/* The next older one (of one stamp, the greater part is newer), cut to the chunk. ERR_NOT_FOUND: no
 * more. */
int piece_walk_next(struct piece_walk *w, struct piece *piece, struct error *err);

DEFINE_AUTO(piece_walk, piece_walk_destroy)

#endif
