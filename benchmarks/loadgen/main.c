/*
 * loadgen: many chat clients in a few processes, for `python -m benchmarks`. README.md next to this folder says what is
 * measured and how.
 *
 * The parent reads the options, forks the generator processes, fixes the times of the window once all clients are joined,
 * and adds their tallies up. It speaks on stdout, one JSON object a line, the last of them `result`:
 *
 *     {"event": "progress", "joined": 3000}
 *     {"event": "window_opened"}          the driver reads the server's CPU clock now …
 *     {"event": "window_closed"}          … and now
 *     {"event": "result", "sent": …, "delivery": {"count": …, "p50_us": …}, …}
 *
 * Exit codes: 0 sound, 1 something was lost, doubled, refused …, 2 it could not be run (the reason is on stderr).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "dialect.h"
#include "posts.h"
#include "run.h"
#include "wire.h"

enum { PROCESS_LIMIT = 64, PROGRESS_MS = 250, WATCH_MS = 20 };

static const double STALL_SECONDS = 15;         /* without one more client joined: the server does not take them */
static const double START_SECONDS = 0.1;        /* from "all joined" to the first message: every process must see it */
static const double END_SECONDS = 15;           /* for exit, beyond the waits that the options bound */

static volatile sig_atomic_t is_told_to_stop;

static void note_stop(int signal_number)
{
    (void)signal_number;
    is_told_to_stop = 1;
}

int64_t monotonic_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

_Noreturn static void refuse(const char *what, const char *why)
{
    fprintf(stderr, "loadgen: %s: %s\n", what, why);
    exit(EXIT_NO_RUN);
}

/* ---- options ---- */

static double read_number(const char *option, const char *text, double lowest, double highest)
{
    char *end;
    double number = strtod(text, &end);
    if (end == text || *end || number < lowest || number > highest) {
        fprintf(stderr, "loadgen: --%s %s: expected a number from %g to %g\n", option, text, lowest, highest);
        exit(EXIT_NO_RUN);
    }
    return number;
}

/* HOST:PORT (numeric, IPv6 in brackets) or unix:PATH. */
static void read_address(struct options *options, const char *text)
{
    struct sockaddr_un *local = (struct sockaddr_un *)&options->address;
    struct sockaddr_in *v4 = (struct sockaddr_in *)&options->address;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&options->address;
    char host[64] = "";
    const char *colon = strrchr(text, ':');
    if (strncmp(text, "unix:", 5) == 0) {
        if (strlen(text + 5) >= sizeof local->sun_path)
            refuse(text, "the path is too long");
        local->sun_family = AF_UNIX;
        strcpy(local->sun_path, text + 5);
        options->address_bytes = sizeof *local;
        return;
    }
    if (!colon || colon == text || (size_t)(colon - text) >= sizeof host)
        refuse(text, "expected HOST:PORT or unix:PATH");
    bool is_v6 = text[0] == '[' && colon[-1] == ']';
    memcpy(host, text + is_v6, (size_t)(colon - text) - 2 * is_v6);
    in_port_t port = htons((uint16_t)read_number("connect", colon + 1, 1, 65535));
    if (is_v6)
        *v6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = port};
    else
        *v4 = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = port};
    options->address_bytes = is_v6 ? sizeof *v6 : sizeof *v4;
    if (inet_pton(is_v6 ? AF_INET6 : AF_INET, host, is_v6 ? (void *)&v6->sin6_addr : (void *)&v4->sin_addr) != 1)
        refuse(text, "the host must be a numeric address");
}

static enum mode read_mode(const char *text)
{
    if (strcmp(text, "chat") == 0)
        return MODE_CHAT;
    if (strcmp(text, "idle") == 0)
        return MODE_IDLE;
    if (strcmp(text, "join") == 0)
        return MODE_JOIN;
    refuse(text, "--mode is chat, idle or join");
}

static const struct dialect *read_dialect(const char *text)
{
    if (strcmp(text, "native") == 0)
        return &NATIVE;
    if (strcmp(text, "irc") == 0)
        return &IRC;
    refuse(text, "--dialect is native or irc");
}

