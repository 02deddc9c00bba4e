/*
 * A histogram of times: what was 100 ns and what was 100 ms, each within 1 %.
 *
 * Buckets grow with the value: every power of two is cut into 64, so a bucket is at most 1/64 of its value wide and its
 * middle at most 0.8 % away from any value in it. Histograms of several processes are added bucket by bucket. Plain
 * memory without pointers: it lives in shared memory. Values are nanoseconds, from 0 to 18 minutes; longer ones count
 * as that.
 */
#ifndef BENCHMARKS_HISTOGRAM_H
#define BENCHMARKS_HISTOGRAM_H

#include <stdint.h>

enum {
    HISTOGRAM_CUT_BITS = 6,                     /* 2**6 buckets in a power of two */
    HISTOGRAM_CUTS = 1 << HISTOGRAM_CUT_BITS,
    HISTOGRAM_VALUE_BITS = 40,                  /* 2**40 ns = 18 minutes */
    HISTOGRAM_BUCKETS = (HISTOGRAM_VALUE_BITS - HISTOGRAM_CUT_BITS + 1) * HISTOGRAM_CUTS,
};

struct histogram {
    uint64_t count;
    uint64_t sum_ns;
    uint64_t longest_ns;
    uint64_t buckets[HISTOGRAM_BUCKETS];
};

static inline unsigned histogram_bucket(uint64_t value_ns)
{
    if (value_ns >= 1ULL << HISTOGRAM_VALUE_BITS)
        return HISTOGRAM_BUCKETS - 1;
    if (value_ns < HISTOGRAM_CUTS)
        return (unsigned)value_ns;
    unsigned shift = 63 - (unsigned)__builtin_clzll(value_ns) - HISTOGRAM_CUT_BITS;
    return ((shift + 1) << HISTOGRAM_CUT_BITS) + (unsigned)((value_ns >> shift) & (HISTOGRAM_CUTS - 1));
}

/* The value in the middle of a bucket. */
static inline uint64_t histogram_value(unsigned bucket)
{
    if (bucket < HISTOGRAM_CUTS)
        return bucket;
    unsigned shift = (bucket >> HISTOGRAM_CUT_BITS) - 1;
    uint64_t low = (uint64_t)(HISTOGRAM_CUTS + (bucket & (HISTOGRAM_CUTS - 1))) << shift;
    return low + ((1ULL << shift) >> 1);
}

/* A negative time (a clock read before the send was stamped) counts as 0. */
static inline void histogram_add(struct histogram *histogram, int64_t value_ns)
{
    uint64_t value = value_ns < 0 ? 0 : (uint64_t)value_ns;
    histogram->count++;
    histogram->sum_ns += value;
    if (value > histogram->longest_ns)
        histogram->longest_ns = value;
    histogram->buckets[histogram_bucket(value)]++;
}

static inline void histogram_merge(struct histogram *into, const struct histogram *from)
{
    into->count += from->count;
    into->sum_ns += from->sum_ns;
    if (from->longest_ns > into->longest_ns)
        into->longest_ns = from->longest_ns;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
        into->buckets[i] += from->buckets[i];
}

/* The value that `share` (0..1) of all values do not exceed; 0 when there are none. */
static inline uint64_t histogram_quantile(const struct histogram *histogram, double share)
{
    uint64_t wanted = (uint64_t)(share * (double)histogram->count);
    if (wanted >= histogram->count)
        return histogram->longest_ns;
    uint64_t seen = 0;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += histogram->buckets[i];
        if (seen > wanted)
            return histogram_value(i) < histogram->longest_ns ? histogram_value(i) : histogram->longest_ns;
    }
    return histogram->longest_ns;
}

#endif
