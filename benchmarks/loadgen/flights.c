#include "flights.h"

#include <stdio.h>
#include <stdlib.h>

static void *allocate(int32_t count, size_t bytes)
{
    void *memory = calloc((size_t)count, bytes);
    if (!memory) {
        perror("loadgen: memory for messages in flight");
        exit(2);
    }
    return memory;
}

void flights_open(struct flights *flights, int32_t capacity)
{
    flights->arriving = allocate(capacity, sizeof *flights->arriving);
    flights->answering = allocate(capacity, sizeof *flights->answering);
    flights->sequence = allocate(capacity, sizeof *flights->sequence);
    flights->sent_ns = allocate(capacity, sizeof *flights->sent_ns);
    flights->free_slots = allocate(capacity, sizeof *flights->free_slots);
    flights->is_overtaken = allocate(capacity, sizeof *flights->is_overtaken);
    flights->refused = allocate(capacity, sizeof *flights->refused);
    for (int32_t i = 0; i < capacity; i++) {
        flights->arriving[i] = flights->answering[i] = NOBODY;
        flights->free_slots[i] = (uint16_t)(capacity - 1 - i);
    }
    flights->free_count = flights->capacity = capacity;
}

static void release_if_done(struct flights *flights, int32_t slot)
{
    if (flights->arriving[slot] == NOBODY && flights->answering[slot] == NOBODY)
        flights->free_slots[flights->free_count++] = (uint16_t)slot;
}

/* Takes the refusal of a message to `dest` out of the list; false when there is none. */
static bool take_refusal(struct flights *flights, int32_t dest)
{
    for (int32_t i = 0; i < flights->refused_count; i++) {
        if (flights->refused[i] == dest) {
            flights->refused[i] = flights->refused[--flights->refused_count];
            return true;
        }
    }
    return false;
}

static int32_t count_equal(const int32_t *values, int32_t count, int32_t wanted)
{
    int32_t found = 0;
    for (int32_t i = 0; i < count; i++)
        found += values[i] == wanted;
    return found;
}

/* The oldest slot in which `awaited` has `dest`, or NOBODY. */
static int32_t oldest(const struct flights *flights, const int32_t *awaited, int32_t dest)
{
    int32_t found = NOBODY;
    for (int32_t i = 0; i < flights->reached; i++) {
        if (awaited[i] == dest && (found == NOBODY || flights->sequence[i] < flights->sequence[found]))
            found = i;
    }
    return found;
}

/* Nothing arrives in this slot any more; NOBODY is no slot. */
static void give_up_arrival(struct flights *flights, int32_t slot)
{
    if (slot == NOBODY)
        return;
    flights->arriving[slot] = NOBODY;
    release_if_done(flights, slot);
}

/*
 * Where all that is under way to a client has been refused, nothing of it will arrive. Where there is more, it is not known
 * which: one of them still arrives, and then there is less.
 */
static void give_up_refused(struct flights *flights)
{
    for (int32_t i = flights->refused_count - 1; i >= 0; i--) {
        int32_t dest = flights->refused[i];
        int32_t under_way = count_equal(flights->arriving, flights->reached, dest);
        if (under_way != count_equal(flights->refused, flights->refused_count, dest))
            continue;
        flights->refused[i] = flights->refused[--flights->refused_count];
        give_up_arrival(flights, oldest(flights, flights->arriving, dest));
    }
}

int32_t flights_send(struct flights *flights, int32_t dest, bool has_receipt, int64_t sent_ns)
{
    if (flights->free_count == 0)
        give_up_refused(flights);
    if (flights->free_count == 0)
        return NOBODY;
    int32_t slot = flights->free_slots[--flights->free_count];
    if (slot >= flights->reached)
        flights->reached = slot + 1;
    flights->arriving[slot] = dest;
    flights->answering[slot] = has_receipt ? dest : NOBODY;
    flights->is_overtaken[slot] = false;
    flights->sequence[slot] = flights->next_sequence++;
    flights->sent_ns[slot] = sent_ns;
    return slot;
}

/* Rare: a message to `dest` has overtaken older ones. Those were refused, or they are late. */
static void mark_overtaken(struct flights *flights, int32_t dest, uint32_t sequence)
{
    for (int32_t i = 0; i < flights->reached; i++) {
        if (flights->arriving[i] != dest || flights->sequence[i] >= sequence)
            continue;
        if (take_refusal(flights, dest))
            give_up_arrival(flights, i);
        else
            flights->is_overtaken[i] = true;
    }
}

enum arrival flights_arrive(struct flights *flights, int32_t dest, uint32_t slot, uint32_t sequence, int64_t sent_ns)
{
    if (slot >= (uint32_t)flights->capacity || sequence >= flights->next_sequence)
        return ARRIVED_STRANGE;
    if (flights->sequence[slot] != sequence || flights->arriving[slot] == NOBODY)
        return ARRIVED_TWICE;
    if (flights->arriving[slot] != dest || flights->sent_ns[slot] != sent_ns)
        return ARRIVED_STRANGE;
    /* Branch-free, so that the compiler makes vector instructions of it: it runs once per message. */
    int32_t overtaken = 0;
    for (int32_t i = 0; i < flights->reached; i++)
        overtaken |= (flights->arriving[i] == dest) & (flights->sequence[i] < sequence);
    if (overtaken)
        mark_overtaken(flights, dest, sequence);
    give_up_arrival(flights, (int32_t)slot);
    return flights->is_overtaken[slot] ? ARRIVED_REORDERED : ARRIVED;
}

int64_t flights_answer(struct flights *flights, int32_t dest)
{
    int32_t slot = oldest(flights, flights->answering, dest);
    if (slot == NOBODY)
        return -1;
    flights->answering[slot] = NOBODY;
    release_if_done(flights, slot);
    return flights->sent_ns[slot];
}

bool flights_refuse(struct flights *flights, int32_t dest, bool has_receipt)
{
    int32_t under_way = count_equal(flights->arriving, flights->reached, dest);
    if (under_way <= count_equal(flights->refused, flights->refused_count, dest) ||
        flights->refused_count == flights->capacity ||
        (has_receipt && flights_answer(flights, dest) < 0))
        return false;
    int32_t overtaken = NOBODY;
    for (int32_t i = 0; i < flights->reached; i++) {
        if (flights->arriving[i] == dest && flights->is_overtaken[i])
            overtaken = i;
    }
    if (overtaken != NOBODY)
        give_up_arrival(flights, overtaken);
    else
        flights->refused[flights->refused_count++] = dest;
    return true;
}

void flights_awaited(const struct flights *flights, struct awaited *awaited)
{
    for (int32_t i = 0; i < flights->reached; i++) {
        awaited->messages += flights->arriving[i] != NOBODY;
        awaited->receipts += flights->answering[i] != NOBODY;
    }
    for (int32_t i = 0; i < flights->refused_count; i++) {
        int32_t dest = flights->refused[i];
        if (count_equal(flights->refused, i, dest) < count_equal(flights->arriving, flights->reached, dest))
            awaited->messages--;
        else
            awaited->contradictions++;
    }
}
