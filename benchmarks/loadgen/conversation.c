/*
 * What a client says and what the server's answers mean for the tally.
 *
 * A client asks for its name at once, without waiting for the greeting. A message is credited to its sender when it arrives
 * (quiet) or when its receipt does, and the sender may then send the next one.
 */
#include <stdio.h>

#include "generator.h"

void name_client(struct generator *generator, int32_t index, uint32_t number)
{
    struct name *name = &generator->names[index];
    name->bytes = (uint8_t)snprintf(name->text, sizeof name->text, "%s%u", generator->options->prefix, number);
}

bool may_send(const struct generator *generator)
{
    return generator->now_ns >= generator->starts_ns && generator->now_ns < generator->closes_ns;
}

static bool is_in_window(const struct generator *generator, int64_t time_ns)
{
    return time_ns >= generator->opens_ns && time_ns < generator->closes_ns;
}

void begin_conversation(struct generator *generator, int32_t index)
{
    const struct dialect *dialect = generator->options->dialect;
    char opening[LINE_LIMIT_BYTES];
    generator->clients[index].answers_due = (uint8_t)dialect->answer_count(generator->options);
    write_bytes(generator, index, opening, dialect->put_opening(generator, index, opening));
}

void leave(struct generator *generator, int32_t index)
{
    const char *word = generator->options->dialect->leave;
    generator->clients[index].state = LEAVING;
    write_bytes(generator, index, word, (int32_t)strlen(word));
}

static void take_answer_to_join(struct generator *generator, int32_t index)
{
    struct client *client = &generator->clients[index];
    char sequel[LINE_LIMIT_BYTES];
    if (--client->answers_due > 0) {
        int bytes = generator->options->dialect->put_sequel(generator, client->answers_due, sequel);
        if (bytes > 0)
            write_bytes(generator, index, sequel, bytes);
        return;
    }
    client->state = JOINED;
    generator->joining_count--;
    generator->joined_count++;
    tally_add(&generator->tally->joined, 1);
    if (generator->options->mode == MODE_JOIN) {
        if (is_in_window(generator, client->began_ns))
            histogram_add(&generator->tally->delivery, generator->now_ns - client->began_ns);
        leave(generator, index);
    }
}

/* The client whose name stands at `text`, or NOBODY. */
static int32_t find_client(const struct generator *generator, const char *text, int bytes)
{
    int prefix_bytes = (int)strlen(generator->options->prefix);
    int64_t number = 0;
    if (bytes <= prefix_bytes || bytes > prefix_bytes + 7)
        return NOBODY;
    for (int i = prefix_bytes; i < bytes; i++)
        number = number * 10 + (text[i] - '0');
    int64_t index = number - generator->first_number;
    if (index < 0 || index >= generator->client_count || generator->names[index].bytes != bytes ||
        memcmp(generator->names[index].text, text, (size_t)bytes) != 0)
        return NOBODY;
    return (int32_t)index;
}

/* Gives a message back to its sender's count of what may be in flight. */
static void credit(struct generator *generator, int32_t sender)
{
    generator->clients[sender].unanswered--;
    mark_dirty(generator, sender);
}

/* Reads a message's stamp; returns the sender, or NOBODY when it is not what one of our clients sent. */
static int32_t read_message(const struct generator *generator, const struct heard *heard, struct stamp *stamp)
{
    if (!heard->text || !get_stamp(heard->text, stamp))
        return NOBODY;
    int64_t sender = (int64_t)stamp->sender - generator->first_number;
    if (sender < 0 || sender >= generator->talker_count)
        return NOBODY;
    const struct name *name = &generator->names[sender];
    int filling_bytes = generator->options->payload_bytes - STAMP_BYTES;
    if (name->bytes != heard->name_bytes || memcmp(name->text, heard->name, name->bytes) != 0 ||
        memcmp(heard->text + STAMP_BYTES, generator->tail, (size_t)filling_bytes) != 0)
        return NOBODY;
    return (int32_t)sender;
}

/* The sender's table says what this arrival is. `is_free` tells whether the sender has a place for another message now. */
static enum arrival note_arrival(struct generator *generator, int32_t index, int32_t sender, const struct stamp *stamp, bool *is_free)
{
    struct client *from = &generator->clients[sender];
    if (from->posts) {
        struct hearing *hearing = &generator->clients[index].hearings[sender];
        return posts_arrive(from->posts, hearing, stamp->slot, stamp->sequence, stamp->sent_ns, is_free);
    }
    enum arrival arrival = flights_arrive(&from->flights, index, stamp->slot, stamp->sequence, stamp->sent_ns);
    *is_free = !generator->options->receipts;
    return arrival;
}