static const struct option OPTIONS[] = {
    {"connect", required_argument, NULL, 'c'},   {"mode", required_argument, NULL, 'm'},
    {"clients", required_argument, NULL, 'n'},   {"in-flight", required_argument, NULL, 'f'},
    {"payload", required_argument, NULL, 'b'},   {"processes", required_argument, NULL, 'p'},
    {"lanes", required_argument, NULL, 'l'},     {"rate", required_argument, NULL, 'r'},
    {"receipts", no_argument, NULL, 'R'},        {"quiet", no_argument, NULL, 'q'},
    {"hold", no_argument, NULL, 'h'},            {"warm-up", required_argument, NULL, 'w'},
    {"seconds", required_argument, NULL, 's'},   {"drain", required_argument, NULL, 'd'},
    {"settle", required_argument, NULL, 't'},    {"seed", required_argument, NULL, 'S'},
    {"dialect", required_argument, NULL, 'D'},   {"talkers", required_argument, NULL, 'T'},
    {"room", no_argument, NULL, 'O'},            {"quick-ack", no_argument, NULL, 'Q'},
    {"password", required_argument, NULL, 'P'},
    {NULL, 0, NULL, 0},
};

static void read_option(struct options *options, int letter, const char *name)
{
    switch (letter) {
    case 'c': read_address(options, optarg); break;
    case 'm': options->mode = read_mode(optarg); break;
    case 'n': options->clients = (int)read_number(name, optarg, 1, SENDER_LIMIT); break;
    case 'f': options->in_flight = (int)read_number(name, optarg, 1, SLOT_LIMIT / 2); break;
    case 'b': options->payload_bytes = (int)read_number(name, optarg, STAMP_BYTES, PAYLOAD_LIMIT_BYTES); break;
    case 'p': options->processes = (int)read_number(name, optarg, 1, PROCESS_LIMIT); break;
    case 'l': options->lanes = (int)read_number(name, optarg, 1, 4096); break;
    case 'r': options->rate = read_number(name, optarg, 1, 1e7); break;
    case 'R': options->receipts = true; break;
    case 'q': options->receipts = false; break;
    case 'h': options->hold = true; break;
    case 'w': options->warm_up_seconds = read_number(name, optarg, 0, 3600); break;
    case 's': options->seconds = read_number(name, optarg, 0.01, 86400); break;
    case 'd': options->drain_seconds = read_number(name, optarg, 0, 3600); break;
    case 't': options->settle_seconds = read_number(name, optarg, 0, 60); break;
    case 'D': options->dialect = read_dialect(optarg); break;
    case 'T': options->talkers = (int)read_number(name, optarg, 0, SENDER_LIMIT); break;
    case 'O': options->has_room = true; break;
    case 'Q': options->quick_ack = true; break;
    case 'P': options->password = optarg; break;
    case 'S': options->seed = (uint64_t)read_number(name, optarg, 1, 1e15); break;
    default: exit(EXIT_NO_RUN);                 /* getopt has said why */
    }
}

/* Four letters that are not the same in two runs, so that names of a run before are not met again. */
static void choose_prefix(struct options *options)
{
    unsigned char random[4];
    if (getrandom(random, sizeof random, 0) != sizeof random)
        refuse("getrandom", strerror(errno));
    for (size_t i = 0; i < sizeof random; i++)
        options->prefix[i] = (char)('a' + random[i] % 26);
    options->room_bytes = snprintf(options->room, sizeof options->room, "#%s", options->prefix);
}

static void check_dialect(const struct options *options)
{
    if (options->payload_bytes > options->dialect->text_limit_bytes)
        refuse("--payload", "too long for a line of this dialect");
    if (!options->dialect->has_receipts && options->receipts)
        refuse("--receipts", "this dialect has none");
    if (!options->dialect->has_receipts && options->password)
        refuse("--password", "only in the native dialect");
}

/* Clients of one process talk among themselves only. */
static void check_talkers(const struct options *options)
{
    if (options->mode == MODE_CHAT && options->talkers > options->clients)
        refuse("--talkers", "more than clients");
    if (options->has_room && (options->processes > 1 || options->mode != MODE_CHAT))
        refuse("--room", "only in mode chat, with one generator process");
    if (options->has_room && options->in_flight > POSTS_LIMIT)
        refuse("--in-flight", "up to 32 in a room");
    if (options->mode == MODE_CHAT && options->clients < 2)
        refuse("--clients", "a message needs two");
    if (options->mode == MODE_CHAT && !options->has_room && options->talkers < 2 * options->processes)
        refuse("--clients", "each generator process needs two clients that talk to each other");
}

