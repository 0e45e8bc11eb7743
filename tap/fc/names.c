#include "tap/fc/internal.h"

#include <inttypes.h>
#include <stdio.h>

enum { MAX_PORTS = 65536 };

struct port_key {
    uint32_t fc_id;
    uint32_t vsan;
};

struct name_key {
    uint64_t wwpn; /* 0: not known */
    uint64_t vsan;
};

struct port {
    struct port_key key;
    struct name_key name;
    uint64_t enode;       /* 0: not known */
    unsigned incarnation; /* of those whose name is not known */
    UT_hash_handle hh;
    UT_hash_handle by_name;
};

struct configured {
    uint32_t fc_id;
    uint64_t wwpn;
    UT_hash_handle hh;
};

struct names {
    struct port *ports;
    struct port *named; /* those of them with a name, by that */
    struct configured *configured;
};

struct names *names_create(void) {
    return calloc(1, sizeof(struct names));
}

void names_destroy(struct names *n) {
    struct port *port, *next_port;
    struct configured *row, *next_row;
    if (n == NULL)
        return;
    HASH_CLEAR(by_name, n->named);
    HASH_ITER(hh, n->ports, port, next_port) {
        HASH_DEL(n->ports, port);
        free(port);
    }
    HASH_ITER(hh, n->configured, row, next_row) {
        HASH_DEL(n->configured, row);
        free(row);
    }
    free(n);
}

static struct port *find(const struct names *n, uint16_t vsan, uint32_t fc_id) {
    struct port_key key = {fc_id, vsan};
    struct port *port = NULL;
    HASH_FIND(hh, n->ports, &key, sizeof key, port);
    return port;
}

static struct port *find_or_make(struct names *n, uint16_t vsan, uint32_t fc_id) {
    struct port *port = find(n, vsan, fc_id);
    if (port != NULL || HASH_COUNT(n->ports) >= MAX_PORTS)
        return port;
    port = calloc(1, sizeof *port);
    if (port == NULL)
        return NULL;
    port->key = (struct port_key){fc_id, vsan};
    HASH_ADD(hh, n->ports, key, sizeof port->key, port);
    if (port->hh.tbl != NULL)
        return port;
    free(port);
    return NULL;
}

static struct port *find_name(const struct names *n, uint16_t vsan, uint64_t wwpn) {
    struct name_key key = {wwpn, vsan};
    struct port *port = NULL;
    HASH_FIND(by_name, n->named, &key, sizeof key, port);
    return port;
}

static void rename_port(struct names *n, struct port *port, uint64_t wwpn) {
    if (port->by_name.tbl != NULL)
        HASH_DELETE(by_name, n->named, port);
    port->by_name.tbl = NULL;
    port->name = (struct name_key){wwpn, port->key.vsan};
    if (wwpn != 0 && find_name(n, (uint16_t)port->key.vsan, wwpn) == NULL)
        HASH_ADD(by_name, n->named, name, sizeof port->name, port);
}

bool names_set(struct names *n, uint16_t vsan, uint32_t fc_id, uint64_t wwpn) {
    struct port *port = find_or_make(n, vsan, fc_id);
    if (port == NULL || port->name.wwpn == wwpn)
        return false;
    rename_port(n, port, wwpn);
    return true;
}

uint32_t names_owner(const struct names *n, uint16_t vsan, uint64_t wwpn) {
    const struct port *port = find_name(n, vsan, wwpn);
    return port != NULL ? port->key.fc_id : 0;
}

void names_set_enode(struct names *n, uint16_t vsan, uint32_t fc_id, uint64_t enode) {
    struct port *port = find_or_make(n, vsan, fc_id);
    if (port != NULL)
        port->enode = enode;
}

size_t names_behind(const struct names *n, uint16_t vsan, uint64_t enode, uint32_t *fc_ids,
                    size_t most) {
    size_t count = 0;
    for (const struct port *port = n->ports; port != NULL && count < most; port = port->hh.next) {
        if (port->key.vsan == vsan && port->enode == enode && enode != 0)
            fc_ids[count++] = port->key.fc_id;
    }
    return count;
}

void names_forget(struct names *n, uint16_t vsan, uint32_t fc_id) {
    struct port *port = find_or_make(n, vsan, fc_id);
    if (port == NULL)
        return;
    rename_port(n, port, 0);
    port->enode = 0;
    port->incarnation++;
}

bool names_is_forgotten(const struct names *n, uint16_t vsan, uint32_t fc_id) {
    const struct port *port = find(n, vsan, fc_id);
    return port != NULL && port->name.wwpn == 0 && port->incarnation > 0;
}

bool names_configure(struct names *n, uint32_t fc_id, uint64_t wwpn) {
    struct configured *row = NULL;
    HASH_FIND(hh, n->configured, &fc_id, sizeof fc_id, row);
    if (row == NULL) {
        row = calloc(1, sizeof *row);
        if (row == NULL)
            return false;
        row->fc_id = fc_id;
        HASH_ADD(hh, n->configured, fc_id, sizeof row->fc_id, row);
        if (row->hh.tbl == NULL) {
            free(row);
            return false;
        }
    }
    row->wwpn = wwpn;
    return true;
}

uint64_t names_find(const struct names *n, uint16_t vsan, uint32_t fc_id) {
    const struct port *port = find(n, vsan, fc_id);
    if (port != NULL && (port->name.wwpn != 0 || port->incarnation > 0))
        return port->name.wwpn;
    struct configured *row = NULL;
    HASH_FIND(hh, n->configured, &fc_id, sizeof fc_id, row);
    return row != NULL ? row->wwpn : 0;
}

static void wwn_text(uint64_t wwn, char text[WWN_TEXT_BYTES]) {
    size_t used = 0;
    for (int shift = 56; shift >= 0; shift -= 8)
        used += (size_t)snprintf(text + used, WWN_TEXT_BYTES - used, "%02x%s",
                                 (unsigned)(wwn >> shift & 0xff), shift > 0 ? ":" : "");
}

bool names_text(const struct names *n, uint16_t vsan, uint32_t fc_id, char text[PORT_TEXT_BYTES]) {
    char wwn[WWN_TEXT_BYTES];
    uint64_t wwpn = names_find(n, vsan, fc_id);
    if (wwpn != 0) {
        wwn_text(wwpn, wwn);
        snprintf(text, PORT_TEXT_BYTES, "naa.%s", wwn);
        return true;
    }
    const struct port *port = find(n, vsan, fc_id);
    int used = snprintf(text, PORT_TEXT_BYTES, "fcid:%u.%06" PRIx32, vsan, fc_id);
    if (port != NULL && port->incarnation > 0)
        snprintf(text + used, PORT_TEXT_BYTES - (size_t)used, ".%u", port->incarnation + 1);
    return false;
}

static int digit_of(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool names_parse(const char *text, uint64_t *wwpn) {
    unsigned digits = 0;
    *wwpn = 0;
    for (; *text != '\0'; text++) {
        int digit = digit_of(*text);
        if (*text == ':' && digits > 0 && digits % 2 == 0 && text[1] != '\0')
            continue;
        if (digit < 0 || digits == 16)
            return false;
        *wwpn = *wwpn << 4 | (unsigned)digit;
        digits++;
    }
    return digits == 16 && *wwpn != 0;
}
