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
    char opening[64];
    const struct name *name = &generator->names[index];
    bool is_quiet = !generator->options->receipts && generator->options->mode != MODE_JOIN;
    int bytes = snprintf(opening, sizeof opening, "%sJOIN %.*s\n", is_quiet ? "HELO quiet\n" : "", name->bytes, name->text);
    generator->clients[index].answers_due = is_quiet ? 3 : 2;       /* the greeting and one for each line */
    write_bytes(generator, index, opening, bytes);
}

void leave(struct generator *generator, int32_t index)
{
    generator->clients[index].state = LEAVING;
    write_bytes(generator, index, "LEAV\n", 5);
}

static void take_answer_to_join(struct generator *generator, int32_t index, const char *line, int bytes)
{
    struct client *client = &generator->clients[index];
    const struct name *name = &generator->names[index];
    if (client->answers_due > 1 && starts_with(line, bytes, "OK HELO ")) {
        client->answers_due--;
        return;
    }
    if (client->answers_due != 1 || !starts_with(line, bytes, "OK JOIN ") || bytes != 8 + name->bytes ||
        memcmp(line + 8, name->text, name->bytes) != 0)
        give_up("%.*s could not join: the server said: %.*s", name->bytes, name->text, bytes, line);
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

/* Reads `CHAT <from> <payload>`; returns the sender, or NOBODY when it is not what one of our clients sent. */
static int32_t read_message(const struct generator *generator, const char *line, int bytes, struct stamp *stamp)
{
    int payload_bytes = generator->options->payload_bytes;
    const char *payload = line + bytes - payload_bytes;
    int from_bytes = bytes - payload_bytes - 6;
    if (from_bytes < 1 || payload[-1] != ' ' || !get_stamp(payload, stamp))
        return NOBODY;
    int64_t sender = (int64_t)stamp->sender - generator->first_number;
    if (sender < 0 || sender >= generator->client_count)
        return NOBODY;
    const struct name *name = &generator->names[sender];
    if (name->bytes != from_bytes || memcmp(name->text, line + 5, name->bytes) != 0 ||
        memcmp(payload + STAMP_BYTES, generator->filling, (size_t)(payload_bytes - STAMP_BYTES)) != 0)
        return NOBODY;
    return (int32_t)sender;
}

static void take_message(struct generator *generator, int32_t index, const char *line, int bytes)
{
    struct tally *tally = generator->tally;
    struct stamp stamp;
    int32_t sender = read_message(generator, line, bytes, &stamp);
    if (sender == NOBODY) {
        complain_of(generator, &tally->corrupted, line, bytes);
        return;
    }
    struct flights *flights = &generator->clients[sender].flights;
    switch (flights_arrive(flights, index, stamp.slot, stamp.sequence, stamp.sent_ns)) {
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
    if (!generator->options->receipts)
        credit(generator, sender);
    else if (flights->free_count == 1)          /* it was waiting for a slot, not for a receipt */
        mark_dirty(generator, sender);
}

static void take_receipt(struct generator *generator, int32_t index, const char *line, int bytes)
{
    struct tally *tally = generator->tally;
    int32_t dest = find_client(generator, line + 8, bytes - 8);
    int64_t sent_ns = dest == NOBODY ? -1 : flights_answer(&generator->clients[index].flights, dest);
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
    credit(generator, index);
}

/* `ERR CHAT <CODE> <dest> <text>`: that message will not arrive. */
static void take_refusal(struct generator *generator, int32_t index, const char *line, int bytes)
{
    const char *end = line + bytes;
    const char *dest = memchr(line + 9, ' ', (size_t)(bytes - 9));
    const char *dest_end = dest ? memchr(dest + 1, ' ', (size_t)(end - dest - 1)) : NULL;
    int32_t found = dest ? find_client(generator, dest + 1, (int)((dest_end ? dest_end : end) - dest - 1)) : NOBODY;
    bool is_ours = found != NOBODY &&
                   flights_refuse(&generator->clients[index].flights, found, generator->options->receipts);
    complain_of(generator, is_ours ? &generator->tally->refused : &generator->tally->errors, line, bytes);
    if (is_ours)
        credit(generator, index);
}

void take_line(struct generator *generator, int32_t index, const char *line, int bytes)
{
    struct client *client = &generator->clients[index];
    bool is_talking = generator->options->mode == MODE_CHAT && (client->state == JOINED || client->state == LEAVING);
    if (is_talking && starts_with(line, bytes, "CHAT "))
        take_message(generator, index, line, bytes);
    else if (is_talking && starts_with(line, bytes, "OK CHAT "))
        take_receipt(generator, index, line, bytes);
    else if (is_talking && starts_with(line, bytes, "ERR CHAT "))
        take_refusal(generator, index, line, bytes);
    else if (starts_with(line, bytes, "NOTE "))
        tally_add(&generator->tally->notes, 1);
    else if (client->state == JOINING)
        take_answer_to_join(generator, index, line, bytes);
    else if (client->state == LEAVING && !client->has_answer_to_leave && bytes == 7 && starts_with(line, bytes, "OK LEAV"))
        client->has_answer_to_leave = true;
    else
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

/* A destination other than the sender; of those who left the server says NOUSER, which is counted. */
static int32_t pick_dest(struct generator *generator, int32_t sender)
{
    uint32_t others = (uint32_t)generator->client_count - 1;
    return (int32_t)(((uint32_t)sender + 1 + random_below(generator, others)) % (others + 1));
}

/* Writes one message to `to`; returns its bytes, or 0 when the sender's table of flights is full. */
static int32_t put_message(struct generator *generator, int32_t sender, char *to, int64_t sent_at_ns)
{
    int32_t dest = pick_dest(generator, sender);
    struct flights *flights = &generator->clients[sender].flights;
    int64_t sent_ns = sent_at_ns - generator->board->origin_ns;
    uint32_t sequence = flights->next_sequence;
    int32_t slot = flights_send(flights, dest, generator->options->receipts, sent_ns);
    if (slot == NOBODY)
        return 0;
    const struct name *name = &generator->names[dest];
    uint32_t number = (uint32_t)(generator->first_number + sender);
    int filling_bytes = generator->options->payload_bytes - STAMP_BYTES;
    char *at = to;
    memcpy(at, "CHAT ", 5);
    at += 5;
    memcpy(at, name->text, sizeof name->text);      /* whole: a copy of constant size is a few instructions */
    at += name->bytes;
    *at++ = ' ';
    put_stamp(at, &(struct stamp){number, (uint32_t)slot, sequence, sent_ns});
    at += STAMP_BYTES;
    memcpy(at, generator->filling, (size_t)filling_bytes);
    at += filling_bytes;
    *at++ = '\n';
    return (int32_t)(at - to);
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
