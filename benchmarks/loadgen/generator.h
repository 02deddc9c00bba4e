/*
 * One generator process: its clients, their sockets, and the state that one pass over the ready sockets (a round) needs.
 *
 * connection.c moves bytes and knows no command; native.c and irc.c know the commands of a protocol; conversation.c knows what
 * answers mean for the tally; generator.c decides when what happens. Single-threaded; all memory is this process's own, but for `tally` and `board`.
 */
#ifndef BENCHMARKS_GENERATOR_H
#define BENCHMARKS_GENERATOR_H

#include "dialect.h"
#include "flights.h"
#include "posts.h"
#include "run.h"
#include "wire.h"

enum {
    INPUT_BYTES = 64 * 1024,            /* one read takes up to this many bytes */
    OUTPUT_BYTES = 64 * 1024,           /* one write gives up to this many */
    PARTIAL_BYTES = 2 * LINE_LIMIT_BYTES,
    ROUND_EVENTS = 512,
    DUE_LIMIT = 1 << 16,                /* messages of a fixed rate that wait for their sender's socket */
};

enum client_state {
    ABSENT,                             /* not connected yet */
    JOINING,
    JOINED,
    LEAVING,                            /* LEAV is sent: OK LEAV and end of file are to come */
    GONE,
};

struct name {
    char text[NAME_LIMIT_BYTES - 1];
    uint8_t bytes;
};

/* A message of a fixed-rate run whose time has come; its sender's queue is a linked list. */
struct due {
    int64_t at_ns;
    int32_t next;
};

struct client {
    int fd;
    uint8_t state;
    uint8_t answers_due;                /* JOINING: how many are to come until it is joined */
    bool is_dirty;                      /* is in generator.dirty */
    bool has_answer_to_leave;
    int32_t unanswered;                 /* messages in flight */
    int32_t first_due, last_due;        /* queue in generator.dues, or NOBODY */
    struct flights flights;
    struct posts *posts;                /* of a talker in a room */
    struct hearing *hearings;           /* of a member of a room: one for each talker */
    char *partial;                      /* the beginning of a line; allocated when first needed */
    char *pending;                      /* what the kernel did not take; then EPOLLOUT is asked for */
    int32_t partial_bytes;
    int32_t pending_bytes;
    int64_t began_ns;                   /* connect was called */
};

struct generator {
    const struct options *options;
    struct board *board;
    struct tally *tally;
    struct client *clients;
    struct name *names;
    int32_t client_count;
    int32_t talker_count;               /* clients[0] and so on */
    int32_t first_number;               /* the number in the name of clients[0] */
    int32_t joining_count;
    int32_t joined_count;
    int32_t next_to_connect;
    int32_t *dirty;                     /* clients that have something to send at the end of the round */
    int32_t dirty_count;
    struct due *dues;
    int32_t free_due;
    uint64_t due_count;
    int64_t next_due_ns;
    uint32_t next_number;               /* MODE_JOIN: for the name of the next connection */
    int64_t now_ns;                     /* read after every read */
    int64_t starts_ns, opens_ns, closes_ns;     /* the board's, once they are fixed; else INT64_MAX */
    uint64_t random;
    int poll_fd;
    int timer_fd;
    char tail[PAYLOAD_LIMIT_BYTES + 2];         /* of every message: what follows the stamp, and the line's end */
    int32_t tail_bytes;
    char input[PARTIAL_BYTES + INPUT_BYTES];
    char output[OUTPUT_BYTES];
};

/* Ends this process with EXIT_NO_RUN and a message on stderr. */
_Noreturn void give_up(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Counts what should not have happened; the text of the first one is kept for the report. */
void complain(struct generator *generator, _Atomic uint64_t *counter, const char *text);
void complain_of(struct generator *generator, _Atomic uint64_t *counter, const char *line, int bytes);

/* connection.c */
bool open_connection(struct generator *generator, int32_t index);       /* false: the listener is full, try again */
void close_connection(struct generator *generator, int32_t index);
void write_bytes(struct generator *generator, int32_t index, const char *bytes, int32_t count);
void flush_pending(struct generator *generator, int32_t index);
void read_lines(struct generator *generator, int32_t index);

/* conversation.c; it speaks the options' dialect */
void name_client(struct generator *generator, int32_t index, uint32_t number);
bool may_send(const struct generator *generator);                       /* new messages, or connections in MODE_JOIN */
void begin_conversation(struct generator *generator, int32_t index);    /* asks for the name */
void leave(struct generator *generator, int32_t index);
void take_line(struct generator *generator, int32_t index, const char *line, int bytes);
void take_end(struct generator *generator, int32_t index, const char *reason);     /* the connection is closed */
void send_messages(struct generator *generator, int32_t index);         /* all that may be sent now, in one write */

/* generator.c */
void mark_dirty(struct generator *generator, int32_t index);
uint32_t random_below(struct generator *generator, uint32_t limit);

#endif
