/*
 * One generator process from its first connection to its last: join all, talk from `starts_ns`, measure from `opens_ns` to
 * `closes_ns`, wait for what is under way, leave. See generator.h for the parts.
 *
 * A round is one epoll_wait, one read per readable socket, then one write per client that has something to send: whatever a
 * client was credited with in a round leaves together.
 */
#include "generator.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum {
    ROUND_MS = 10,                      /* how late the clock's marks may be noticed without traffic */
    RATE_FLIGHTS = 1024,                /* fixed rate: messages under way per client; more wait for their turn */
};

static const uint32_t TIMER = UINT32_MAX;       /* epoll data of the timer; sockets have their client's index */

void give_up(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("loadgen: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    _exit(EXIT_NO_RUN);
}

void complain(struct generator *generator, _Atomic uint64_t *counter, const char *text)
{
    complain_of(generator, counter, text, (int)strlen(text));
}

void complain_of(struct generator *generator, _Atomic uint64_t *counter, const char *line, int bytes)
{
    struct tally *tally = generator->tally;
    tally_add(counter, 1);
    if (tally->has_complaint)
        return;
    snprintf(tally->complaint, sizeof tally->complaint, "%.*s", bytes, line);
    tally->has_complaint = 1;
}

void mark_dirty(struct generator *generator, int32_t index)
{
    struct client *client = &generator->clients[index];
    if (client->is_dirty)
        return;
    client->is_dirty = true;
    generator->dirty[generator->dirty_count++] = index;
}

/* xorshift64*; limit must not be 0. */
uint32_t random_below(struct generator *generator, uint32_t limit)
{
    uint64_t x = generator->random;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    generator->random = x;
    return (uint32_t)(((x * 0x2545F4914F6CDD1DULL >> 32) * limit) >> 32);
}

static int64_t cpu_ns(void)
{
    struct timespec used;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return used.tv_sec * 1000000000LL + used.tv_nsec;
}

static void *allocate(size_t count, size_t bytes)
{
    void *memory = calloc(count, bytes);
    if (!memory)
        give_up("no memory for %zu clients", count);
    return memory;
}

static void put_tail(struct generator *generator)
{
    const struct options *options = generator->options;
    int filling_bytes = options->payload_bytes - STAMP_BYTES;
    size_t end_bytes = strlen(options->dialect->line_end);
    put_filling(generator->tail, filling_bytes);
    memcpy(generator->tail + filling_bytes, options->dialect->line_end, end_bytes);
    generator->tail_bytes = filling_bytes + (int32_t)end_bytes;
}

static struct generator *open_generator(const struct options *options, struct board *board, int index)
{
    struct generator *generator = allocate(1, sizeof *generator);
    bool is_join = options->mode == MODE_JOIN;
    int total = is_join ? options->lanes : options->clients;
    int64_t first = (int64_t)total * index / options->processes;
    int64_t end = (int64_t)total * (index + 1) / options->processes;
    generator->options = options;
    generator->board = board;
    generator->tally = &board->tallies[index];
    generator->first_number = (int32_t)first;
    generator->client_count = (int32_t)(end - first);
    if (options->mode == MODE_CHAT)
        generator->talker_count = (int32_t)((int64_t)options->talkers * (index + 1) / options->processes -
                                            (int64_t)options->talkers * index / options->processes);
    generator->next_number = (uint32_t)index;
    generator->starts_ns = generator->opens_ns = generator->closes_ns = INT64_MAX;
    generator->random = options->seed + (uint64_t)index + 1;
    generator->clients = allocate((size_t)generator->client_count, sizeof *generator->clients);
    generator->names = allocate((size_t)generator->client_count, sizeof *generator->names);
    generator->dirty = allocate((size_t)generator->client_count, sizeof *generator->dirty);
    put_tail(generator);
    for (int32_t i = 0; i < generator->client_count; i++) {
        generator->clients[i].fd = -1;
        generator->clients[i].first_due = generator->clients[i].last_due = NOBODY;
        name_client(generator, i, (uint32_t)(first + i));
    }
    generator->poll_fd = epoll_create1(EPOLL_CLOEXEC);
    generator->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (generator->poll_fd < 0 || generator->timer_fd < 0)
        give_up("epoll or timer: %s", strerror(errno));
    for (int i = 0; i < 16; i++)
        random_below(generator, 2);     /* neighbouring seeds must not begin alike */
    return generator;
}

static void send_dirty(struct generator *generator)
{
    int32_t count = generator->dirty_count;
    generator->dirty_count = 0;         /* who is marked again comes after those who were marked before */
    for (int32_t i = 0; i < count; i++) {
        int32_t index = generator->dirty[i];
        struct client *client = &generator->clients[index];
        client->is_dirty = false;
        if (client->state == JOINED)
            send_messages(generator, index);
    }
}

/* Appends a message to its sender's queue; false when too many wait already. */
static bool add_due(struct generator *generator, int64_t at_ns)
{
    int32_t added = generator->free_due;
    if (added == NOBODY)
        return false;
    generator->free_due = generator->dues[added].next;
    generator->dues[added] = (struct due){at_ns, NOBODY};
    int32_t sender = (int32_t)random_below(generator, (uint32_t)generator->talker_count);
    struct client *client = &generator->clients[sender];
    if (client->first_due == NOBODY)
        client->first_due = added;
    else
        generator->dues[client->last_due].next = added;
    client->last_due = added;
    mark_dirty(generator, sender);
    return true;
}

static double interval_ns(const struct generator *generator)
{
    const struct options *options = generator->options;
    return 1e9 * options->talkers / (options->rate * generator->talker_count);
}

/* Queues every message whose time has come, and sets the timer to the next one. */
static void keep_rate(struct generator *generator)
{
    double interval = interval_ns(generator);
    generator->now_ns = monotonic_ns();
    while (generator->next_due_ns <= generator->now_ns && generator->next_due_ns < generator->closes_ns) {
        if (!add_due(generator, generator->next_due_ns))
            break;
        generator->due_count++;
        generator->next_due_ns = generator->starts_ns + (int64_t)(interval * (double)generator->due_count);
    }
    bool is_over = generator->next_due_ns >= generator->closes_ns;
    int64_t at_ns = is_over ? 0 : generator->next_due_ns;           /* 0 stops the timer */
    struct itimerspec timer = {.it_value = {at_ns / 1000000000, at_ns % 1000000000}};
    timerfd_settime(generator->timer_fd, TFD_TIMER_ABSTIME, &timer, NULL);
}

static void take_event(struct generator *generator, const struct epoll_event *event)
{
    if (event->data.u32 == TIMER) {
        keep_rate(generator);
        return;
    }
    int32_t index = (int32_t)event->data.u32;
    if (event->events & EPOLLOUT)
        flush_pending(generator, index);
    if (event->events & (EPOLLIN | EPOLLERR | EPOLLHUP))
        read_lines(generator, index);
}

static void run_round(struct generator *generator)
{
    struct epoll_event events[ROUND_EVENTS];
    int ready = epoll_wait(generator->poll_fd, events, ROUND_EVENTS, generator->dirty_count > 0 ? 0 : ROUND_MS);
    if (ready < 0 && errno != EINTR)
        give_up("epoll_wait: %s", strerror(errno));
    for (int i = 0; i < ready; i++)
        take_event(generator, &events[i]);
    generator->now_ns = monotonic_ns();
    send_dirty(generator);
}

/* The lanes of this process: how many of its clients may be joining at the same time. */
static int32_t lane_count(const struct options *options)
{
    int lanes = options->lanes / options->processes;
    return lanes > 0 ? lanes : 1;
}

static void connect_next(struct generator *generator)
{
    int32_t lanes = lane_count(generator->options);
    while (generator->next_to_connect < generator->client_count && generator->joining_count < lanes) {
        if (!open_connection(generator, generator->next_to_connect))
            return;
        generator->joining_count++;
        begin_conversation(generator, generator->next_to_connect++);
    }
}

static void join_all(struct generator *generator)
{
    while (generator->joined_count < generator->client_count) {
        connect_next(generator);
        run_round(generator);
    }
}

static void await_start(struct generator *generator)
{
    struct board *board = generator->board;
    while ((generator->starts_ns = board->starts_ns) == 0) {
        generator->starts_ns = INT64_MAX;
        run_round(generator);
    }
    generator->opens_ns = board->opens_ns;
    generator->closes_ns = board->closes_ns;
    while (generator->now_ns < generator->starts_ns)
        run_round(generator);
}

/* Twice what may be in flight: a receipt may come before its message, and a refusal does not tell its message. */
static void open_flights(struct generator *generator)
{
    const struct options *options = generator->options;
    int32_t capacity = options->rate > 0 ? RATE_FLIGHTS : options->in_flight * 2;
    for (int32_t i = 0; i < generator->talker_count; i++)
        flights_open(&generator->clients[i].flights, capacity);
}

static void open_posts(struct generator *generator)
{
    size_t talkers = (size_t)generator->talker_count;
    struct posts *posts = allocate(talkers, sizeof *posts);
    struct hearing *hearings = allocate((size_t)generator->client_count * talkers, sizeof *hearings);
    for (size_t i = 0; i < talkers; i++)
        generator->clients[i].posts = &posts[i];
    for (size_t i = 0; i < (size_t)generator->client_count; i++)
        generator->clients[i].hearings = &hearings[i * talkers];
}

static void begin_talk(struct generator *generator)
{
    if (generator->options->has_room)
        open_posts(generator);
    else
        open_flights(generator);
    for (int32_t i = 0; i < generator->talker_count; i++)
        mark_dirty(generator, i);
}

static void start_rate(struct generator *generator)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = TIMER};
    generator->dues = allocate(DUE_LIMIT, sizeof *generator->dues);
    for (int32_t i = 0; i < DUE_LIMIT; i++)
        generator->dues[i].next = i + 1 < DUE_LIMIT ? i + 1 : NOBODY;
    if (epoll_ctl(generator->poll_fd, EPOLL_CTL_ADD, generator->timer_fd, &event) < 0)
        give_up("epoll_ctl: %s", strerror(errno));
    generator->next_due_ns = generator->starts_ns;
    keep_rate(generator);
}