static struct options read_options(int argc, char **argv)
{
    struct options options = {
        .dialect = &NATIVE, .clients = 200, .in_flight = 32, .payload_bytes = 64, .processes = 1, .lanes = 64, .seconds = 5,
        .warm_up_seconds = 1, .drain_seconds = 5, .settle_seconds = 0.1, .seed = (uint64_t)monotonic_ns(),
    };
    int letter, index = 0;
    while ((letter = getopt_long(argc, argv, "", OPTIONS, &index)) != -1)
        read_option(&options, letter, letter == '?' ? "" : OPTIONS[index].name);
    if (optind < argc)
        refuse(argv[optind], "unexpected argument");
    if (options.address_bytes == 0)
        refuse("--connect", "the server's address is missing");
    if (options.talkers == 0)
        options.talkers = options.clients;
    check_dialect(&options);
    check_talkers(&options);
    if (options.clients < options.processes || options.lanes < options.processes)
        refuse("--processes", "more than clients or lanes");
    if (options.rate > 0 && options.mode != MODE_CHAT)
        refuse("--rate", "only in mode chat");
    choose_prefix(&options);
    return options;
}

/* ---- generator processes ---- */

static struct board *open_board(const struct options *options)
{
    size_t bytes = sizeof(struct board) + (size_t)options->processes * sizeof(struct tally);
    struct board *board = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (board == MAP_FAILED)
        refuse("mmap", strerror(errno));
    board->origin_ns = monotonic_ns();
    board->released = !options->hold;
    return board;
}

static void start_process(const struct options *options, struct board *board, int index, pid_t *pids)
{
    pid_t parent = getpid();
    pids[index] = fork();
    if (pids[index] < 0)
        refuse("fork", strerror(errno));
    if (pids[index] > 0)
        return;
    signal(SIGTERM, SIG_DFL);
    signal(SIGINT, SIG_IGN);                    /* Ctrl-C reaches all of us; the parent decides */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(EXIT_NO_RUN);
    _exit(generate(options, board, index));
}

_Noreturn static void stop_all(const struct options *options, const pid_t *pids)
{
    for (int i = 0; i < options->processes; i++) {
        if (pids[i] > 0) {
            kill(pids[i], SIGKILL);
            waitpid(pids[i], NULL, 0);
        }
    }
    exit(EXIT_NO_RUN);
}

/* Reaps who has ended; returns how many still run. One that did not end well has said why: the run is over. */
static int reap(const struct options *options, pid_t *pids)
{
    int running = 0;
    if (is_told_to_stop)
        stop_all(options, pids);
    for (int i = 0; i < options->processes; i++) {
        int status = 0;
        if (pids[i] == 0)
            continue;
        if (waitpid(pids[i], &status, WNOHANG) == 0) {
            running++;
            continue;
        }
        pids[i] = 0;
        if (WIFSIGNALED(status))
            fprintf(stderr, "loadgen: a generator process died: %s\n", strsignal(WTERMSIG(status)));
        if (!WIFEXITED(status) || WEXITSTATUS(status) != EXIT_SOUND)
            stop_all(options, pids);
    }
    return running;
}

static void sleep_until(int64_t time_ns)
{
    struct timespec until = {time_ns / 1000000000, time_ns % 1000000000};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
        ;
}

static void watch_until(const struct options *options, pid_t *pids, int64_t time_ns)
{
    int64_t now_ns;
    while ((now_ns = monotonic_ns()) < time_ns) {
        int64_t step_ns = now_ns + WATCH_MS * 1000000LL;
        sleep_until(step_ns < time_ns ? step_ns : time_ns);
        reap(options, pids);
    }
}

static void say(const char *event)
{
    printf("{\"event\": \"%s\"}\n", event);
    fflush(stdout);
}

static void await_joined(const struct options *options, struct board *board, pid_t *pids)
{
    uint64_t joined = 0, seen = 0;
    int64_t grown_ns = monotonic_ns(), told_ns = grown_ns;
    while (joined < (uint64_t)options->clients) {
        watch_until(options, pids, monotonic_ns() + WATCH_MS * 1000000LL / 4);
        joined = 0;
        for (int i = 0; i < options->processes; i++)
            joined += board->tallies[i].joined;
        int64_t now_ns = monotonic_ns();
        if (joined > seen)
            grown_ns = now_ns;
        seen = joined;
        if (now_ns - grown_ns > (int64_t)(STALL_SECONDS * 1e9)) {
            fprintf(stderr, "loadgen: %llu of %d clients joined, and then no more\n", (unsigned long long)joined, options->clients);
            stop_all(options, pids);
        }
        if (now_ns - told_ns > PROGRESS_MS * 1000000LL) {
            told_ns = now_ns;
            printf("{\"event\": \"progress\", \"joined\": %llu}\n", (unsigned long long)joined);
            fflush(stdout);
        }
    }
}

