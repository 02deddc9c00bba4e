/*
 * What a message looks like: `CHAT <dest> <payload>`, and what the payload says.
 *
 *     00c1f.0007.0001a2b3.0000a1b2c3d4 abcdefghijklmnopqrstuvwxyzabcde
 *     sender slot sequence sent_ns      filling up to --payload bytes
 *
 * All of fixed width, lower-case hexadecimal, so that a receiver reads it without searching. `sender` is the number in the
 * sender's name, `slot` its place in the sender's table of flights, `sequence` counts the sender's messages,
 * `sent_ns` is CLOCK_MONOTONIC since the run's origin.
 */
#ifndef BENCHMARKS_WIRE_H
#define BENCHMARKS_WIRE_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum {
    STAMP_BYTES = 5 + 1 + 4 + 1 + 8 + 1 + 12,
    SENDER_LIMIT = 1 << 20,
    SLOT_LIMIT = 1 << 16,
    LINE_LIMIT_BYTES = 1024,                    /* PROTOCOL: a line with its end */
    NAME_LIMIT_BYTES = 32,
    PAYLOAD_LIMIT_BYTES = LINE_LIMIT_BYTES - 5 - NAME_LIMIT_BYTES - 1 - 1,
};

struct stamp {
    uint32_t sender;
    uint32_t slot;
    uint32_t sequence;
    int64_t sent_ns;
};

static inline void put_hex(char *to, uint64_t value, int digits)
{
    for (int i = digits - 1; i >= 0; i--, value >>= 4)
        to[i] = "0123456789abcdef"[value & 15];
}

static inline bool get_hex(const char *from, int digits, uint64_t *value)
{
    uint64_t sum = 0;
    for (int i = 0; i < digits; i++) {
        unsigned char c = (unsigned char)from[i];
        unsigned digit = c <= '9' ? c - (unsigned)'0' : c - (unsigned)'a' + 10U;
        if (digit > 15 || (c > '9' && c < 'a'))
            return false;
        sum = sum << 4 | digit;
    }
    *value = sum;
    return true;
}

static inline void put_stamp(char *to, const struct stamp *stamp)
{
    put_hex(to, stamp->sender, 5);
    to[5] = '.';
    put_hex(to + 6, stamp->slot, 4);
    to[10] = '.';
    put_hex(to + 11, stamp->sequence, 8);
    to[19] = '.';
    put_hex(to + 20, (uint64_t)stamp->sent_ns, 12);
}

static inline bool get_stamp(const char *from, struct stamp *stamp)
{
    uint64_t sender, slot, sequence, sent_ns;
    if (from[5] != '.' || from[10] != '.' || from[19] != '.')
        return false;
    if (!get_hex(from, 5, &sender) || !get_hex(from + 6, 4, &slot) || !get_hex(from + 11, 8, &sequence) ||
        !get_hex(from + 20, 12, &sent_ns))
        return false;
    *stamp = (struct stamp){(uint32_t)sender, (uint32_t)slot, (uint32_t)sequence, (int64_t)sent_ns};
    return true;
}

/* What follows the stamp: a space, then the alphabet over and over. */
static inline void put_filling(char *to, int bytes)
{
    for (int i = 0; i < bytes; i++)
        to[i] = i == 0 ? ' ' : (char)('a' + (i - 1) % 26);
}

static inline bool starts_with(const char *line, int bytes, const char *start)
{
    int start_bytes = (int)strlen(start);
    return bytes >= start_bytes && memcmp(line, start, (size_t)start_bytes) == 0;
}

#endif
