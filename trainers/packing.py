"""Packing: several rows in one sequence, so that the compute goes into text and not into padding. Pure."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from random import Random


def packs(lengths: Sequence[int], capacity: int, seed: int) -> list[list[int]]:
    """Best-fit decreasing: indices of the rows in each pack, no pack longer than ``capacity`` tokens.

    Every row is in exactly one pack. The packs are shuffled by ``seed``: the construction leaves them ordered by length.
    """
    filled: list[list[int]] = []
    space: list[tuple[int, int]] = []  # (tokens left, pack), sorted
    for row in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        length = lengths[row]
        if length > capacity:
            raise ValueError(f"row {row} has {length} tokens, a pack holds {capacity}")
        place = bisect_left(space, (length, -1))
        if place < len(space):
            left, pack = space.pop(place)
        else:
            left, pack = capacity, len(filled)
            filled.append([])
        filled[pack].append(row)
        if left > length:
            insort(space, (left - length, pack))
    Random(seed).shuffle(filled)
    return filled
