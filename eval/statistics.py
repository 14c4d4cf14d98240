"""Intervals and paired differences. Shares are 0–1; every interval is 95%, two-sided."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

Z95 = 1.959963984540054


class Estimate(NamedTuple):
    """A share with its interval; ``value`` and ``ci95`` are None when nothing was counted."""

    value: float | None
    n: int
    ci95: tuple[float, float] | None


def wilson(share: float, n: float) -> tuple[float, float]:
    """Wilson score interval of a share seen in ``n`` (possibly effective, hence fractional) trials.

    E. B. Wilson, JASA 22 (1927); 8 of 10 gives 0.490–0.943.
    """
    if n <= 0:
        raise ValueError("an interval needs n > 0")
    centre = share + Z95**2 / (2 * n)
    half = Z95 * math.sqrt(share * (1 - share) / n + Z95**2 / (4 * n**2))
    scale = 1 + Z95**2 / n
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def share(passed: int, n: int) -> Estimate:
    """``passed`` of ``n`` independent verdicts."""
    return Estimate(passed / n, n, wilson(passed / n, n)) if n else Estimate(None, 0, None)


def clustered_share(clusters: Sequence[Sequence[int]]) -> Estimate:
    """Share of ones among 0/1 verdicts that come in clusters (the sections of one note).

    Wilson at the effective sample size n/deff (Dean & Pagano, J. Surv. Stat. Methodol. 3, 2015); deff is the ratio
    estimator's cluster variance over the binomial one, kept between 1 and the mean cluster size. With all verdicts equal
    nothing can be estimated and deff is the mean cluster size, the worst case.
    """
    sizes = np.array([len(cluster) for cluster in clusters if cluster], dtype=float)
    sums = np.array([sum(cluster) for cluster in clusters if cluster], dtype=float)
    if not len(sizes):
        return Estimate(None, 0, None)
    n, count = int(sizes.sum()), len(sizes)
    value = float(sums.sum() / n)
    binomial = value * (1 - value) / n
    mean_size = n / count
    if binomial == 0 or count == 1:
        deff = mean_size
    else:
        between = count / (count - 1) * float(((sums - value * sizes) ** 2).sum()) / n**2
        deff = min(max(between / binomial, 1.0), mean_size)
    return Estimate(value, n, wilson(value, n / deff))


def newcombe_paired(both: float, first: float, second: float, neither: float) -> tuple[float, float]:
    """Interval of the paired difference (second − first) from the four counts of agreement.

    Newcombe, Stat. Med. 17:2635 (1998), method 10: two Wilson intervals joined with the continuity-corrected φ.
    """
    n = both + first + second + neither
    p1, p2 = (both + second) / n, (both + first) / n
    (low1, high1), (low2, high2) = wilson(p1, n), wilson(p2, n)
    margins = (both + first) * (second + neither) * (both + second) * (first + neither)
    phi = 0.0
    if margins > 0:
        excess = both * neither - first * second
        excess = max(excess - n / 2, 0.0) if excess > 0 else excess
        phi = excess / math.sqrt(margins)
    down = (p1 - low1) ** 2 - 2 * phi * (p1 - low1) * (high2 - p2) + (high2 - p2) ** 2
    up = (high1 - p1) ** 2 - 2 * phi * (high1 - p1) * (p2 - low2) + (p2 - low2) ** 2
    return p1 - p2 - math.sqrt(max(down, 0.0)), p1 - p2 + math.sqrt(max(up, 0.0))


def mcnemar_exact(first: int, second: int) -> float:
    """Two-sided exact p-value of McNemar's test from the two discordant counts; 1 when there are none."""
    n = first + second
    tail = sum(math.comb(n, k) for k in range(min(first, second) + 1))
    return min(1.0, 2 * tail / 2**n)


def paired_bootstrap(
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]], *, seed: int, resamples: int
) -> tuple[float, tuple[float, float]]:
    """Difference (second − first) of the shares of ones, and its percentile interval, resampling whole notes.

    ``pairs``: one per note, the 0/1 verdicts of the first and of the second model on the same sections. Where every note
    has the same difference the bootstrap has no spread and would claim certainty: then Newcombe's interval at n = notes.
    """
    sizes = np.array([len(a) for a, _ in pairs], dtype=float)
    gains = np.array([sum(b) - sum(a) for a, b in pairs], dtype=float)
    value = float(gains.sum() / sizes.sum())
    if np.ptp(gains / sizes) == 0:
        count, p1 = len(pairs), sum(sum(a) for a, _ in pairs) / float(sizes.sum())
        p2 = p1 + value
        both = min(p1, p2) * count
        return value, newcombe_paired(both, p1 * count - both, p2 * count - both, count * (1 - max(p1, p2)))
    generator = np.random.default_rng(seed)
    drawn = np.empty(resamples)
    for start in range(0, resamples, 500):  # 500 × notes indices at a time keeps memory small
        stop = min(start + 500, resamples)
        chosen = generator.integers(0, len(pairs), size=(stop - start, len(pairs)))
        drawn[start:stop] = gains[chosen].sum(axis=1) / sizes[chosen].sum(axis=1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return value, (float(low), float(high))
