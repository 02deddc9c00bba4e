/*
 * A dialect: how a protocol says what a client wants to say, and what the server's lines mean. There are two, native.c
 * (this project's) and irc.c; conversation.c speaks either of them through this table and knows none.
 *
 * Functions read the generator and change nothing; `put_` functions write to `to`, which has room for LINE_LIMIT_BYTES,
 * and return how many bytes that were.
 */
#ifndef BENCHMARKS_DIALECT_H
#define BENCHMARKS_DIALECT_H

#include <stdbool.h>
#include <stdint.h>

struct generator;
struct options;

enum heard_kind {
    HEARD_ANSWER,               /* joining goes on: one of the client's answers_due */
    HEARD_MESSAGE,              /* from `name`: `text`, of payload_bytes; text is NULL if no client of ours wrote it */
    HEARD_RECEIPT,              /* of a message to `name`, which `reached` so many (1, or members of a room) */
    HEARD_REFUSAL,              /* of a message to `name` */
    HEARD_GOODBYE,              /* the answer to leaving */
    HEARD_PING,                 /* to be answered with put_pong */
    HEARD_NOTE,                 /* nothing that matters here */
    HEARD_STRANGE,              /* anything else */
};

struct heard {
    enum heard_kind kind;
    const char *name;
    int name_bytes;
    const char *text;
    int reached;
};

struct dialect {
    const char *verb;           /* a message is verb, destination, before_text, text, line_end */
    const char *before_text;
    const char *line_end;
    const char *leave;
    int text_limit_bytes;
    bool has_receipts;
    int (*answer_count)(const struct options *options);                 /* until a client is joined */
    int (*put_opening)(const struct generator *generator, int32_t index, char *to);     /* asks for the name */
    int (*put_sequel)(const struct generator *generator, int answers_due, char *to);    /* after an answer; 0: nothing */
    int (*put_pong)(const char *line, int bytes, char *to);
    struct heard (*hear)(const struct generator *generator, int32_t index, const char *line, int bytes);
};

extern const struct dialect NATIVE, IRC;

#endif