static void take_message(struct generator *generator, int32_t index, const struct heard *heard, const char *line, int bytes)
{
    struct tally *tally = generator->tally;
    struct stamp stamp;
    bool is_free = false;
    int32_t sender = read_message(generator, heard, &stamp);
    if (sender == NOBODY) {
        complain_of(generator, &tally->corrupted, line, bytes);
        return;
    }
    switch (note_arrival(generator, index, sender, &stamp, &is_free)) {
    case ARRIVED_STRANGE:
        complain_of(generator, &tally->corrupted, line, bytes);
        return;
    case ARRIVED_TWICE:
        complain_of(generator, &tally->doubled, line, bytes);
        return;
    case ARRIVED_REORDERED:
        complain_of(generator, &tally->reordered, line, bytes);
        break;
    case ARRIVED:
        break;
    }
    tally_add(&tally->delivered, 1);
    if (is_in_window(generator, generator->now_ns))
        tally_add(&tally->window_delivered, 1);
    int64_t sent_at_ns = stamp.sent_ns + generator->board->origin_ns;
    if (is_in_window(generator, sent_at_ns))
        histogram_add(&tally->delivery, generator->now_ns - sent_at_ns);
    if (is_free)
        credit(generator, sender);
    else if (generator->clients[sender].flights.free_count == 1)    /* it was waiting for a slot, not for a receipt */
        mark_dirty(generator, sender);
}

static bool is_room(const struct options *options, const struct heard *heard)
{
    return options->has_room && heard->name_bytes == options->room_bytes &&
           memcmp(heard->name, options->room, (size_t)heard->name_bytes) == 0;
}

/* Returns when the message that this is a receipt of was sent, or -1 if there is none. */
static int64_t note_receipt(struct generator *generator, int32_t index, const struct heard *heard, bool *is_free)
{
    struct client *client = &generator->clients[index];
    if (client->posts) {
        bool is_true = is_room(generator->options, heard) && heard->reached == generator->client_count - 1;
        return is_true ? posts_answer(client->posts, is_free) : -1;
    }
    int32_t dest = find_client(generator, heard->name, heard->name_bytes);
    *is_free = true;
    return dest == NOBODY ? -1 : flights_answer(&client->flights, dest);
}

static void take_receipt(struct generator *generator, int32_t index, const struct heard *heard, const char *line, int bytes)
{
    struct tally *tally = generator->tally;
    bool is_free = false;
    int64_t sent_ns = note_receipt(generator, index, heard, &is_free);
    if (sent_ns < 0) {
        complain_of(generator, &tally->errors, line, bytes);
        return;
    }
    tally_add(&tally->receipts, 1);
    if (is_in_window(generator, generator->now_ns))
        tally_add(&tally->window_receipts, 1);
    int64_t sent_at_ns = sent_ns + generator->board->origin_ns;
    if (is_in_window(generator, sent_at_ns))
        histogram_add(&tally->receipt, generator->now_ns - sent_at_ns);
    if (is_free)
        credit(generator, index);
}

/* That message will not arrive. (Of one to a room, it is not known which; it stays missing, and so is lost.) */
static void take_refusal(struct generator *generator, int32_t index, const struct heard *heard, const char *line, int bytes)
{
    struct client *client = &generator->clients[index];
    int32_t dest = find_client(generator, heard->name, heard->name_bytes);
    bool is_ours = dest != NOBODY && !client->posts && flights_refuse(&client->flights, dest, generator->options->receipts);
    complain_of(generator, is_ours ? &generator->tally->refused : &generator->tally->errors, line, bytes);
    if (is_ours)
        credit(generator, index);
}

static void answer_ping(struct generator *generator, int32_t index, const char *line, int bytes)
{
    char pong[LINE_LIMIT_BYTES + 8];
    if (bytes <= LINE_LIMIT_BYTES)
        write_bytes(generator, index, pong, generator->options->dialect->put_pong(line, bytes, pong));
}

/* What is said between clients; false when nobody talks at this time. */
static bool take_talk(struct generator *generator, int32_t index, const struct heard *heard, const char *line, int bytes)
{
    uint8_t state = generator->clients[index].state;
    if (generator->options->mode != MODE_CHAT || (state != JOINED && state != LEAVING))
        return false;
    if (heard->kind == HEARD_MESSAGE)
        take_message(generator, index, heard, line, bytes);
    else if (heard->kind == HEARD_RECEIPT)
        take_receipt(generator, index, heard, line, bytes);
    else
        take_refusal(generator, index, heard, line, bytes);
    return true;
}

static bool take_goodbye(struct client *client)
{
    bool is_awaited = client->state == LEAVING && !client->has_answer_to_leave;
    client->has_answer_to_leave |= is_awaited;
    return is_awaited;
}

void take_line(struct generator *generator, int32_t index, const char *line, int bytes)
{
    struct client *client = &generator->clients[index];
    struct heard heard = generator->options->dialect->hear(generator, index, line, bytes);
    bool is_expected = false;
    switch (heard.kind) {
    case HEARD_MESSAGE:
    case HEARD_RECEIPT:
    case HEARD_REFUSAL:
        is_expected = take_talk(generator, index, &heard, line, bytes);
        break;
    case HEARD_ANSWER:
        is_expected = client->state == JOINING;
        if (is_expected)
            take_answer_to_join(generator, index);
        break;
    case HEARD_GOODBYE:
        is_expected = take_goodbye(client);
        break;
    case HEARD_PING:
        is_expected = true;
        answer_ping(generator, index, line, bytes);
        break;
    case HEARD_NOTE:
        is_expected = true;
        tally_add(&generator->tally->notes, 1);
        break;
    case HEARD_STRANGE:
        break;
    }
    const struct name *name = &generator->names[index];
    if (!is_expected && client->state == JOINING)
        give_up("%.*s could not join: the server said: %.*s", name->bytes, name->text, bytes, line);
    if (!is_expected)
        complain_of(generator, &generator->tally->errors, line, bytes);
}

