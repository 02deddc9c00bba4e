/* A whole reader of the board: cc reader.c && ./a.out /run/prefork-chat */
#include <stdio.h>
#include <sys/ipc.h>
#include <sys/shm.h>
#include "board.h"

int main(int argc, char **argv)
{
    struct prefork_chat_board copy;
    uint64_t before;
    key_t key = argc == 2 ? ftok(argv[1], 'B') : -1;
    int id = key == -1 ? -1 : shmget(key, 0, 0);
    const struct prefork_chat_board *board = id == -1 ? (void *)-1 : shmat(id, NULL, SHM_RDONLY);

    if (board == (void *)-1) {
        perror("no board");
        return 1;
    }
    do {
        while ((before = __atomic_load_n(&board->sequence, __ATOMIC_ACQUIRE)) & 1)
            ;
        copy = *board;
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
    } while (before != __atomic_load_n(&board->sequence, __ATOMIC_RELAXED));
    printf("%.8s %u %u\n", copy.magic, copy.version, copy.size);
    printf("clients %ld names %ld workers %ld\n", (long)copy.clients, (long)copy.names,
           (long)copy.workers);
    printf("notice %s\nbroadcast %s\n", copy.notice, copy.broadcast);
    for (int i = 0; i < copy.workers; i++)
        printf("worker %d state %d generation %ld heartbeat %ld\n", i, copy.worker[i].state,
               (long)copy.worker[i].generation, (long)copy.worker[i].heartbeat_ns);
    return shmdt(board);
}
