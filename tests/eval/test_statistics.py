"""Formulas against published and hand-worked values."""

from __future__ import annotations

import numpy as np
import pytest

from eval.statistics import clustered_share, mcnemar_exact, newcombe_paired, paired_bootstrap, share, wilson


@pytest.mark.parametrize(
    ("passed", "n", "low", "high"),
    [
        (8, 10, 0.4902, 0.9433),
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (81, 263, 0.2553, 0.3662),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_known_values(passed: int, n: int, low: float, high: float) -> None:
    assert wilson(passed / n, n) == pytest.approx((low, high), abs=5e-5)
    assert share(passed, n).ci95 == wilson(passed / n, n)


def test_nothing_counted_is_no_number() -> None:
    assert share(0, 0) == (None, 0, None)
    assert clustered_share([[], []]) == (None, 0, None)


def test_newcombe_1998_paired_example() -> None:
    # Stat. Med. 17:2635, table II, method 10: 36 both, 12 and 2 discordant, 0 neither
    assert newcombe_paired(36, 2, 12, 0) == pytest.approx((0.0569, 0.3404), abs=5e-5)


def test_mcnemar_by_hand() -> None:
    assert mcnemar_exact(0, 5) == 2 / 32
    assert mcnemar_exact(2, 8) == pytest.approx(2 * (1 + 10 + 45) / 1024)
    assert mcnemar_exact(3, 3) == 1.0
    assert mcnemar_exact(0, 0) == 1.0


def test_sections_of_one_note_do_not_count_as_four() -> None:
    alike = clustered_share([[1] * 4] * 5 + [[0] * 4] * 5)
    mixed = clustered_share([[1, 0, 1, 0]] * 10)
    assert alike.value == mixed.value == 0.5
    assert alike.ci95 == pytest.approx(wilson(0.5, 10))
    assert mixed.ci95 == pytest.approx(wilson(0.5, 40))
    # all equal: certainty is not claimed, n is the number of notes
    assert clustered_share([[1] * 4] * 10).ci95 == pytest.approx(wilson(1.0, 10))


def test_clustered_interval_covers_the_truth() -> None:
    generator, inside, trials = np.random.default_rng(1), 0, 400
    for _ in range(trials):
        quality = generator.beta(2, 2, size=40)  # mean 0.5, notes differ
        low, high = clustered_share((generator.random((40, 4)) < quality[:, None]).astype(int).tolist()).ci95
        inside += low <= 0.5 <= high
    assert 0.92 <= inside / trials <= 0.985


def test_bootstrap_has_the_sign_of_the_gain_and_is_repeatable() -> None:
    worse, better = [0, 1, 0, 0], [1, 1, 1, 0]
    pairs = [(worse, better)] * 15 + [(better, worse)] * 3
    value, (low, high) = paired_bootstrap(pairs, seed=1, resamples=2000)
    assert value == pytest.approx(0.5 * 12 / 18)
    assert 0 < low < value < high
    back, (back_low, back_high) = paired_bootstrap([(b, a) for a, b in pairs], seed=1, resamples=2000)
    assert (back, back_low, back_high) == pytest.approx((-value, -high, -low))
    assert paired_bootstrap(pairs, seed=1, resamples=2000) == paired_bootstrap(pairs, seed=1, resamples=2000)


def test_bootstrap_without_spread_claims_no_certainty() -> None:
    value, (low, high) = paired_bootstrap([([0] * 4, [1] * 4)] * 12, seed=1, resamples=1000)
    assert value == 1.0
    assert (low, high) == pytest.approx(newcombe_paired(0, 0, 12, 0))
    assert low < 0.7
