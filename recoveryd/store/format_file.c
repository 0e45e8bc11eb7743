#include "recoveryd/store/format_file.h"

#include "common/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

#define FORMAT_TITLE "sanrewind store\n"

int format_file_parse(const char *text, size_t bytes, uint64_t *store_id, struct error *err) {
    char copy[FORMAT_FILE_BYTES];
    char again[FORMAT_FILE_BYTES];
    unsigned version = 0;
    *store_id = 0;
    if (bytes >= sizeof copy)
        return error_set(err, ERR_FORMAT, "it is too long");
    memcpy(copy, text, bytes);
    copy[bytes] = '\0';
    if (strncmp(copy, FORMAT_TITLE, strlen(FORMAT_TITLE)) != 0 ||
        sscanf(copy + strlen(FORMAT_TITLE), "version %9u", &version) != 1)
        return error_set(err, ERR_FORMAT,
                         "it does not begin with \"sanrewind store\" and a version");
    if (version > STORE_VERSION)
        return error_set(err, ERR_VERSION,
                         "it has version %u, this program knows versions up to %d: use a newer "
                         "sanrewind",
                         version, STORE_VERSION);
    sscanf(copy + strlen(FORMAT_TITLE), "version %9u\nid %16" SCNx64, &version, store_id);
    snprintf(again, sizeof again, FORMAT_TITLE "version %u\nid %016" PRIx64 "\n", version,
             *store_id);
    if (version == 0 || strcmp(copy, again) != 0)
        return error_set(err, ERR_FORMAT, "it is not as it was written");
    return 0;
}

int format_file_read(const char *dir, uint64_t *store_id, struct error *err) {
    char path[4096];
    char text[FORMAT_FILE_BYTES];
    snprintf(path, sizeof path, "%s/FORMAT", dir);
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return error_errno(err, errno, "cannot open %s", path);
    ssize_t got = read(fd, text, sizeof text);
    if (got < 0)
        return error_errno(err, errno, "cannot read %s", path);
    int code = format_file_parse(text, (size_t)got, store_id, err);
    if (code != 0)
        error_prefix(err, "%s is not a store that can be used: its file FORMAT", dir);
    return code;
}

static int write_synced(int fd, const char *text) {
    size_t bytes = strlen(text);
    ssize_t done = write(fd, text, bytes);
    if (done != (ssize_t)bytes)
        return done < 0 ? errno : ENOSPC;
    return fsync(fd) == 0 ? 0 : errno;
}

static int sync_dir(const char *dir) {
    AUTO_CLOSE int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd >= 0 && fsync(fd) == 0 ? 0 : errno;
}

int format_file_write(const char *dir, uint64_t store_id, struct error *err) {
    char aside[4096];
    char path[4096];
    char text[128];
    snprintf(aside, sizeof aside, "%s/FORMAT.new", dir);
    snprintf(path, sizeof path, "%s/FORMAT", dir);
    snprintf(text, sizeof text, FORMAT_TITLE "version %d\nid %016" PRIx64 "\n", STORE_VERSION,
             store_id);
    AUTO_CLOSE int fd = open(aside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
    if (fd < 0)
        return error_errno(err, errno, "cannot make %s", aside);
    int errnum = write_synced(fd, text);
    if (errnum == 0 && rename(aside, path) != 0)
        errnum = errno;
    if (errnum == 0)
        errnum = sync_dir(dir);
    return errnum == 0 ? 0 : error_errno(err, errnum, "cannot write %s", path);
}
