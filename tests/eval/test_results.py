"""Verdicts → numbers: unscored is a third state, differences are paired."""

from __future__ import annotations

import pytest

from eval.results import metrics, paired
from eval.statistics import newcombe_paired, wilson


def rows(table: dict[str, str], exact: str = "") -> list[dict]:
    """``{"note": "PFU?"}``: one letter per section S, O, A, P: Pass, Fail, Unscored."""
    words = {"P": "pass", "F": "fail", "U": "unscored"}
    return [
        {"id": note, "section": key, "verdict": words[letter], "reason": "", "cause": "", "exact": note in exact}
        for note, letters in table.items()
        for key, letter in zip("SOAP", letters, strict=True)
    ]


def test_unscored_is_never_a_fail() -> None:
    found = metrics(rows({"1": "PFUP", "2": "PPUP", "3": "PUUP"}))
    assert (found["S"]["value"], found["S"]["n"]) == (1.0, 3)
    assert (found["O"]["value"], found["O"]["n"], found["O"]["unscored"]) == (0.5, 2, 1)
    assert found["O"]["bounds"] == pytest.approx([1 / 3, 2 / 3])
    assert (found["A"]["value"], found["A"]["n"], found["A"]["ci95"], found["A"]["bounds"]) == (
        None,
        0,
        None,
        [0.0, 1.0],
    )
    assert (found["all_sections"]["value"], found["all_sections"]["n"]) == (7 / 8, 8)
    assert found["whole_note"]["n"] == 0 and found["whole_note"]["unscored"] == 3
    assert found["S"]["ci95"] == pytest.approx(wilson(1, 3))


def test_whole_notes_and_exact() -> None:
    found = metrics(rows({"1": "PPPP", "2": "PPPF"}, exact="1"))
    assert found["whole_note"]["value"] == 0.5
    assert found["exact_all_sections"]["value"] == 0.5
    assert found["exact_S"]["n"] == 2


def test_differences_use_only_what_both_have() -> None:
    first, second = rows({"1": "FFPU", "2": "FFPP", "3": "FPPP"}), rows({"1": "PPFP", "2": "PUPP", "3": "FPPP"})
    found = paired(first, second, exact=False, seed=1, resamples=1000)
    assert (found["S"]["value"], found["S"]["n"], found["S"]["won"], found["S"]["lost"]) == (
        pytest.approx(2 / 3),
        3,
        2,
        0,
    )
    assert found["S"]["p_mcnemar"] == 0.5
    assert found["S"]["ci95"] == pytest.approx(newcombe_paired(0, 0, 2, 1))
    assert (found["O"]["n"], found["P"]["n"]) == (2, 2)
    assert (found["all_sections"]["n"], found["all_sections"]["value"]) == (10, pytest.approx(2 / 10))


def test_nothing_in_common() -> None:
    found = paired(rows({"1": "PPPP"}), rows({"2": "PPPP"}), exact=False, seed=1, resamples=1000)
    assert all(metric["value"] is None for metric in found.values())
