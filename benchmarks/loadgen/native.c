/*
 * This project's dialect: HELO, JOIN, PASS, ENTR, CHAT, LEAV. All that a client has to say before it is joined leaves in one
 * write, without waiting for the greeting; the answers come in that order.
 */
#include <stdio.h>
#include <stdlib.h>

#include "generator.h"

static bool is_quiet(const struct options *options)
{
    return !options->receipts && options->mode != MODE_JOIN;
}

/* Beginnings of the answers that come before the last one; the greeting is the first. Ends with NULL. */
static int list_answers(const struct options *options, const char *answers[6])
{
    int count = 0;
    answers[count++] = "OK HELO ";
    if (is_quiet(options))
        answers[count++] = "OK HELO ";
    answers[count++] = "OK JOIN ";
    if (options->password)
        answers[count++] = "OK PASS";
    if (options->has_room)
        answers[count++] = "OK ENTR ";
    return count;
}

static int answer_count(const struct options *options)
{
    const char *answers[6];
    return list_answers(options, answers);
}

static int put_opening(const struct generator *generator, int32_t index, char *to)
{
    const struct options *options = generator->options;
    const struct name *name = &generator->names[index];
    char *at = to;
    if (is_quiet(options))
        at += sprintf(at, "HELO quiet\n");
    at += sprintf(at, "JOIN %.*s\n", name->bytes, name->text);
    if (options->password)
        at += sprintf(at, "PASS %s\n", options->password);
    if (options->has_room)
        at += sprintf(at, "ENTR %s\n", options->room);
    return (int)(at - to);
}

static int put_sequel(const struct generator *generator, int answers_due, char *to)
{
    (void)generator, (void)answers_due, (void)to;
    return 0;
}

static int put_pong(const char *line, int bytes, char *to)
{
    (void)line, (void)bytes, (void)to;
    return 0;                                   /* this server asks nothing */
}

static bool is_answer(const struct generator *generator, int32_t index, const char *line, int bytes)
{
    const char *answers[6];
    const struct name *name = &generator->names[index];
    int count = list_answers(generator->options, answers);
    const char *answer = answers[count - generator->clients[index].answers_due];
    if (!starts_with(line, bytes, answer))
        return false;
    bool tells_name = strcmp(answer, "OK JOIN ") == 0;
    return !tells_name || (bytes == 8 + name->bytes && memcmp(line + 8, name->text, name->bytes) == 0);
}

/* `CHAT <from> <text>`, in a room `CHAT <room> <from> <text>`. */
static struct heard hear_message(const struct options *options, const char *line, int bytes)
{
    const char *from = line + 5, *end = line + bytes - options->payload_bytes - 1;
    if (options->has_room) {
        if (!starts_with(from, (int)(line + bytes - from), options->room) || from[options->room_bytes] != ' ')
            return (struct heard){.kind = HEARD_MESSAGE};
        from += options->room_bytes + 1;
    }
    if (end <= from || *end != ' ')
        return (struct heard){.kind = HEARD_MESSAGE};
    return (struct heard){.kind = HEARD_MESSAGE, .name = from, .name_bytes = (int)(end - from), .text = end + 1};
}

/* `OK CHAT <dest>`, of a room `OK CHAT <room> n=<members reached>`. */
static struct heard hear_receipt(const char *line, int bytes)
{
    const char *dest = line + 8, *end = line + bytes;
    const char *dest_end = memchr(dest, ' ', (size_t)(end - dest));
    struct heard heard = {.kind = HEARD_RECEIPT, .name = dest, .name_bytes = bytes - 8, .reached = 1};
    if (!dest_end)
        return heard;
    heard.name_bytes = (int)(dest_end - dest);
    if (!starts_with(dest_end, (int)(end - dest_end), " n="))
        heard.kind = HEARD_STRANGE;
    heard.reached = 0;
    for (const char *digit = dest_end + 3; digit < end && *digit >= '0' && *digit <= '9'; digit++)
        heard.reached = heard.reached * 10 + (*digit - '0');
    return heard;
}

/* `ERR CHAT <CODE> <dest> <text>`. */
static struct heard hear_refusal(const char *line, int bytes)
{
    const char *end = line + bytes;
    const char *space = memchr(line + 9, ' ', (size_t)(bytes - 9));
    if (!space)
        return (struct heard){.kind = HEARD_STRANGE};
    const char *dest_end = memchr(space + 1, ' ', (size_t)(end - space - 1));
    return (struct heard){.kind = HEARD_REFUSAL, .name = space + 1, .name_bytes = (int)((dest_end ? dest_end : end) - space - 1)};
}

static struct heard hear(const struct generator *generator, int32_t index, const char *line, int bytes)
{
    const struct client *client = &generator->clients[index];
    if (starts_with(line, bytes, "CHAT "))
        return hear_message(generator->options, line, bytes);
    if (starts_with(line, bytes, "OK CHAT "))
        return hear_receipt(line, bytes);
    if (starts_with(line, bytes, "ERR CHAT "))
        return hear_refusal(line, bytes);
    if (starts_with(line, bytes, "NOTE "))
        return (struct heard){.kind = HEARD_NOTE};
    if (client->state == JOINING && is_answer(generator, index, line, bytes))
        return (struct heard){.kind = HEARD_ANSWER};
    if (bytes == 7 && starts_with(line, bytes, "OK LEAV"))
        return (struct heard){.kind = HEARD_GOODBYE};
    return (struct heard){.kind = HEARD_STRANGE};
}

const struct dialect NATIVE = {
    .verb = "CHAT ",
    .before_text = " ",
    .line_end = "\n",
    .leave = "LEAV\n",
    .text_limit_bytes = PAYLOAD_LIMIT_BYTES,
    .has_receipts = true,
    .answer_count = answer_count,
    .put_opening = put_opening,
    .put_sequel = put_sequel,
    .put_pong = put_pong,
    .hear = hear,
};
