"""histogram.h, compiled into a program of its own."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from benchmarks.build import FLAGS, SOURCES

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = r"""
#include <stdio.h>
#include "histogram.h"

/* Prints how far a bucket's value is from what was put into it, at most, in parts of a million. */
int main(void)
{
    static struct histogram all, even, odd;
    double worst = 0;
    for (uint64_t value = 64; value < 1ULL << 39; value += 1 + value / 1000) {
        double error = (double)histogram_value(histogram_bucket(value)) / (double)value - 1;
        worst = error > worst ? error : -error > worst ? -error : worst;
    }
    for (int i = 1; i <= 100000; i++) {
        histogram_add(&all, i * 100);
        histogram_add(i % 2 ? &odd : &even, i * 100);
    }
    histogram_merge(&even, &odd);
    double shares[] = {0.5, 0.999, 1};
    printf("%.0f %u", worst * 1e6, histogram_bucket(UINT64_MAX));
    printf(" %llu", (unsigned long long)histogram_quantile(&all, 0.5));
    for (int i = 0; i < 3; i++)
        printf(" %llu", (unsigned long long)histogram_quantile(&even, shares[i]));
    return 0;
}
"""


def test_a_bucket_is_within_two_percent_and_histograms_add_up(tmp_path: Path) -> None:
    source = tmp_path / "program.c"
    source.write_text(PROGRAM)
    binary = tmp_path / "program"
    command = ["cc", *FLAGS, "-Werror", "-I", str(SOURCES), "-o", str(binary), str(source)]
    subprocess.run(command, check=True)
    words = subprocess.run([binary], capture_output=True, text=True, check=True).stdout.split()
    worst, last_bucket, median, merged_median, p999, longest = map(int, words)
    assert worst <= 20_000
    assert merged_median == median
    assert abs(median / 5_000_000 - 1) < 0.02
    assert abs(p999 / 9_990_000 - 1) < 0.02
    assert longest == 10_000_000
    assert last_bucket < 35 * 64
