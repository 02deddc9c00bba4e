/*
 * The messages of one talker to a room that not everybody has yet, and what each member has of each talker: what makes a
 * lost, doubled or reordered message in a room visible. The counterpart of flights.h, where a message has one receiver.
 *
 * A message keeps its slot until all members but its sender have it and, unless the run is quiet, its receipt has come.
 */
#ifndef BENCHMARKS_POSTS_H
#define BENCHMARKS_POSTS_H

#include "flights.h"

enum { POSTS_LIMIT = 32 };              /* of one talker: what a hearing can remember */

struct posts {
    int32_t missing[POSTS_LIMIT];       /* per slot: members that do not have it yet */
    bool is_unanswered[POSTS_LIMIT];
    bool is_used[POSTS_LIMIT];
    uint32_t sequence[POSTS_LIMIT];
    int64_t sent_ns[POSTS_LIMIT];       /* since the run's origin */
    uint32_t next_sequence;
};

/* What one member has of one talker: all before `next` but those whose bit is set; bit k is next - 1 - k. */
struct hearing {
    uint64_t late;
    uint32_t next;
};

/* Notes a message to `members` others; returns its slot, or NOBODY when POSTS_LIMIT are under way. */
int32_t posts_send(struct posts *posts, int32_t members, bool has_receipt, int64_t sent_ns);

/* Notes that a member got a message; `is_done` tells whether nothing is awaited of it any more. */
enum arrival posts_arrive(struct posts *posts, struct hearing *hearing, uint32_t slot, uint32_t sequence, int64_t sent_ns, bool *is_done);

/* Notes the receipt of the oldest message that has none; returns when that was sent, or -1 if there is none. */
int64_t posts_answer(struct posts *posts, bool *is_done);

/* Adds what is still awaited. */
void posts_awaited(const struct posts *posts, struct awaited *awaited);

#endif
