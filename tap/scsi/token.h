/*
 * token: ROD tokens, which stand for content that was named by one command and is written by
 * another (SPC-5 5.16.6, SBC-4 4.28). Pure parsers of what passes; the table of tokens is token.c.
 */
#ifndef SANREWIND_TAP_SCSI_TOKEN_H
#define SANREWIND_TAP_SCSI_TOKEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TOKEN_BYTES = 512 };

enum token_kind {
    TOKEN_OTHER,         /* its content may be looked up when it is used, or is anything */
    TOKEN_POINT_IN_TIME, /* its content is that of the moment when it was made */
    TOKEN_ZEROS,         /* the block device zero ROD token */
};

enum token_kind token_kind(const uint8_t token[TOKEN_BYTES]);

/* What WRITE USING TOKEN says before its ranges (SBC-4 5.58.2). */
struct token_use {
    bool immediate;  /* GOOD comes before it is done */
    uint64_t offset; /* blocks of the unit that is written to */
    const uint8_t *token;
};

/* False: cut. */
bool token_use_parse(const uint8_t *data, size_t bytes, struct token_use *use);
/* POPULATE TOKEN (SBC-4 5.12.2): IMMED. */
bool token_populate_immediate(const uint8_t *data, size_t bytes);

enum token_progress { TOKEN_GOING_ON, TOKEN_DONE, TOKEN_FAILED };

/* RECEIVE ROD TOKEN INFORMATION (SPC-5 6.32). */
struct token_information {
    bool writes; /* about a WRITE USING TOKEN; otherwise a POPULATE TOKEN */
    enum token_progress progress;
    uint64_t transferred; /* in units: */
    uint64_t unit_bytes;  /* 0: blocks, or not known */
    bool in_blocks;
    const uint8_t *token; /* the first one; NULL: none */
};

/* False: cut, or about another command. */
bool token_information_parse(const uint8_t *data, size_t bytes, struct token_information *info);

#endif
