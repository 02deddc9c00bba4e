/*
 * One run: what was asked for (options), what each generator process found (tally), and the shared page on which the
 * parent and its generator processes meet (board).
 */
#ifndef BENCHMARKS_RUN_H
#define BENCHMARKS_RUN_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "histogram.h"

enum mode {
    MODE_CHAT,                  /* join, then talk: a fixed number in flight, or a fixed rate */
    MODE_IDLE,                  /* join, then hold still */
    MODE_JOIN,                  /* connect, JOIN, LEAV, over and over */
};

struct dialect;

struct options {
    enum mode mode;
    const struct dialect *dialect;
    struct sockaddr_storage address;
    socklen_t address_bytes;
    int clients;
    int talkers;                /* clients that send; in a room all others listen, without one they hold still */
    int in_flight;              /* messages per talker */
    int payload_bytes;
    int processes;
    int lanes;                  /* clients that connect at the same time, over all processes */
    bool receipts;
    bool quick_ack;             /* acknowledge every segment at once: who waits for that (Nagle) then does not wait */
    bool has_room;              /* all enter one room and talk there */
    bool hold;                  /* stay joined after the window until stdin has a byte or ends */
    double rate;                /* messages a second over all processes; 0 = as fast as in_flight allows */
    double warm_up_seconds;
    double seconds;             /* of the measured window */
    double drain_seconds;       /* bound of the wait for what is under way, and again for OK LEAV */
    double settle_seconds;      /* how long to look for doubled messages once all have arrived */
    uint64_t seed;
    const char *password;       /* makes every client an account of its own; NULL: guests */
    char prefix[16];            /* of every client's name */
    char room[17];
    int room_bytes;
};

/*
 * Counters of one process. Whole run: what must hold of every message. `window_`: what is measured. A run is sound when
 * everything from `refused` to `unfinished` is 0.
 */
#define TALLY_COUNTERS(COUNTER)                                                                                        \
    COUNTER(joined)             /* clients that are joined: the progress that the parent watches */                    \
    COUNTER(sent)                                                                                                      \
    COUNTER(delivered)                                                                                                 \
    COUNTER(receipts)                                                                                                  \
    COUNTER(cycles)             /* connect, JOIN, LEAV, closed */                                                      \
    COUNTER(notes)              /* NOTE lines */                                                                       \
    COUNTER(reads)              /* read and write system calls */                                                      \
    COUNTER(writes)                                                                                                    \
    COUNTER(window_delivered)                                                                                          \
    COUNTER(window_receipts)                                                                                           \
    COUNTER(window_cycles)                                                                                             \
    COUNTER(window_cpu_ns)      /* of the generator process */                                                         \
    COUNTER(refused)            /* ERR CHAT for a message */                                                           \
    COUNTER(errors)             /* any other line that should not have come */                                         \
    COUNTER(lost)               /* messages that had not arrived at the end of the drain */                            \
    COUNTER(lost_receipts)                                                                                             \
    COUNTER(doubled)                                                                                                   \
    COUNTER(reordered)          /* between one sender and one receiver */                                              \
    COUNTER(corrupted)          /* changed on the way, or brought to somebody else */                                  \
    COUNTER(disconnects)                                                                                               \
    COUNTER(unfinished)         /* clients whose LEAV was not answered, or connect cycles that did not end */

enum { COMPLAINT_BYTES = 200 };

struct tally {
#define DECLARE(name) _Atomic uint64_t name;
    TALLY_COUNTERS(DECLARE)
#undef DECLARE
    struct histogram delivery;  /* sent to arrived; connect to OK JOIN in MODE_JOIN */
    struct histogram receipt;   /* sent to OK CHAT */
    struct histogram lateness;  /* fixed rate: how long after its due time a message was sent */
    _Atomic int has_complaint;
    char complaint[COMPLAINT_BYTES];    /* the first line that should not have come */
};

/*
 * Written by the parent alone, but for the tallies. Times are CLOCK_MONOTONIC nanoseconds; 0 = not fixed yet. Each
 * generator process compares them with its own clock: nobody is told when the window opens.
 */
struct board {
    int64_t origin_ns;
    _Atomic int64_t starts_ns;  /* traffic begins: warm-up */
    _Atomic int64_t opens_ns;   /* the measured window */
    _Atomic int64_t closes_ns;
    _Atomic int released;       /* with `hold`: the clients may leave */
    struct tally tallies[];
};

enum {
    EXIT_SOUND = 0,
    EXIT_UNSOUND = 1,           /* the run ended, and something was lost, doubled, refused … */
    EXIT_NO_RUN = 2,            /* it could not be run */
};

int64_t monotonic_ns(void);

/* Adds to a counter that only this process writes and the parent reads: no locked instruction needed. */
static inline void tally_add(_Atomic uint64_t *counter, uint64_t more)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + more, memory_order_relaxed);
}

/* The body of generator process `index` (0..processes-1); returns its exit code. */
int generate(const struct options *options, struct board *board, int index);

#endif
