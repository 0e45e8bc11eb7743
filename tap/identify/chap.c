#include "tap/identify/chap.h"

#include "common/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

enum { FILE_BYTES = 2 * CHAP_WORD_BYTES + 2 };

void chap_forget(struct chap *chap) {
    explicit_bzero(chap, sizeof *chap);
}

/* Asked of the open file, so that it is the one which is read. */
static int check_file(int fd, const char *path, struct error *err) {
    struct stat status;
    if (fstat(fd, &status) != 0)
        return error_errno(err, errno, "cannot read %s", path);
    if (!S_ISREG(status.st_mode))
        return error_set(err, ERR_USAGE, "%s is not a plain file", path);
    if ((status.st_mode & 07177) != 0)
        return error_set(err, ERR_USAGE,
                         "%s holds a secret, but its mode is %04o: only its owner may read it "
                         "(chmod 600 %s)",
                         path, (unsigned)(status.st_mode & 07777), path);
    return 0;
}

/* Cuts a line of 1 to CHAP_WORD_BYTES - 1 bytes off the front of *text. */
static bool take_line(const char **text, char word[CHAP_WORD_BYTES]) {
    size_t length = strcspn(*text, "\n");
    if (length == 0 || length >= CHAP_WORD_BYTES)
        return false;
    memcpy(word, *text, length);
    word[length] = '\0';
    *text += length + ((*text)[length] == '\n' ? 1 : 0);
    return true;
}

int chap_read(const char *path, struct chap *chap, struct error *err) {
    char text[FILE_BYTES + 1];
    const char *rest = text;
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return error_errno(err, errno, "cannot read %s", path);
    int code = check_file(fd, path, err);
    if (code < 0)
        return code;
    ssize_t bytes = read(fd, text, FILE_BYTES);
    if (bytes < 0)
        return error_errno(err, errno, "cannot read %s", path);
    text[bytes] = '\0';
    bool good = memchr(text, '\0', (size_t)bytes) == NULL && take_line(&rest, chap->user) &&
                take_line(&rest, chap->secret) && rest[0] == '\0';
    explicit_bzero(text, sizeof text);
    if (good)
        return 0;
    chap_forget(chap);
    return error_set(err, ERR_FORMAT,
                     "%s: expected two lines, a name and a secret, of 1 to %d bytes", path,
                     CHAP_WORD_BYTES - 1);
}
