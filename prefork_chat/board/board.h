/* The board of a prefork-chat daemon: System V shared memory, to be read by any program that may.
 *
 *     key_t key = ftok("/run/prefork-chat", 'B');          the daemon's runtime directory
 *     int id = shmget(key, 0, 0);
 *     const struct prefork_chat_board *board = shmat(id, NULL, SHM_RDONLY);
 *
 * It changes while you read. The sequence is odd during a change, and another one after it: copy
 * what you need, and do it again unless the sequence was even before and is the same afterwards.
 *
 *     do {
 *         while ((before = __atomic_load_n(&board->sequence, __ATOMIC_ACQUIRE)) & 1) ;
 *         copy = *board;
 *         __atomic_thread_fence(__ATOMIC_ACQUIRE);
 *     } while (before != __atomic_load_n(&board->sequence, __ATOMIC_RELAXED));
 *
 * It is brought up to date once a second; if updated_ns is old, nobody writes it any more. Another
 * version has another layout; fields are only added at the end, by which size grows. Texts are
 * UTF-8, end with a zero byte, and hold no control characters.
 */

#ifndef PREFORK_CHAT_BOARD_H
#define PREFORK_CHAT_BOARD_H

#include <stdint.h>

#define PREFORK_CHAT_BOARD_MAGIC "pfcboard"      /* without the zero byte behind it */
#define PREFORK_CHAT_BOARD_VERSION 1
#define PREFORK_CHAT_BOARD_WORKERS 64

enum prefork_chat_state {
    PREFORK_CHAT_GONE, PREFORK_CHAT_STARTING, PREFORK_CHAT_READY, PREFORK_CHAT_RETIRING,
    PREFORK_CHAT_STOPPING
};

struct prefork_chat_worker {
    int32_t state;                  /* enum prefork_chat_state */
    int32_t pid;                    /* 0: none */
    int64_t generation;             /* how many processes of this number there were; 0: none ever */
    int64_t heartbeat_ns;           /* the oldest of its threads, CLOCK_MONOTONIC */
    int64_t clients;                /* now */
    int64_t lines;                  /* read, by this process */
    int64_t delivered;              /* messages handed to clients, by this process */
};

struct prefork_chat_board {
    char magic[8];
    uint32_t version;
    uint32_t size;                  /* of this structure, in bytes */
    uint64_t sequence;
    int64_t updated_ns;             /* CLOCK_REALTIME */
    int64_t supervisor_pid;
    int64_t workers;                /* how many of the array below are in use */
    int64_t clients;                /* connections now */
    int64_t names;                  /* of them with a name */
    int64_t rooms;                  /* with somebody in it */
    int64_t accepted;               /* connections; this and the following: since the start */
    int64_t lines;                  /* read from clients */
    int64_t delivered;              /* messages handed to clients */
    int64_t refused;                /* messages refused: their receiver reads too slowly */
    int64_t notice_ns;              /* when it was set, CLOCK_REALTIME; 0: there is none */
    int64_t broadcast_ns;           /* when it was said, CLOCK_REALTIME; 0: never */
    char notice[512];               /* the operator's notice of the day */
    char broadcast[1024];           /* the last thing that the operator said to everybody */
    struct prefork_chat_worker worker[PREFORK_CHAT_BOARD_WORKERS];
};

#endif
