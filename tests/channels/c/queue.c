/* Either end of a System V queue channel, as prefork_chat/channels/sysv_queue.py describes it.
 * queue read KEYFILE > output      queue serve KEYFILE < input */
#include <stdio.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <unistd.h>

struct part {
    long type;
    char body[8192];
};

static int fail(const char *what)
{
    perror(what);
    return 1;
}

static int read_all(key_t key)
{
    struct part part;
    int queue = msgget(key, 0);
    if (queue < 0)
        return fail("msgget");
    for (;;) {
        ssize_t n = msgrcv(queue, &part, sizeof part.body, 0, 0);
        if (n < 0)
            return fail("msgrcv");
        if (part.type == 3)
            return 0;
        if (part.type != 4)
            fwrite(part.body, 1, (size_t)n, stdout);
    }
}

static int serve_all(key_t key)
{
    struct part part = {.type = 4};
    struct msqid_ds state;
    size_t n;
    int queue = msgget(key, IPC_CREAT | IPC_EXCL | 0600);
    if (queue < 0)
        return fail("msgget");
    msgsnd(queue, &part, 0, 0);
    part.type = 1;
    while ((n = fread(part.body, 1, sizeof part.body, stdin)) > 0)
        if (msgsnd(queue, &part, n, 0) < 0)
            return fail("msgsnd");
    part.type = 3;
    msgsnd(queue, &part, 0, 0);
    do
        usleep(1000);
    while (msgctl(queue, IPC_STAT, &state) == 0 && state.msg_qnum > 0);
    msgctl(queue, IPC_RMID, NULL);
    return 0;
}

int main(int argc, char **argv)
{
    key_t key = argc == 3 ? ftok(argv[2], 'P') : -1;
    if (key == -1)
        return fail("ftok");
    return strcmp(argv[1], "read") == 0 ? read_all(key) : serve_all(key);
}
