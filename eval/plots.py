"""Inline SVG: no script, no font, no network; colours come from the page's CSS, so light and dark both work.

The drawing is 360 units wide, a phone's width, so that text is not scaled below reading size.
"""

from __future__ import annotations

from html import escape
from typing import Any

from markupsafe import Markup

WIDTH = 360
LEFT, RIGHT = 92, 14
LINE = 17


def _text(x: float, y: float, words: str, anchor: str = "start", kind: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">{escape(words)}</text>'


def _svg(height: float, title: str, parts: list[str]) -> Markup:
    # every text in `parts` went through escape()
    head = f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(title)}"><title>{escape(title)}</title>'
    return Markup(head + "".join(parts) + "</svg>")


def intervals(groups: list[tuple[str, list[tuple[str, dict[str, Any]]]]]) -> Markup:
    """Shares with their 95% intervals. ``groups``: ``(section, [(label, metric), …])``; one line per label."""
    span = WIDTH - LEFT - RIGHT

    def x(share: float) -> float:
        return LEFT + span * share

    y, parts = 16.0, []
    for name, lines in groups:
        parts.append(_text(4, y + 4, name, kind="strong"))
        y += LINE
        for order, (label, metric) in enumerate(lines):
            parts.append(_text(LEFT - 8, y + 4, label[:14], "end"))
            colour = f"c{order % 6}"
            if metric["value"] is None:
                parts.append(_text(x(0) + 2, y + 4, "nothing scored", kind="dim"))
            else:
                low, high = metric["ci95"]
                parts.append(f'<line x1="{x(low):.1f}" x2="{x(high):.1f}" y1="{y}" y2="{y}" class="bar {colour}"/>')
                parts.append(f'<circle cx="{x(metric["value"]):.1f}" cy="{y}" r="4" class="dot {colour}"/>')
            y += LINE
        y += 4
    bottom = y - 6
    axis = []
    for share in (0, 0.25, 0.5, 0.75, 1):
        axis.append(f'<line x1="{x(share):.1f}" x2="{x(share):.1f}" y1="6" y2="{bottom:.1f}" class="rule"/>')
        axis.append(_text(x(share), bottom + 13, f"{share:.0%}", "middle", "dim"))
    return _svg(bottom + 20, "Share of sections passed with 95% intervals", axis + parts)


def curves(title: str, train: list[tuple[float, float]], held_out: list[tuple[float, float]]) -> Markup:
    """Loss over steps; ``train`` a line, ``held_out`` a dashed one. Points are ``(step, loss)``."""
    height, top, bottom = 190, 14, 160
    points = train + held_out
    first, last = min(p[0] for p in points), max(p[0] for p in points)
    low, high = min(p[1] for p in points), max(p[1] for p in points)
    low, high = (low - 0.05, high + 0.05) if high == low else (low, high)
    wide = max(last - first, 1)

    def at(point: tuple[float, float]) -> tuple[float, float]:
        return 48 + (WIDTH - 62) * (point[0] - first) / wide, bottom - (bottom - top) * (point[1] - low) / (high - low)

    parts = []
    for part in (0, 0.5, 1):
        y = bottom - (bottom - top) * part
        parts.append(f'<line x1="48" x2="{WIDTH - 14}" y1="{y:.1f}" y2="{y:.1f}" class="rule"/>')
        parts.append(_text(44, y + 4, f"{low + (high - low) * part:.3g}", "end", "dim"))
    parts.append(_text(48, bottom + 16, f"step {first:g}", "start", "dim"))
    parts.append(_text(WIDTH - 14, bottom + 16, f"step {last:g}", "end", "dim"))
    for line, kind in ((train, "c0"), (held_out, "c1 dashed")):
        if line:
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(at, line))
            parts.append(f'<polyline points="{path}" class="curve {kind}"/>')
        if len(line) == 1:
            x, y = at(line[0])
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" class="dot {kind}"/>')
    return _svg(height, f"Loss of {title}", parts)
