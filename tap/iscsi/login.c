#include "tap/iscsi/login.h"

#include "common/buffer.h"
#include "common/cursor.h"

#include <string.h>

/* A login has some twenty short keys; CHAP makes it a few hundred bytes longer. */
enum { MAX_TEXT_BYTES = 16 << 10 };

enum key_kind {
    KEY_NUMBER,
    KEY_BOOLEAN, /* 1 is Yes */
    KEY_DIGEST,  /* enum digest of the first in the list */
    KEY_SESSION, /* 1 is Discovery */
    KEY_NAME,
};

enum digest { DIGEST_NONE, DIGEST_CRC32C, DIGEST_OTHER };

enum key {
    HEADER_DIGEST,
    DATA_DIGEST,
    INITIAL_R2T,
    IMMEDIATE_DATA,
    MAX_BURST,
    FIRST_BURST,
    MAX_SEGMENT,
    MAX_CONNECTIONS,
    ERROR_RECOVERY_LEVEL,
    PORTAL_GROUP,
    IF_MARKER,
    OF_MARKER,
    RDMA_EXTENSIONS,
    SESSION_TYPE,
    INITIATOR_NAME,
    TARGET_NAME,
    KEY_COUNT,
};

struct key_row {
    const char *name;
    enum key_kind kind;
    uint32_t fallback;
};

static const struct key_row keys[KEY_COUNT] = {
    [HEADER_DIGEST] = {"HeaderDigest", KEY_DIGEST, DIGEST_NONE},
    [DATA_DIGEST] = {"DataDigest", KEY_DIGEST, DIGEST_NONE},
    [INITIAL_R2T] = {"InitialR2T", KEY_BOOLEAN, 1},
    [IMMEDIATE_DATA] = {"ImmediateData", KEY_BOOLEAN, 1},
    [MAX_BURST] = {"MaxBurstLength", KEY_NUMBER, 262144},
    [FIRST_BURST] = {"FirstBurstLength", KEY_NUMBER, 65536},
    [MAX_SEGMENT] = {"MaxRecvDataSegmentLength", KEY_NUMBER, 8192},
    [MAX_CONNECTIONS] = {"MaxConnections", KEY_NUMBER, 1},
    [ERROR_RECOVERY_LEVEL] = {"ErrorRecoveryLevel", KEY_NUMBER, 0},
    [PORTAL_GROUP] = {"TargetPortalGroupTag", KEY_NUMBER, UINT32_MAX},
    [IF_MARKER] = {"IFMarker", KEY_BOOLEAN, 0},
    [OF_MARKER] = {"OFMarker", KEY_BOOLEAN, 0},
    [RDMA_EXTENSIONS] = {"RDMAExtensions", KEY_BOOLEAN, 0},
    [SESSION_TYPE] = {"SessionType", KEY_SESSION, 0},
    [INITIATOR_NAME] = {"InitiatorName", KEY_NAME, 0},
    [TARGET_NAME] = {"TargetName", KEY_NAME, 0},
};

/* What one side said of a key last. */
struct said {
    uint32_t value;
    unsigned turn; /* 0: never; otherwise counts up over both sides */
};

struct login {
    struct buffer text[2];
    struct said said[2][KEY_COUNT];
    unsigned turns;
    char initiator[LOGIN_NAME_BYTES];
    char target[LOGIN_NAME_BYTES];
};

struct login *login_create(void) {
    struct login *l = calloc(1, sizeof *l);
    if (l == NULL)
        return NULL;
    buffer_init(&l->text[LOGIN_INITIATOR], MAX_TEXT_BYTES);
    buffer_init(&l->text[LOGIN_TARGET], MAX_TEXT_BYTES);
    return l;
}

void login_destroy(struct login *l) {
    if (l == NULL)
        return;
    buffer_release(&l->text[LOGIN_INITIATOR]);
    buffer_release(&l->text[LOGIN_TARGET]);
    free(l);
}

bool login_text(struct login *l, enum login_side side, const uint8_t *text, size_t bytes) {
    buffer_put(&l->text[side], text, bytes);
    return !l->text[side].failed;
}

struct word {
    const char *text;
    size_t length;
};

static bool is_word(struct word word, const char *text) {
    return strlen(text) == word.length && memcmp(word.text, text, word.length) == 0;
}

/* The first word of a list. */
static struct word first_of(struct word list) {
    const char *comma = memchr(list.text, ',', list.length);
    if (comma != NULL)
        list.length = (size_t)(comma - list.text);
    return list;
}

/* A decimal or hexadecimal constant of up to 32 bits (RFC 7143 6.1). */
static bool read_number(struct word word, uint32_t *value) {
    char digits[16];
    if (word.length == 0 || word.length >= sizeof digits)
        return false;
    memcpy(digits, word.text, word.length);
    digits[word.length] = '\0';
    bool hex = digits[0] == '0' && (digits[1] == 'x' || digits[1] == 'X');
    if (digits[strspn(digits, hex ? "0123456789abcdefABCDEFxX" : "0123456789")] != '\0')
        return false;
    char *end = NULL;
    unsigned long long number = strtoull(digits, &end, hex ? 16 : 10);
    *value = (uint32_t)number;
    return *end == '\0' && number <= UINT32_MAX;
}

/* RFC 7143 4.2.7: no white space, no control characters. */
static bool is_name(struct word word) {
    for (size_t i = 0; i < word.length; i++) {
        unsigned char byte = (unsigned char)word.text[i];
        if (byte <= ' ' || byte == 0x7f)
            return false;
    }
    return word.length > 0 && word.length < LOGIN_NAME_BYTES;
}

