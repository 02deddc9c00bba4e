/*
 * The practical limit of the work: a chat server that does nothing but move lines, in one thread on one epoll.
 *
 * Speaks the part of the daemon's protocol that the load generator uses, and checks nothing: it trusts its clients, has one
 * room, and gives up where a server would have a policy. A round is one epoll_wait, one read per readable
 * socket, then one write per client that has got something. Prints its port; serves until SIGTERM.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    CLIENTS = 1 << 16,          /* descriptors, which are the clients' indices */
    PLACES = 1 << 18,           /* of the name table */
    NAME_BYTES = 31,
    INPUT_BYTES = 64 * 1024,
    LINE_BYTES = 1024,
    EVENTS = 512,
};

struct client {
    char name[NAME_BYTES + 1];
    uint8_t name_bytes;
    bool is_quiet, is_dirty, is_closing, is_waiting;    /* waiting: for EPOLLOUT */
    int32_t place_in_room;      /* -1: not in it */
    char *partial;              /* the beginning of a line, when there is one */
    int32_t partial_bytes;
    char *output;
    size_t output_bytes, output_room;
};

static struct client clients[CLIENTS];
static int32_t places[PLACES];          /* descriptor by name, open addressing; 0: empty */
static int32_t members[CLIENTS], member_count;
static int32_t dirty[CLIENTS], dirty_count;
static int poll_fd;

static void give_up(const char *what)
{
    perror(what);
    exit(1);
}

static uint32_t hash(const char *name, size_t bytes)
{
    uint32_t value = 2166136261u;
    for (size_t i = 0; i < bytes; i++)
        value = (value ^ (uint8_t)name[i]) * 16777619u;
    return value;
}

/* The place of a name, or the empty one where it would be. */
static uint32_t find(const char *name, size_t bytes)
{
    uint32_t place = hash(name, bytes) & (PLACES - 1);
    for (; places[place] != 0; place = (place + 1) & (PLACES - 1)) {
        const struct client *client = &clients[places[place]];
        if (client->name_bytes == bytes && memcmp(client->name, name, bytes) == 0)
            break;
    }
    return place;
}

/* Empties a place; the names behind it move up where they may. */
static void forget(uint32_t place)
{
    for (uint32_t next = (place + 1) & (PLACES - 1); places[next] != 0; next = (next + 1) & (PLACES - 1)) {
        const struct client *client = &clients[places[next]];
        uint32_t home = hash(client->name, client->name_bytes);
        if (((next - home) & (PLACES - 1)) < ((next - place) & (PLACES - 1)))
            continue;
        places[place] = places[next];
        place = next;
    }
    places[place] = 0;
}

static void watch(int fd, int operation, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.fd = fd};
    if (epoll_ctl(poll_fd, operation, fd, &event) < 0)
        give_up("epoll_ctl");
}

/* Makes room for `bytes` more at the end of a client's output, which is written at the end of the round. */
static char *reserve(int fd, size_t bytes)
{
    struct client *client = &clients[fd];
    if (client->output_bytes + bytes > client->output_room) {
        client->output_room = 2 * client->output_room + bytes;
        client->output = realloc(client->output, client->output_room);
        if (!client->output)
            give_up("output");
    }
    if (!client->is_dirty) {
        client->is_dirty = true;
        dirty[dirty_count++] = fd;
    }
    return client->output + client->output_bytes;
}

static void say(int fd, const char *text, size_t bytes)
{
    memcpy(reserve(fd, bytes), text, bytes);
    clients[fd].output_bytes += bytes;
}

static void say_count(int fd, const char *verb, const char *what, size_t bytes, int count)
{
    char line[LINE_BYTES + 32];
    int length = snprintf(line, sizeof line, "OK %s %.*s n=%d\n", verb, (int)bytes, what, count);
    say(fd, line, (size_t)length);
}

static void say_name(int fd, const char *start, const char *name, size_t bytes)
{
    say(fd, start, strlen(start));
    say(fd, name, bytes);
    say(fd, "\n", 1);
}

/* `CHAT <from> <text>` with its line end; `text` ends with it. */
static void deliver(int to, const char *start, size_t start_bytes, const struct client *from, const char *text, size_t bytes)
{
    char *at = reserve(to, start_bytes + from->name_bytes + 1 + bytes);
    memcpy(at, start, start_bytes);
    memcpy(at + start_bytes, from->name, from->name_bytes);
    at[start_bytes + from->name_bytes] = ' ';
    memcpy(at + start_bytes + from->name_bytes + 1, text, bytes);
    clients[to].output_bytes += start_bytes + from->name_bytes + 1 + bytes;
}

static void chat_in_room(int fd, const char *dest, size_t dest_bytes, const char *text, size_t text_bytes)
{
    char start[LINE_BYTES];
    size_t start_bytes = (size_t)snprintf(start, sizeof start, "CHAT %.*s ", (int)dest_bytes, dest);
    for (int32_t i = 0; i < member_count; i++) {
        if (members[i] != fd)
            deliver(members[i], start, start_bytes, &clients[fd], text, text_bytes);
    }
    if (!clients[fd].is_quiet)
        say_count(fd, "CHAT", dest, dest_bytes, member_count - 1);
}

static void chat(int fd, const char *line, const char *end)
{
    const char *dest = line + 5, *space = memchr(dest, ' ', (size_t)(end - dest));
    size_t dest_bytes = space ? (size_t)(space - dest) : 0;
    if (!space)
        return;
    const char *text = space + 1;
    size_t text_bytes = (size_t)(end + 1 - text);
    if (*dest == '#') {
        chat_in_room(fd, dest, dest_bytes, text, text_bytes);
        return;
    }
    int to = places[find(dest, dest_bytes)];
    if (to == 0) {
        say_name(fd, "ERR CHAT NOUSER ", dest, dest_bytes);
        return;
    }
    deliver(to, "CHAT ", 5, &clients[fd], text, text_bytes);
    if (!clients[fd].is_quiet)
        say_name(fd, "OK CHAT ", dest, dest_bytes);
}

