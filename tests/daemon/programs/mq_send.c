/* Says a line in the chat: mq_send /NAME 'CHAT bob hello' (link with -lrt) */
#include <fcntl.h>
#include <mqueue.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    mqd_t queue = argc == 3 ? mq_open(argv[1], O_WRONLY) : (mqd_t)-1;

    if (queue == (mqd_t)-1) {
        perror("no queue");
        return 1;
    }
    return mq_send(queue, argv[2], strlen(argv[2]) + 1, 0) ? 2 : 0;
}