static bool read_value(enum key_kind kind, struct word word, uint32_t *value) {
    struct word first = first_of(word);
    switch (kind) {
    case KEY_NUMBER:
        return read_number(word, value);
    case KEY_BOOLEAN:
        *value = is_word(word, "Yes") ? 1 : 0;
        return *value == 1 || is_word(word, "No");
    case KEY_DIGEST:
        *value = is_word(first, "CRC32C") ? DIGEST_CRC32C : DIGEST_OTHER;
        /* An answer that refuses the key leaves it at None. */
        if (is_word(first, "None") || is_word(first, "Reject") || is_word(first, "Irrelevant") ||
            is_word(first, "NotUnderstood"))
            *value = DIGEST_NONE;
        return true;
    case KEY_SESSION:
        *value = is_word(word, "Discovery") ? 1 : 0;
        return true;
    case KEY_NAME:
        return is_name(word);
    }
    return false;
}

static void keep_name(char to[LOGIN_NAME_BYTES], struct word word) {
    memcpy(to, word.text, word.length);
    to[word.length] = '\0';
}

static void take_key(struct login *l, enum login_side side, struct word name, struct word value) {
    for (enum key key = 0; key < KEY_COUNT; key++) {
        uint32_t number = 0;
        if (!is_word(name, keys[key].name))
            continue;
        if (!read_value(keys[key].kind, value, &number))
            return; /* an answer like NotUnderstood: as if it had not been mentioned */
        l->said[side][key] = (struct said){.value = number, .turn = ++l->turns};
        if (side == LOGIN_INITIATOR && key == INITIATOR_NAME)
            keep_name(l->initiator, value);
        if (side == LOGIN_INITIATOR && key == TARGET_NAME)
            keep_name(l->target, value);
        return;
    }
}

/* "key=value" strings, each ended by a NUL. */
bool login_pdu_end(struct login *l, enum login_side side, bool more) {
    if (more)
        return true;
    if (l->text[side].length == 0)
        return true;
    struct cursor c = cursor_of(l->text[side].data, l->text[side].length);
    bool well_formed = true;
    while (well_formed && cursor_left(&c) > 0) {
        const char *line = (const char *)c.next;
        size_t length = strnlen(line, cursor_left(&c));
        const char *equals = memchr(line, '=', length);
        if (equals != NULL) {
            size_t name = (size_t)(equals - line);
            take_key(l, side, (struct word){line, name},
                     (struct word){equals + 1, length - name - 1});
        }
        /* Some pad with more NULs; a line that has no '=' is nothing that we could use. */
        well_formed = equals != NULL || length == 0;
        cursor_skip(&c, length < cursor_left(&c) ? length + 1 : length);
    }
    buffer_clear(&l->text[side]);
    return well_formed;
}

static uint32_t value_of(const struct login *l, enum login_side side, enum key key) {
    const struct said *said = &l->said[side][key];
    return said->turn > 0 ? said->value : keys[key].fallback;
}

static uint32_t least_of(const struct login *l, enum key key) {
    uint32_t a = value_of(l, LOGIN_INITIATOR, key);
    uint32_t b = value_of(l, LOGIN_TARGET, key);
    return a < b ? a : b;
}

/* RFC 7143 6.2.1: the answer to a list is the choice; without an answer there is none. */
static enum digest chosen(const struct login *l, enum key key) {
    const struct said *a = &l->said[LOGIN_INITIATOR][key];
    const struct said *b = &l->said[LOGIN_TARGET][key];
    if (a->turn == 0 || b->turn == 0)
        return DIGEST_NONE;
    return (enum digest)(a->turn > b->turn ? a->value : b->value);
}

struct login_result login_result(const struct login *l) {
    enum digest header = chosen(l, HEADER_DIGEST);
    enum digest data = chosen(l, DATA_DIGEST);
    bool markers = least_of(l, IF_MARKER) == 1 || least_of(l, OF_MARKER) == 1;
    struct login_result result = {
        .discovery = value_of(l, LOGIN_INITIATOR, SESSION_TYPE) == 1,
        .header_digest = header == DIGEST_CRC32C,
        .data_digest = data == DIGEST_CRC32C,
        .unreadable = header == DIGEST_OTHER || data == DIGEST_OTHER || markers ||
                      least_of(l, RDMA_EXTENSIONS) == 1,
        .initial_r2t = value_of(l, LOGIN_INITIATOR, INITIAL_R2T) == 1 ||
                       value_of(l, LOGIN_TARGET, INITIAL_R2T) == 1,
        .immediate_data = least_of(l, IMMEDIATE_DATA) == 1,
        .max_burst_bytes = least_of(l, MAX_BURST),
        .first_burst_bytes = least_of(l, FIRST_BURST),
        .max_segment_bytes = {value_of(l, LOGIN_INITIATOR, MAX_SEGMENT),
                              value_of(l, LOGIN_TARGET, MAX_SEGMENT)},
        .max_connections = least_of(l, MAX_CONNECTIONS),
        .error_recovery_level = least_of(l, ERROR_RECOVERY_LEVEL),
        .portal_group = value_of(l, LOGIN_TARGET, PORTAL_GROUP),
    };
    memcpy(result.initiator, l->initiator, sizeof result.initiator);
    memcpy(result.target, l->target, sizeof result.target);
    return result;
}
