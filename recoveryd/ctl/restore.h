/*
 * restore: the writing half of `recoveryctl restore`: one view to one place.
 */
#ifndef SANREWIND_RECOVERYD_CTL_RESTORE_H
#define SANREWIND_RECOVERYD_CTL_RESTORE_H

#include "common/error.h"
#include "recoveryd/ctl/view.h"
#include "recoveryd/image/restore_state.h"

enum { RESTORE_PATH_BYTES = 4096 };

/* ERR_INEXACT with how many ranges are not exact, and how to go on. */
int restore_refuse_inexact(struct view *v, struct error *err);

/* Where the view goes: `to` itself, or a file named for the volume in it when it is a directory. */
int restore_path(const struct view *v, const char *to, bool must_be_directory,
                 char path[RESTORE_PATH_BYTES], struct error *err);

/*
 * Text that is different for all that must not be mixed in one file: volume, times, size, and what
 * the store knew. since_ns 0: a whole image.
 */
void restore_identity(const struct view *v, uint64_t since_ns, char text[RESTORE_IDENTITY_BYTES]);

/*
 * What writes an image to a place. restore_beside() calls it with the list of gaps on disk already,
 * when there are any, and gives that its name (PATH.gaps.json) right after; a list that an
 * earlier restore left beside an image that is exact now goes away.
 */
typedef int restore_writer(struct view *v, const char *path, void *context, struct error *err);
int restore_beside(struct view *v, const char *path, restore_writer *write, void *context,
                   struct error *err);
/* The facts of the view and of the file at `path`: a new reference. */
json_t *restore_facts(const struct view *v, const char *path, const json_t *resolved);

/*
 * Writes the image, and PATH.gaps.json with it when it is not exact. *result: the facts of
 * "image.open" with those of the file.
 */
int restore_view(struct view *v, const char *path, const json_t *resolved, json_t **result,
                 struct error *err);

/*
 * The same into the image of the same volume at an earlier time, which is at `path`: writes only
 * what changed, and what was a gap then. Both are borrowed.
 */
int restore_since(struct view *v, struct view *since, const char *path, const json_t *resolved,
                  json_t **result, struct error *err);

/* The one line that says all. */
void restore_print(const json_t *result);

#endif