void take_end(struct generator *generator, int32_t index, const char *reason)
{
    struct client *client = &generator->clients[index];
    bool is_cycling = generator->options->mode == MODE_JOIN;
    bool is_orderly = client->state == LEAVING && client->has_answer_to_leave;
    if (client->state == JOINING) {
        if (!is_cycling)
            give_up("a connection was closed before it was joined: %s", reason);
        generator->joining_count--;
    } else {
        generator->joined_count--;
    }
    close_connection(generator, index);
    if (!is_orderly)
        complain(generator, &generator->tally->disconnects, reason);
    else if (is_cycling) {
        tally_add(&generator->tally->cycles, 1);
        if (is_in_window(generator, generator->now_ns))
            tally_add(&generator->tally->window_cycles, 1);
    }
}

/* A talker other than the sender; of those who left the server says that they are not there, which is counted. */
static int32_t pick_dest(struct generator *generator, int32_t sender)
{
    uint32_t others = (uint32_t)generator->talker_count - 1;
    return (int32_t)(((uint32_t)sender + 1 + random_below(generator, others)) % (others + 1));
}

static char *put_text(char *to, const char *text)
{
    while (*text)
        *to++ = *text++;
    return to;
}

static char *put_name(char *to, const struct name *name)
{
    memcpy(to, name->text, sizeof name->text);      /* whole: a copy of constant size is a few instructions */
    return to + name->bytes;
}

/* Writes one message to `to`; returns its bytes, or 0 when the sender's table of what is under way is full. */
static int32_t put_message(struct generator *generator, int32_t sender, char *to, int64_t sent_at_ns)
{
    const struct options *options = generator->options;
    struct client *client = &generator->clients[sender];
    int64_t sent_ns = sent_at_ns - generator->board->origin_ns;
    uint32_t number = (uint32_t)(generator->first_number + sender);
    int32_t dest = client->posts ? NOBODY : pick_dest(generator, sender);
    uint32_t sequence = client->posts ? client->posts->next_sequence : client->flights.next_sequence;
    int32_t slot = client->posts ? posts_send(client->posts, generator->client_count - 1, options->receipts, sent_ns)
                                 : flights_send(&client->flights, dest, options->receipts, sent_ns);
    if (slot == NOBODY)
        return 0;
    char *at = put_text(to, options->dialect->verb);
    at = client->posts ? put_text(at, options->room) : put_name(at, &generator->names[dest]);
    at = put_text(at, options->dialect->before_text);
    put_stamp(at, &(struct stamp){number, (uint32_t)slot, sequence, sent_ns});
    at += STAMP_BYTES;
    memcpy(at, generator->tail, (size_t)generator->tail_bytes);
    return (int32_t)(at - to) + generator->tail_bytes;
}

/* When the next message was to be sent, or -1 when nothing is to be sent now. */
static int64_t next_sending(struct generator *generator, const struct client *client)
{
    if (generator->options->rate > 0)
        return client->first_due == NOBODY ? -1 : generator->dues[client->first_due].at_ns;
    return client->unanswered < generator->options->in_flight ? generator->now_ns : -1;
}

/* A fixed-rate message has been sent: takes it out of its sender's queue. */
static void finish_due(struct generator *generator, struct client *client)
{
    struct due *due = &generator->dues[client->first_due];
    if (is_in_window(generator, due->at_ns))
        histogram_add(&generator->tally->lateness, generator->now_ns - due->at_ns);
    int32_t done = client->first_due;
    client->first_due = due->next;
    due->next = generator->free_due;
    generator->free_due = done;
}

void send_messages(struct generator *generator, int32_t index)
{
    struct client *client = &generator->clients[index];
    generator->now_ns = monotonic_ns();
    bool has_rate = generator->options->rate > 0;
    if (client->state != JOINED || client->pending || (!has_rate && !may_send(generator)))
        return;
    int32_t used = 0, bytes;
    int64_t at_ns;
    while ((at_ns = next_sending(generator, client)) >= 0) {
        if (used > OUTPUT_BYTES - LINE_LIMIT_BYTES) {
            mark_dirty(generator, index);
            break;
        }
        bytes = put_message(generator, index, generator->output + used, at_ns);
        if (bytes == 0)
            break;
        used += bytes;
        client->unanswered++;
        tally_add(&generator->tally->sent, 1);
        if (has_rate)
            finish_due(generator, client);
    }
    if (used > 0)
        write_bytes(generator, index, generator->output, used);
}
