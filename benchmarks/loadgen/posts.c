#include "posts.h"

int32_t posts_send(struct posts *posts, int32_t members, bool has_receipt, int64_t sent_ns)
{
    for (int32_t slot = 0; slot < POSTS_LIMIT; slot++) {
        if (posts->is_used[slot])
            continue;
        posts->is_used[slot] = true;
        posts->missing[slot] = members;
        posts->is_unanswered[slot] = has_receipt;
        posts->sequence[slot] = posts->next_sequence++;
        posts->sent_ns[slot] = sent_ns;
        return slot;
    }
    return NOBODY;
}

static bool release_if_done(struct posts *posts, int32_t slot)
{
    posts->is_used[slot] = posts->missing[slot] > 0 || posts->is_unanswered[slot];
    return !posts->is_used[slot];
}

/* POSTS_LIMIT bounds how far a message can be ahead, so no shift is too wide. */
static enum arrival hear(struct hearing *hearing, uint32_t sequence)
{
    if (sequence >= hearing->next) {
        uint32_t ahead = sequence - hearing->next;
        hearing->late = hearing->late << (ahead + 1) | ((1ULL << ahead) - 1) << 1;
        hearing->next = sequence + 1;
        return ARRIVED;
    }
    uint32_t behind = hearing->next - 1 - sequence;
    if (behind >= 64 || !(hearing->late >> behind & 1))
        return ARRIVED_TWICE;
    hearing->late &= ~(1ULL << behind);
    return ARRIVED_REORDERED;
}

enum arrival posts_arrive(struct posts *posts, struct hearing *hearing, uint32_t slot, uint32_t sequence, int64_t sent_ns, bool *is_done)
{
    *is_done = false;
    if (slot >= POSTS_LIMIT || sequence >= posts->next_sequence)
        return ARRIVED_STRANGE;
    if (!posts->is_used[slot] || posts->sequence[slot] != sequence || posts->missing[slot] == 0)
        return ARRIVED_TWICE;
    if (posts->sent_ns[slot] != sent_ns)
        return ARRIVED_STRANGE;
    enum arrival arrival = hear(hearing, sequence);
    if (arrival != ARRIVED_TWICE) {
        posts->missing[slot]--;
        *is_done = release_if_done(posts, (int32_t)slot);
    }
    return arrival;
}

int64_t posts_answer(struct posts *posts, bool *is_done)
{
    int32_t oldest = NOBODY;
    for (int32_t slot = 0; slot < POSTS_LIMIT; slot++) {
        if (posts->is_unanswered[slot] && (oldest == NOBODY || posts->sequence[slot] < posts->sequence[oldest]))
            oldest = slot;
    }
    *is_done = false;
    if (oldest == NOBODY)
        return -1;
    posts->is_unanswered[oldest] = false;
    *is_done = release_if_done(posts, oldest);
    return posts->sent_ns[oldest];
}

void posts_awaited(const struct posts *posts, struct awaited *awaited)
{
    for (int32_t slot = 0; slot < POSTS_LIMIT; slot++) {
        awaited->messages += posts->is_used[slot] ? (uint64_t)posts->missing[slot] : 0;
        awaited->receipts += posts->is_unanswered[slot];
    }
}