/* MODE_JOIN: who is done begins again, under a name that nobody had. */
static void renew_lanes(struct generator *generator)
{
    for (int32_t i = 0; i < generator->client_count; i++) {
        struct client *client = &generator->clients[i];
        if (client->fd >= 0 || !may_send(generator))
            continue;
        name_client(generator, i, generator->next_number);
        generator->next_number += (uint32_t)generator->options->processes;
        if (!open_connection(generator, i))
            continue;
        generator->joining_count++;
        begin_conversation(generator, i);
    }
}

static void run_traffic(struct generator *generator)
{
    bool is_window_open = false;
    int64_t cpu_at_opening_ns = 0;
    while (generator->now_ns < generator->closes_ns) {
        if (!is_window_open && generator->now_ns >= generator->opens_ns) {
            is_window_open = true;
            cpu_at_opening_ns = cpu_ns();
        }
        if (generator->options->mode == MODE_JOIN)
            renew_lanes(generator);
        run_round(generator);
    }
    tally_add(&generator->tally->window_cpu_ns, (uint64_t)(cpu_ns() - cpu_at_opening_ns));
}

static struct awaited awaited(const struct generator *generator)
{
    struct awaited awaited = {0};
    for (int32_t i = 0; i < generator->talker_count; i++) {
        const struct client *client = &generator->clients[i];
        if (client->posts)
            posts_awaited(client->posts, &awaited);
        else
            flights_awaited(&client->flights, &awaited);
    }
    return awaited;
}

