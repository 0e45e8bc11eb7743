/*
 * restore: the writing half of `recoveryctl restore`: one view to one place.
 */
#ifndef SANREWIND_RECOVERYD_CTL_RESTORE_H
#define SANREWIND_RECOVERYD_CTL_RESTORE_H

#include "common/error.h"
#include "recoveryd/ctl/view.h"

enum { RESTORE_PATH_BYTES = 4096 };

/* ERR_INEXACT with how many ranges are not exact, and how to go on. */
int restore_refuse_inexact(struct view *v, struct error *err);

/* Where the view goes: `to` itself, or a file named for the volume in it when it is a directory. */
int restore_path(const struct view *v, const char *to, bool must_be_directory,
                 char path[RESTORE_PATH_BYTES], struct error *err);

/*
 * Writes the image, and PATH.gaps.json with it when it is not exact. *result: the facts of
 * "image.open" with those of the file.
 */
int restore_view(struct view *v, const char *path, const json_t *resolved, json_t **result,
                 struct error *err);

/* The one line that says all. */
void restore_print(const json_t *result);

#endif
