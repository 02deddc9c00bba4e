/*
 * Bytes in and out of one client's socket. Every socket is non-blocking and registered level-triggered; one read per
 * readable event, and what a write does not take waits in the client's `pending`.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "generator.h"

enum { SOURCE_CLIENTS = 16384 };

static void watch(struct generator *generator, int32_t index, int operation, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.u32 = (uint32_t)index};
    if (epoll_ctl(generator->poll_fd, operation, generator->clients[index].fd, &event) < 0)
        give_up("epoll_ctl: %s", strerror(errno));
}

/*
 * One loopback address has 28,000 ports for connections to one listener (ip_local_port_range), so clients with higher numbers
 * come from further addresses of 127.0.0.0/8.
 */
static void choose_source(const struct generator *generator, int32_t index, int fd)
{
    const struct sockaddr_in *server = (const struct sockaddr_in *)&generator->options->address;
    uint32_t number = (uint32_t)(generator->first_number + index) / SOURCE_CLIENTS;
    if (server->sin_family != AF_INET || ntohl(server->sin_addr.s_addr) >> 24 != IN_LOOPBACKNET || number == 0)
        return;
    struct sockaddr_in source = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK + number)};
    int on = 1;
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    if (bind(fd, (const struct sockaddr *)&source, sizeof source) < 0)
        give_up("bind to a loopback address: %s", strerror(errno));
}

bool open_connection(struct generator *generator, int32_t index)
{
    const struct options *options = generator->options;
    struct client *client = &generator->clients[index];
    int fd = socket(options->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        give_up("socket for client %d: %s", index, strerror(errno));
    int on = 1;
    if (options->address.ss_family != AF_UNIX)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    choose_source(generator, index, fd);
    client->began_ns = monotonic_ns();
    if (connect(fd, (const struct sockaddr *)&options->address, options->address_bytes) < 0 && errno != EINPROGRESS) {
        if (errno != EAGAIN)            /* EAGAIN: a Unix listener whose backlog is full */
            give_up("connect: %s", strerror(errno));
        close(fd);
        return false;
    }
    client->fd = fd;
    client->state = JOINING;
    client->has_answer_to_leave = false;
    watch(generator, index, EPOLL_CTL_ADD, EPOLLIN);
    return true;
}

void close_connection(struct generator *generator, int32_t index)
{
    struct client *client = &generator->clients[index];
    close(client->fd);
    free(client->partial);
    free(client->pending);
    client->partial = client->pending = NULL;
    client->partial_bytes = client->pending_bytes = 0;
    client->fd = -1;
    client->state = GONE;
}

static void keep_pending(struct generator *generator, int32_t index, const char *bytes, int32_t count)
{
    struct client *client = &generator->clients[index];
    char *grown = realloc(client->pending, (size_t)(client->pending_bytes + count));
    if (!grown)
        give_up("no memory for output");
    memcpy(grown + client->pending_bytes, bytes, (size_t)count);
    client->pending = grown;
    client->pending_bytes += count;
}

/* Returns how many bytes the kernel took. A broken connection takes all: its end is noticed when it is read. */
static int32_t write_once(struct generator *generator, int fd, const char *bytes, int32_t count)
{
    ssize_t taken = write(fd, bytes, (size_t)count);
    tally_add(&generator->tally->writes, 1);
    if (taken >= 0)
        return (int32_t)taken;
    return errno == EAGAIN || errno == EINTR || errno == ENOTCONN ? 0 : count;
}

void write_bytes(struct generator *generator, int32_t index, const char *bytes, int32_t count)
{
    struct client *client = &generator->clients[index];
    int32_t taken = 0;
    if (!client->pending) {
        taken = write_once(generator, client->fd, bytes, count);
        if (taken < count)
            watch(generator, index, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
    }
    if (taken < count)
        keep_pending(generator, index, bytes + taken, count - taken);
}

void flush_pending(struct generator *generator, int32_t index)
{
    struct client *client = &generator->clients[index];
    if (!client->pending)
        return;
    int32_t taken = write_once(generator, client->fd, client->pending, client->pending_bytes);
    client->pending_bytes -= taken;
    if (client->pending_bytes > 0) {
        memmove(client->pending, client->pending + taken, (size_t)client->pending_bytes);
        return;
    }
    free(client->pending);
    client->pending = NULL;
    watch(generator, index, EPOLL_CTL_MOD, EPOLLIN);
    mark_dirty(generator, index);
}

static void keep_partial(struct client *client, const char *bytes, ptrdiff_t count)
{
    if (count > PARTIAL_BYTES)
        give_up("the server sent %td bytes without a line end", count);
    if (count > 0 && !client->partial) {
        client->partial = malloc(PARTIAL_BYTES);
        if (!client->partial)
            give_up("no memory for input");
    }
    if (count > 0)
        memcpy(client->partial, bytes, (size_t)count);
    client->partial_bytes = (int32_t)count;
}

void read_lines(struct generator *generator, int32_t index)
{
    struct client *client = &generator->clients[index];
    char *fresh = generator->input + PARTIAL_BYTES;
    ssize_t got = read(client->fd, fresh, INPUT_BYTES);
    int error = errno, on = 1;
    tally_add(&generator->tally->reads, 1);
    if (generator->options->quick_ack)          /* not a lasting option: the kernel falls back when it likes (tcp(7)) */
        setsockopt(client->fd, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof on);
    generator->now_ns = monotonic_ns();
    if (got < 0 && (error == EAGAIN || error == EINTR))
        return;
    if (got <= 0) {
        take_end(generator, index, got < 0 ? strerror(error) : "end of file");
        return;
    }
    char *line = fresh - client->partial_bytes;
    if (client->partial_bytes > 0)
        memcpy(line, client->partial, (size_t)client->partial_bytes);
    char *end = fresh + got, *line_end;
    while ((line_end = memchr(line, '\n', (size_t)(end - line)))) {
        take_line(generator, index, line, (int)(line_end - line));
        line = line_end + 1;
    }
    keep_partial(client, line, end - line);
}