static bool has_due(const struct generator *generator)
{
    for (int32_t i = 0; i < generator->talker_count; i++) {
        if (generator->clients[i].first_due != NOBODY)
            return true;
    }
    return false;
}

static bool is_drained(const struct generator *generator)
{
    if (generator->options->mode == MODE_JOIN)
        return generator->joining_count + generator->joined_count == 0;
    struct awaited left = awaited(generator);
    return left.messages + left.receipts == 0 && !has_due(generator);
}

static void run_rounds_until(struct generator *generator, int64_t deadline_ns)
{
    while (generator->now_ns < deadline_ns)
        run_round(generator);
}

static void drain(struct generator *generator)
{
    struct tally *tally = generator->tally;
    int64_t deadline_ns = generator->closes_ns + (int64_t)(generator->options->drain_seconds * 1e9);
    while (!is_drained(generator) && generator->now_ns < deadline_ns)
        run_round(generator);
    run_rounds_until(generator, monotonic_ns() + (int64_t)(generator->options->settle_seconds * 1e9));
    struct awaited left = awaited(generator);
    if (has_due(generator))
        complain(generator, &tally->errors, "a due message could not be sent");
    tally_add(&tally->lost, left.messages);
    tally_add(&tally->lost_receipts, left.receipts);
    for (uint64_t i = 0; i < left.contradictions; i++)
        complain(generator, &tally->errors, "a message arrived that had been refused");
}

/* In MODE_JOIN all have left before, but for those who were waited for in vain. */
static void leave_all(struct generator *generator)
{
    bool is_cycling = generator->options->mode == MODE_JOIN;
    int64_t deadline_ns = monotonic_ns() + (int64_t)(generator->options->drain_seconds * 1e9);
    for (int32_t i = 0; i < generator->client_count; i++) {
        if (generator->clients[i].state == JOINED)
            leave(generator, i);
    }
    while (!is_cycling && generator->joined_count > 0 && generator->now_ns < deadline_ns)
        run_round(generator);
    tally_add(&generator->tally->unfinished, (uint64_t)(generator->joined_count + generator->joining_count));
}

int generate(const struct options *options, struct board *board, int index)
{
    struct generator *generator = open_generator(options, board, index);
    if (options->mode != MODE_JOIN)
        join_all(generator);
    await_start(generator);
    if (options->mode == MODE_CHAT)
        begin_talk(generator);
    if (options->rate > 0)
        start_rate(generator);
    run_traffic(generator);
    drain(generator);
    while (!board->released)
        run_round(generator);
    leave_all(generator);
    return EXIT_SOUND;
}
