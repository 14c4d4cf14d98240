"""Verdicts of one model → the numbers of `results.json`, and the differences between two models on the same rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from eval.soap import SECTIONS, Note
from eval.statistics import Estimate, clustered_share, mcnemar_exact, newcombe_paired, paired_bootstrap, share

SCORED = {"pass": 1, "fail": 0}
ALL = "all_sections"
Rows = Sequence[dict[str, Any]]  # lines of verdicts.jsonl


def _metric(estimate: Estimate, **more: Any) -> dict[str, Any]:
    return {"value": estimate.value, "n": estimate.n, "ci95": list(estimate.ci95) if estimate.ci95 else None, **more}


def _with_unscored(estimate: Estimate, rows: Rows) -> dict[str, Any]:
    """Add the unscored count and the bounds: all unscored fail, all unscored pass."""
    passed = sum(row["verdict"] == "pass" for row in rows)
    unscored = sum(row["verdict"] == "unscored" for row in rows)
    bounds = [passed / len(rows), (passed + unscored) / len(rows)] if rows else None
    return _metric(estimate, unscored=unscored, bounds=bounds)


def by_note(rows: Rows) -> dict[str, list[dict[str, Any]]]:
    """Verdict rows grouped by note, in order of first appearance."""
    notes: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        notes.setdefault(row["id"], []).append(row)
    return notes


def metrics(rows: Rows) -> dict[str, dict[str, Any]]:
    """accuracy = pass/(pass+fail) per section and over all sections, whole notes passed, and exact equality.

    Sections and whole notes carry Wilson intervals; what pools the four sections of a note carries the clustered one.
    """
    found: dict[str, dict[str, Any]] = {}
    for key in SECTIONS:
        mine = [row for row in rows if row["section"] == key]
        scored = [SCORED[row["verdict"]] for row in mine if row["verdict"] in SCORED]
        found[key] = _with_unscored(share(sum(scored), len(scored)), mine)
    notes = by_note(rows)
    clusters = [[SCORED[row["verdict"]] for row in note if row["verdict"] in SCORED] for note in notes.values()]
    found[ALL] = _with_unscored(clustered_share(clusters), rows)
    # a note with an unscored section is left out even when another section fails: keeping only those would bias downwards
    complete = [note for note in notes.values() if all(row["verdict"] in SCORED for row in note)]
    decided = [all(row["verdict"] == "pass" for row in note) for note in complete]
    found["whole_note"] = _metric(share(sum(decided), len(decided)), unscored=len(notes) - len(decided))
    for key in SECTIONS:
        mine = [row for row in rows if row["section"] == key]
        found[f"exact_{key}"] = _metric(share(sum(row["exact"] for row in mine), len(mine)))
    found["exact_all_sections"] = _metric(
        clustered_share([[int(row["exact"]) for row in note] for note in notes.values()])
    )
    return found


def counts(rows: Rows, notes: dict[str, Note], without_marker: int, generation: dict[str, int]) -> dict[str, Any]:
    """What happened besides passing and failing; nothing that was forgiven goes uncounted."""
    return {
        "notes": len(notes),
        "invalid_json": sum(note.invalid_json for note in notes.values()),
        "fenced": sum(note.fenced for note in notes.values()),
        "thinking": sum(note.thinking for note in notes.values()),
        "extra_keys": sum(bool(note.extra_keys) for note in notes.values()),
        "refused": generation.get("refused", 0),
        "cut_by_length": generation.get("cut_by_length", 0),
        "to_context_end": generation.get("to_context_end", 0),
        "dialogue_without_marker": without_marker,
        "unscored": sum(row["verdict"] == "unscored" for row in rows),
        "causes": dict(sorted(Counter(row["cause"] for row in rows).items())),
    }


def paired(first: Rows, second: Rows, *, exact: bool, seed: int, resamples: int) -> dict[str, dict[str, Any]]:
    """Differences (second − first) on the sections both models have scored, per section and over all.

    ``exact`` compares exact equality instead of verdicts. Per section: Newcombe's paired interval and McNemar's exact p;
    over all sections: paired bootstrap over notes. Five comparisons of the same notes: the p-values are not corrected.
    """

    def scores(rows: Rows) -> dict[tuple[str, str], int]:
        if exact:
            return {(row["id"], row["section"]): int(row["exact"]) for row in rows}
        return {(row["id"], row["section"]): SCORED[row["verdict"]] for row in rows if row["verdict"] in SCORED}

    one, two = scores(first), scores(second)
    shared = [key for key in one if key in two]
    found: dict[str, dict[str, Any]] = {}
    for section in SECTIONS:
        pairs = Counter((one[key], two[key]) for key in shared if key[1] == section)
        n = sum(pairs.values())
        if not n:
            found[section] = {"value": None, "n": 0, "ci95": None}
            continue
        lost, won = pairs[1, 0], pairs[0, 1]
        interval = newcombe_paired(pairs[1, 1], lost, won, pairs[0, 0])
        found[section] = {
            "value": (won - lost) / n,
            "n": n,
            "ci95": list(interval),
            "won": won,
            "lost": lost,
            "p_mcnemar": mcnemar_exact(lost, won),
        }
    notes: dict[str, tuple[list[int], list[int]]] = {}
    for key in shared:
        a, b = notes.setdefault(key[0], ([], []))
        a.append(one[key])
        b.append(two[key])
    if notes:
        value, interval = paired_bootstrap(list(notes.values()), seed=seed, resamples=resamples)
        found[ALL] = {"value": value, "n": len(shared), "notes": len(notes), "ci95": list(interval)}
    else:
        found[ALL] = {"value": None, "n": 0, "ci95": None}
    return found