static void run_window(const struct options *options, struct board *board, pid_t *pids)
{
    int64_t starts_ns = monotonic_ns() + (int64_t)(START_SECONDS * 1e9);
    board->opens_ns = starts_ns + (int64_t)(options->warm_up_seconds * 1e9);
    board->closes_ns = board->opens_ns + (int64_t)(options->seconds * 1e9);
    board->starts_ns = starts_ns;               /* last: it makes the others count */
    watch_until(options, pids, board->opens_ns);
    say("window_opened");
    watch_until(options, pids, board->closes_ns);
    say("window_closed");
}

static void await_release(const struct options *options, struct board *board, pid_t *pids)
{
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    while (!board->released) {
        reap(options, pids);
        if (poll(&input, 1, WATCH_MS) > 0)
            board->released = 1;
    }
}

static void await_end(const struct options *options, pid_t *pids)
{
    double seconds = 2 * options->drain_seconds + options->settle_seconds + END_SECONDS;
    int64_t deadline_ns = monotonic_ns() + (int64_t)(seconds * 1e9);
    while (reap(options, pids) > 0) {
        if (monotonic_ns() > deadline_ns) {
            fprintf(stderr, "loadgen: the generator processes do not end\n");
            stop_all(options, pids);
        }
        sleep_until(monotonic_ns() + 1000000);
    }
}

/* ---- the result ---- */

static void merge(struct tally *sum, const struct options *options, struct board *board)
{
    for (int i = 0; i < options->processes; i++) {
        struct tally *tally = &board->tallies[i];
#define ADD(name) tally_add(&sum->name, tally->name);
        TALLY_COUNTERS(ADD)
#undef ADD
        histogram_merge(&sum->delivery, &tally->delivery);
        histogram_merge(&sum->receipt, &tally->receipt);
        histogram_merge(&sum->lateness, &tally->lateness);
        if (tally->has_complaint && !sum->has_complaint) {
            sum->has_complaint = 1;
            memcpy(sum->complaint, tally->complaint, sizeof sum->complaint);
        }
    }
}

static void print_histogram(const char *name, const struct histogram *histogram)
{
    double mean_ns = histogram->count ? (double)histogram->sum_ns / (double)histogram->count : 0;
    printf(", \"%s\": {\"count\": %llu, \"mean_us\": %.2f, \"p50_us\": %.2f, \"p90_us\": %.2f, \"p99_us\": %.2f, "
           "\"p999_us\": %.2f, \"max_us\": %.2f}",
           name, (unsigned long long)histogram->count, mean_ns / 1e3, (double)histogram_quantile(histogram, 0.5) / 1e3,
           (double)histogram_quantile(histogram, 0.9) / 1e3, (double)histogram_quantile(histogram, 0.99) / 1e3,
           (double)histogram_quantile(histogram, 0.999) / 1e3, (double)histogram->longest_ns / 1e3);
}

static void print_text(const char *name, const char *text)
{
    printf(", \"%s\": \"", name);
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c < ' ' || c > '~' || c == '"' || c == '\\')
            printf("\\u%04x", c);
        else
            putchar(c);
    }
    putchar('"');
}

static bool is_sound(const struct tally *sum)
{
    return sum->refused + sum->errors + sum->lost + sum->lost_receipts + sum->doubled + sum->reordered + sum->corrupted +
               sum->disconnects + sum->unfinished == 0;
}

static int print_result(const struct options *options, struct board *board)
{
    struct tally *sum = calloc(1, sizeof *sum);
    if (!sum)
        refuse("result", strerror(errno));
    merge(sum, options, board);
    printf("{\"event\": \"result\", \"seconds\": %.6f, \"processes\": %d", options->seconds, options->processes);
#define PRINT(name) printf(", \"%s\": %llu", #name, (unsigned long long)sum->name);
    TALLY_COUNTERS(PRINT)
#undef PRINT
    print_histogram("delivery", &sum->delivery);
    print_histogram("receipt", &sum->receipt);
    print_histogram("lateness", &sum->lateness);
    print_text("complaint", sum->complaint);
    bool is_good = is_sound(sum);
    printf(", \"is_sound\": %s}\n", is_good ? "true" : "false");
    fflush(stdout);
    free(sum);
    return is_good ? EXIT_SOUND : EXIT_UNSOUND;
}

int main(int argc, char **argv)
{
    struct options options = read_options(argc, argv);
    struct rlimit files;
    pid_t pids[PROCESS_LIMIT] = {0};
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGTERM, note_stop);
    signal(SIGINT, note_stop);
    struct board *board = open_board(&options);
    for (int i = 0; i < options.processes; i++)
        start_process(&options, board, i, pids);
    if (options.mode != MODE_JOIN)
        await_joined(&options, board, pids);
    run_window(&options, board, pids);
    await_release(&options, board, pids);
    await_end(&options, pids);
    return print_result(&options, board);
}
