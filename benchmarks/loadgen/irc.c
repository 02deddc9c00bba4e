/*
 * IRC as RFC 1459 and 2812 have it, as far as a client that talks needs it: NICK, USER, JOIN, PRIVMSG, QUIT, PONG.
 *
 * A client is joined when its registration is confirmed (001), or, with a room, when the list of the room's members ends
 * (366). What else a server says of itself and of others is a note.
 */
#include <stdio.h>

#include "generator.h"

enum {
    WELCOME = 1,
    END_OF_NAMES = 366,
    NO_MOTD = 422,
    FIRST_ERROR = 400,
    TEXT_LIMIT_BYTES = 350,     /* a line has 512 with its end, and the server adds the sender's name and host */
};

static int answer_count(const struct options *options)
{
    return options->has_room ? 2 : 1;
}

static int put_opening(const struct generator *generator, int32_t index, char *to)
{
    const struct name *name = &generator->names[index];
    return sprintf(to, "NICK %.*s\r\nUSER bench 0 * :bench\r\n", name->bytes, name->text);
}

static int put_sequel(const struct generator *generator, int answers_due, char *to)
{
    const struct options *options = generator->options;
    return options->has_room && answers_due == 1 ? sprintf(to, "JOIN %s\r\n", options->room) : 0;
}

static int put_pong(const char *line, int bytes, char *to)
{
    return sprintf(to, "PONG %.*s\r\n", bytes - 5, line + 5);
}

static bool ends_with(const char *start, const char *end, const char *wanted, int wanted_bytes)
{
    return end - start >= wanted_bytes && memcmp(end - wanted_bytes, wanted, (size_t)wanted_bytes) == 0;
}

/* `:<from>!<user>@<host> PRIVMSG <to> :<text>`; read from its end, so that it costs no search but that for the `!`. */
static struct heard hear_message(const struct generator *generator, int32_t index, const char *line, int bytes)
{
    const struct options *options = generator->options;
    const struct name *name = &generator->names[index];
    const char *to = options->has_room ? options->room : name->text;
    int to_bytes = options->has_room ? options->room_bytes : name->bytes;
    const char *text = line + bytes - options->payload_bytes, *end = text;
    const char *from_end = memchr(line, '!', (size_t)bytes);
    struct heard strange = {.kind = HEARD_MESSAGE};
    if (!from_end || from_end >= end || !ends_with(from_end, end, " :", 2))
        return strange;
    end -= 2;
    if (!ends_with(from_end, end, to, to_bytes) || !ends_with(from_end, end - to_bytes, " PRIVMSG ", 9))
        return strange;
    return (struct heard){.kind = HEARD_MESSAGE, .name = line + 1, .name_bytes = (int)(from_end - line - 1), .text = text};
}

static struct heard hear_numeric(int number)
{
    if (number == WELCOME || number == END_OF_NAMES)
        return (struct heard){.kind = HEARD_ANSWER};
    bool is_error = number >= FIRST_ERROR && number != NO_MOTD;
    return (struct heard){.kind = is_error ? HEARD_STRANGE : HEARD_NOTE};
}

static struct heard hear(const struct generator *generator, int32_t index, const char *line, int bytes)
{
    if (bytes > 0 && line[bytes - 1] == '\r')
        bytes--;
    if (starts_with(line, bytes, "PING "))
        return (struct heard){.kind = HEARD_PING};
    if (starts_with(line, bytes, "ERROR "))
        return (struct heard){.kind = HEARD_GOODBYE};
    const char *space = bytes > 0 && line[0] == ':' ? memchr(line, ' ', (size_t)bytes) : NULL;
    if (!space)
        return (struct heard){.kind = starts_with(line, bytes, "NOTICE ") ? HEARD_NOTE : HEARD_STRANGE};
    const char *verb = space + 1;
    int left = (int)(line + bytes - verb);
    if (starts_with(verb, left, "PRIVMSG "))
        return hear_message(generator, index, line, bytes);
    if (left > 3 && verb[3] == ' ' && verb[0] >= '0' && verb[0] <= '9')
        return hear_numeric((verb[0] - '0') * 100 + (verb[1] - '0') * 10 + (verb[2] - '0'));
    return (struct heard){.kind = HEARD_NOTE};
}

const struct dialect IRC = {
    .verb = "PRIVMSG ",
    .before_text = " :",
    .line_end = "\r\n",
    .leave = "QUIT\r\n",
    .text_limit_bytes = TEXT_LIMIT_BYTES,
    .has_receipts = false,
    .answer_count = answer_count,
    .put_opening = put_opening,
    .put_sequel = put_sequel,
    .put_pong = put_pong,
    .hear = hear,
};