static void join(int fd, const char *name, size_t bytes)
{
    struct client *client = &clients[fd];
    uint32_t place = find(name, bytes);
    if (bytes > NAME_BYTES || places[place] != 0)
        return;
    memcpy(client->name, name, bytes);
    client->name_bytes = (uint8_t)bytes;
    places[place] = fd;
    say_name(fd, "OK JOIN ", name, bytes);
}

static void enter(int fd, const char *room, size_t bytes)
{
    clients[fd].place_in_room = member_count;
    members[member_count++] = fd;
    say_count(fd, "ENTR", room, bytes, member_count);
}

static void hang_up(int fd)
{
    struct client *client = &clients[fd];
    if (client->name_bytes)
        forget(find(client->name, client->name_bytes));
    if (client->place_in_room >= 0) {
        int32_t last = members[--member_count];
        members[client->place_in_room] = last;
        clients[last].place_in_room = client->place_in_room;
    }
    free(client->partial);
    free(client->output);
    bool is_dirty = client->is_dirty;
    *client = (struct client){.place_in_room = -1, .is_dirty = is_dirty};
    close(fd);
}

static void take_line(int fd, const char *line, const char *end)
{
    size_t bytes = (size_t)(end - line);
    if (bytes > 5 && memcmp(line, "CHAT ", 5) == 0)
        chat(fd, line, end);
    else if (bytes > 5 && memcmp(line, "JOIN ", 5) == 0)
        join(fd, line + 5, bytes - 5);
    else if (bytes > 5 && memcmp(line, "ENTR ", 5) == 0)
        enter(fd, line + 5, bytes - 5);
    else if (bytes == 10 && memcmp(line, "HELO quiet", 10) == 0) {
        clients[fd].is_quiet = true;
        say(fd, "OK HELO quiet\n", 14);
    } else if (bytes == 4 && memcmp(line, "LEAV", 4) == 0) {
        say(fd, "OK LEAV\n", 8);
        clients[fd].is_closing = true;
    }
}

static void keep_partial(struct client *client, const char *from, size_t bytes)
{
    if (bytes > LINE_BYTES)
        bytes = 0;
    if (bytes > 0 && !client->partial)
        client->partial = malloc(LINE_BYTES);
    if (bytes > 0 && !client->partial)
        give_up("partial line");
    if (bytes > 0)
        memcpy(client->partial, from, bytes);
    client->partial_bytes = (int32_t)bytes;
}

static void read_client(int fd)
{
    static char input[LINE_BYTES + INPUT_BYTES];
    struct client *client = &clients[fd];
    char *line = input + LINE_BYTES - client->partial_bytes, *end;
    ssize_t got = read(fd, input + LINE_BYTES, INPUT_BYTES);
    if (got < 0 && errno == EAGAIN)
        return;
    if (got <= 0) {
        hang_up(fd);
        return;
    }
    if (client->partial_bytes > 0)
        memcpy(line, client->partial, (size_t)client->partial_bytes);
    char *input_end = input + LINE_BYTES + got;
    for (; (end = memchr(line, '\n', (size_t)(input_end - line))); line = end + 1)
        take_line(fd, line, end);
    keep_partial(client, line, (size_t)(input_end - line));
}

static void write_client(int fd)
{
    struct client *client = &clients[fd];
    ssize_t taken = write(fd, client->output, client->output_bytes);
    if (taken < 0 && errno != EAGAIN) {
        hang_up(fd);
        return;
    }
    client->output_bytes -= taken > 0 ? (size_t)taken : 0;
    if (client->output_bytes > 0 && taken > 0)
        memmove(client->output, client->output + taken, client->output_bytes);
    bool is_waiting = client->output_bytes > 0;
    if (is_waiting != client->is_waiting)
        watch(fd, EPOLL_CTL_MOD, is_waiting ? EPOLLIN | EPOLLOUT : EPOLLIN);
    client->is_waiting = is_waiting;
    if (client->is_closing && !is_waiting)
        hang_up(fd);
}

static void write_dirty(void)
{
    for (int32_t i = 0; i < dirty_count; i++) {
        struct client *client = &clients[dirty[i]];
        client->is_dirty = false;
        if (client->output_bytes > 0 && !client->is_waiting)
            write_client(dirty[i]);
    }
    dirty_count = 0;
}

static void accept_all(int listener)
{
    int fd, on = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        if (fd >= CLIENTS)
            give_up("too many clients");
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        clients[fd].place_in_room = -1;
        watch(fd, EPOLL_CTL_ADD, EPOLLIN);
        say(fd, "OK HELO router/1\n", 17);
    }
}

static int listen_anywhere(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, bytes) < 0 || listen(listener, 4096) < 0 ||
        getsockname(listener, (struct sockaddr *)&address, &bytes) < 0)
        give_up("listen");
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return listener;
}

int main(void)
{
    struct epoll_event events[EVENTS];
    poll_fd = epoll_create1(EPOLL_CLOEXEC);
    int listener = listen_anywhere();
    watch(listener, EPOLL_CTL_ADD, EPOLLIN);
    for (;;) {
        int ready = epoll_wait(poll_fd, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd == listener)
                accept_all(listener);
            else if (events[i].events & EPOLLOUT)
                write_client(fd);
            else
                read_client(fd);
        }
        write_dirty();
    }
}
