/*
 * The messages of one sender that are under way: what makes a lost, doubled or reordered message visible.
 *
 * A message takes a slot when it is sent and gives it back when nothing is awaited of it any more: its arrival and, unless
 * the run is quiet, its receipt. The receiver finds the sender's slot through the message's stamp, which works because
 * the clients of one generator process talk among themselves only. Memory is a few words per message in flight,
 * not per pair of clients. A message counts as reordered when it arrives after a younger one to the same client.
 */
#ifndef BENCHMARKS_FLIGHTS_H
#define BENCHMARKS_FLIGHTS_H

#include <stdbool.h>
#include <stdint.h>

enum { NOBODY = -1 };

struct flights {
    int32_t *arriving;          /* per slot: to whom, or NOBODY when it has arrived or the slot is free */
    int32_t *answering;         /* per slot: whose receipt is awaited, or NOBODY */
    uint32_t *sequence;
    int64_t *sent_ns;           /* since the run's origin */
    uint16_t *free_slots;       /* a stack: low slots are used again first, so scans stay short */
    int32_t free_count;
    int32_t capacity;
    int32_t reached;            /* slots from here on have never been used */
    uint8_t *is_overtaken;      /* per slot: a younger message to the same client has arrived */
    int32_t *refused;           /* destinations of refused messages whose slot is not known yet */
    int32_t refused_count;
    uint32_t next_sequence;
};

enum arrival { ARRIVED, ARRIVED_REORDERED, ARRIVED_TWICE, ARRIVED_STRANGE };

/* `flights` is all zero. Exits the process when there is no memory. `capacity` is 1..65536. */
void flights_open(struct flights *flights, int32_t capacity);

/* Notes a message to `dest`; returns its slot, or NOBODY when the table is full. */
int32_t flights_send(struct flights *flights, int32_t dest, bool has_receipt, int64_t sent_ns);

/* Notes that `dest` got a message; `sent_ns` must be the one that was given to flights_send. */
enum arrival flights_arrive(struct flights *flights, int32_t dest, uint32_t slot, uint32_t sequence, int64_t sent_ns);

/* Notes the receipt for the oldest message to `dest` that has none; returns when that was sent, or -1 if there is none. */
int64_t flights_answer(struct flights *flights, int32_t dest);

/*
 * Notes that the server refused a message to `dest`; false when none is under way. The server does not say which of several
 * it was: it is the one that a younger one overtakes, or at the end the one that is missing.
 */
bool flights_refuse(struct flights *flights, int32_t dest, bool has_receipt);

struct awaited {
    uint64_t messages;          /* still to arrive */
    uint64_t receipts;          /* still to come */
    uint64_t contradictions;    /* messages that were refused, and arrived all the same */
};

/* Adds what is awaited of these flights. */
void flights_awaited(const struct flights *flights, struct awaited *awaited);

#endif
