#include "tap/capture/unpack.h"

#include "common/cleanup.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

enum { ARCHIVE_BLOCK_BYTES = 256 << 10 };

struct unpack {
    struct archive *archive;
    int fd;
};

static int unpack_close(void *cookie) {
    struct unpack *u = cookie;
    archive_read_free(u->archive);
    if (u->fd >= 0)
        close(u->fd);
    free(u);
    return 0;
}

static ssize_t unpack_read(void *cookie, char *buffer, size_t bytes) {
    struct unpack *u = cookie;
    la_ssize_t got = archive_read_data(u->archive, buffer, bytes);
    if (got >= 0)
        return got;
    errno = EBADMSG;
    return -1;
}

static bool is_compressed(int fd) {
    static const struct {
        size_t bytes;
        uint8_t magic[6];
    } kinds[] = {
        {6, {0xfd, '7', 'z', 'X', 'Z', 0x00}}, /* xz */
        {4, {0x28, 0xb5, 0x2f, 0xfd}},         /* zstd, RFC 8878, 3.1.1 */
        {2, {0x1f, 0x8b}},                     /* gzip, RFC 1952, 2.3.1 */
    };
    uint8_t start[6] = {0};
    ssize_t got = pread(fd, start, sizeof start, 0); /* fails on a pipe: plain then */
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (got >= (ssize_t)kinds[i].bytes && memcmp(start, kinds[i].magic, kinds[i].bytes) == 0)
            return true;
    return false;
}

static bool start_archive(struct unpack *u) {
    struct archive_entry *entry = NULL;
    u->archive = archive_read_new();
    return u->archive != NULL && archive_read_support_filter_xz(u->archive) == ARCHIVE_OK &&
           archive_read_support_filter_zstd(u->archive) == ARCHIVE_OK &&
           archive_read_support_filter_gzip(u->archive) == ARCHIVE_OK &&
           archive_read_support_format_raw(u->archive) == ARCHIVE_OK &&
           archive_read_open_fd(u->archive, u->fd, ARCHIVE_BLOCK_BYTES) == ARCHIVE_OK &&
           archive_read_next_header(u->archive, &entry) == ARCHIVE_OK;
}

static FILE *open_compressed(const char *path, int *fd, struct error *err) {
    struct unpack *u = calloc(1, sizeof *u);
    if (u == NULL) {
        error_set(err, ERR_NOMEM, "%s: out of memory", path);
        return NULL;
    }
    u->fd = take_fd(fd);
    FILE *file = NULL;
    cookie_io_functions_t functions = {.read = unpack_read, .close = unpack_close};
    if (!start_archive(u))
        error_set(err, ERR_FORMAT, "%s: cannot be decompressed (%s): is the file complete?", path,
                  u->archive != NULL ? archive_error_string(u->archive) : "out of memory");
    else if ((file = fopencookie(u, "r", functions)) == NULL)
        error_errno(err, errno, "%s: cannot read", path);
    if (file == NULL)
        unpack_close(u);
    return file;
}

FILE *unpack_open(const char *path, struct error *err) {
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat status;
    if (fd < 0 || fstat(fd, &status) != 0) {
        error_errno(err, errno, "cannot open the capture file %s", path);
        return NULL;
    }
    if (S_ISDIR(status.st_mode)) {
        error_set(err, ERR_FORMAT, "%s is a directory: name a pcap or pcapng file", path);
        return NULL;
    }
    if (S_ISREG(status.st_mode) && status.st_size == 0) {
        error_set(err, ERR_FORMAT, "%s is empty: a pcap or pcapng file is wanted", path);
        return NULL;
    }
    posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    if (is_compressed(fd))
        return open_compressed(path, &fd, err);
    FILE *file = fdopen(fd, "r");
    if (file == NULL)
        error_errno(err, errno, "%s: cannot read", path);
    else
        take_fd(&fd);
    return file;
}
