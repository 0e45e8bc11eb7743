/*
 * cleanup: release by scope. The one cleanup style of this code base.
 *
 *     AUTO_FREE char *name = strdup(...);        freed when `name` goes out of scope
 *     AUTO_CLOSE int fd = open(...);             closed likewise, -1 is fine
 *     return take_pointer(&name);                ownership leaves the scope
 *
 * A module offers `S_destroy(struct S *)`, which takes NULL, and DEFINE_AUTO(S, S_destroy) makes
 * AUTO(S) usable for pointers to it.
 */
#ifndef SANREWIND_COMMON_CLEANUP_H
#define SANREWIND_COMMON_CLEANUP_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static inline void cleanup_free(void *pointer) {
    free(*(void **)pointer);
}

static inline void cleanup_close(const int *fd) {
    if (*fd >= 0)
        close(*fd);
}

static inline void cleanup_fclose(FILE **file) {
    if (*file != NULL)
        fclose(*file);
}

#define AUTO_FREE   __attribute__((cleanup(cleanup_free)))
#define AUTO_CLOSE  __attribute__((cleanup(cleanup_close)))
#define AUTO_FCLOSE __attribute__((cleanup(cleanup_fclose)))

#define DEFINE_AUTO(name, destroy)                                                                 \
    static inline void cleanup_##name(struct name **object) {                                      \
        destroy(*object);                                                                          \
    }
#define AUTO(name) __attribute__((cleanup(cleanup_##name))) struct name *

/* Hand the pointer out and leave NULL behind, so that the scope releases nothing. */
#define take_pointer(pointer)                                                                      \
    __extension__({                                                                                \
        __typeof__(*(pointer)) taken_ = *(pointer);                                                \
        *(pointer) = NULL;                                                                         \
        taken_;                                                                                    \
    })

static inline int take_fd(int *fd) {
    int taken = *fd;
    *fd = -1;
    return taken;
}

#endif
