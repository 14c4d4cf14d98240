"""Numbers as people read them, for the console and the report: percent, interval, n."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eval.soap import SECTIONS

COLUMNS = (*SECTIONS, "all_sections", "whole_note")
EXACT = tuple(f"exact_{column}" for column in (*SECTIONS, "all_sections"))
HEADINGS = {"all_sections": "all sections", "whole_note": "whole note", "exact_all_sections": "all sections"}


def data_name(dataset: str) -> str:
    """A registered name as it is, a path by its last two parts."""
    return "/".join(Path(dataset).parts[-2:])


def heading(column: str) -> str:
    """Column title of a metric."""
    return HEADINGS.get(column, column.removeprefix("exact_"))


def parts(metric: dict[str, Any] | None) -> tuple[str, str]:
    """A share and what it rests on: ``("73.6%", "[67.8–78.7] n=250")``; a dash where nothing was counted."""
    if not metric or metric["value"] is None:
        return "–", "n=0"
    low, high = metric["ci95"]
    return f"{100 * metric['value']:.1f}%", f"[{100 * low:.1f}–{100 * high:.1f}] n={metric['n']}"


def percent(metric: dict[str, Any] | None) -> str:
    """``73.6% [67.8–78.7] n=250``."""
    return " ".join(parts(metric))


def difference(metric: dict[str, Any]) -> tuple[str, str]:
    """A difference in percentage points: ``("+12.0", "[+3.1 to +20.4] n=250, p=0.008")``."""
    if metric["value"] is None:
        return "–", "n=0"
    low, high = metric["ci95"]
    p = metric.get("p_mcnemar")
    shown = "" if p is None else ", p<0.001" if p < 0.001 else f", p={p:.3f}"
    return f"{100 * metric['value']:+.1f}", f"[{100 * low:+.1f} to {100 * high:+.1f}] n={metric['n']}{shown}"


def plain(titles: list[str], lines: list[list[str]]) -> str:
    """A table in plain text, columns aligned."""
    widths = [max(len(row[column]) for row in [titles, *lines]) for column in range(len(titles))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [titles, *lines]
    )


def console(results: list[dict[str, Any]]) -> str:
    """The table that `eval run` prints for one judge: a column per model."""
    first = results[0]
    what = f"{first['task'].upper()} · {data_name(first['dataset'])} ({first['split']}) · {first['n']} notes · {first['judge']['label']}"
    memory = "MEMORY OF TRAINING ROWS: these rows were trained on; nothing here says how well a model writes notes."
    titles = ["", *(result["label"] for result in results)]

    def line(name: str, *path: str) -> list[str]:
        found: list[Any] = results
        for step in path:
            found = [one[step] for one in found]
        return [name, *(percent(one) if isinstance(one, dict) else str(one) for one in found)]

    verdicts = [
        *(line(heading(column), "metrics", column) for column in COLUMNS),
        line("unscored sections", "counts", "unscored"),
        line("invalid JSON notes", "counts", "invalid_json"),
    ]
    exact = [line(heading(column), "metrics", column) for column in EXACT]
    return "\n".join(
        [
            *([memory] if first["memory_of_training_rows"] else []),
            what,
            plain(titles, verdicts),
            "",
            "Equal to the reference, character by character:",
            plain(titles, exact),
        ]
    )
