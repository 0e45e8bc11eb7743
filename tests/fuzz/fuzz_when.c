/* TIME as somebody types it: what is accepted prints to something that means the same. */
#include "proto/when.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct when when;
    struct when again;
    struct error err;
    char printed[WHEN_TEXT_BYTES];
    char *text = malloc(size + 1);
    memcpy(text, data, size);
    text[size] = '\0';
    uint64_t ns;
    when_parse_duration(text, &ns, &err);
    if (when_parse(text, &when, &err) == 0 && when.kind == WHEN_ABSOLUTE) {
        if (when_parse(when_print_utc(when.ns, printed), &again, &err) != 0 || again.ns != when.ns)
            abort();
        if (when_parse(when_print_local(when.ns, printed), &again, &err) != 0 ||
            again.ns != when.ns)
            abort();
    }
    free(text);
    return 0;
}
