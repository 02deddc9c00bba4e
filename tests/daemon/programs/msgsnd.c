/* Says a line in the chat: msgsnd KEYFILE 'CHAT bob hello' */
#include <stdio.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>

int main(int argc, char **argv)
{
    struct { long type; char text[1024]; } message = { .type = 1 };
    key_t key = argc == 3 ? ftok(argv[1], 'P') : -1;
    int queue = key == -1 ? -1 : msgget(key, 0);

    if (queue == -1) {
        perror("no queue");
        return 1;
    }
    strncpy(message.text, argv[2], sizeof message.text - 1);
    return msgsnd(queue, &message, strlen(message.text), 0) ? 2 : 0;
}
