/* Either end of a shared-memory channel, as prefork_chat/channels/shared_memory.py describes it.
 * memory read KEYFILE > output      memory serve KEYFILE < input
 * Exit code 7: the other side is dead. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <unistd.h>

enum { SLOTS = 16, SLOT_BYTES = 65536 };

struct slot {
    uint32_t length;
    char unused[60];
    char message[SLOT_BYTES];
};

struct ring {
    char magic[4];
    uint32_t version, slots, slot_bytes;
    uint32_t server_pid, client_pid;
    uint64_t unused;
    volatile uint64_t sent, taken;
    uint64_t unused_too[2];
    struct slot slot[SLOTS];
};

static int fail(const char *what)
{
    perror(what);
    return 1;
}

static int operate(int semaphore, short amount, short flags)
{
    struct sembuf operation = {0, amount, flags};
    return semop(semaphore, &operation, 1);
}

static int read_all(struct ring *ring, int filled, int free_slots)
{
    if (ring->client_pid || operate(free_slots, -1, SEM_UNDO | IPC_NOWAIT) < 0)
        return fail("somebody reads");
    ring->client_pid = (uint32_t)getpid();
    for (;;) {
        struct slot *slot = &ring->slot[ring->taken % SLOTS];
        if (operate(filled, -1, 0) < 0 || ring->taken == ring->sent)
            return 7;
        if (slot->length != 0xFFFFFFFF)
            fwrite(slot->message, 1, slot->length, stdout);
        int is_end = slot->length == 0xFFFFFFFF;
        ring->taken++;
        operate(free_slots, 1, 0);
        if (is_end)
            return 0;
    }
}

static int serve_all(struct ring *ring, int filled, int free_slots)
{
    size_t n;
    operate(filled, -1, SEM_UNDO);
    ring->version = 1;
    ring->slots = SLOTS;
    ring->slot_bytes = SLOT_BYTES;
    ring->server_pid = (uint32_t)getpid();
    __sync_synchronize();
    memcpy(ring->magic, "PCSM", 4);
    operate(free_slots, 0, 0);
    operate(free_slots, SLOTS, 0);
    do {
        if (operate(free_slots, -1, 0) < 0 || ring->sent - ring->taken == SLOTS)
            return 7;
        struct slot *slot = &ring->slot[ring->sent % SLOTS];
        n = fread(slot->message, 1, sizeof slot->message, stdin);
        slot->length = n ? (uint32_t)n : 0xFFFFFFFF;
        ring->sent++;
        operate(filled, 1, 0);
    } while (n);
    operate(free_slots, -SLOTS, 0);
    return ring->taken == ring->sent ? 0 : 7;
}

int main(int argc, char **argv)
{
    if (argc != 3 || ftok(argv[2], 'P') == -1)
        return fail("ftok");
    int serves = strcmp(argv[1], "serve") == 0;
    int flags = serves ? IPC_CREAT | IPC_EXCL | 0600 : 0;
    int memory = shmget(ftok(argv[2], 'P'), sizeof(struct ring), flags);
    int filled = semget(ftok(argv[2], 'F'), 1, flags);
    int free_slots = semget(ftok(argv[2], 'R'), 1, flags);
    if (memory < 0 || filled < 0 || free_slots < 0)
        return fail("get");
    struct ring *ring = shmat(memory, NULL, 0);
    if (ring == (void *)-1)
        return fail("shmat");
    if (!serves)
        return read_all(ring, filled, free_slots);
    operate(filled, 1, 0);
    operate(free_slots, 1, 0);
    int result = serve_all(ring, filled, free_slots);
    shmctl(memory, IPC_RMID, NULL);
    semctl(filled, 0, IPC_RMID);
    semctl(free_slots, 0, IPC_RMID);
    return result;
}
