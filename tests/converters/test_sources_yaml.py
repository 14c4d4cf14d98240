"""datasets/sources.yaml against the converters: every entry names a source and shape that exist, under the name they register."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from converters.sources import shapes_of

# Sets that share one layout with others, so that the layout cannot give the name.
NAMED_BY_HAND = {"huatuo_pairs", "reward_zh"}
FIELDS = {"hub", "licence", "source", "shape", "splits", "size", "note"}


def entries() -> dict[str, dict]:
    path = Path(__file__).resolve().parents[2] / "datasets" / "sources.yaml"
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", entries())
def test_entry(name: str) -> None:
    entry = entries()[name]
    assert FIELDS <= entry.keys() <= FIELDS | {"config"}
    assert entry["licence"] and entry["note"]
    assert entry["hub"] is None or entry["hub"].count("/") == 1
    shapes = {shape.name: shape for shape in shapes_of(entry["source"])}
    assert entry["shape"] in shapes
    if name not in NAMED_BY_HAND:
        assert shapes[entry["shape"]].dataset == name
