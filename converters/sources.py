"""The CLI word of a source → its shapes. Modules are imported when asked for, so that one source costs one import."""

from __future__ import annotations

import functools
import importlib

from converters.shape import Shape
from store.errors import UserError

MODULES = {
    "huatuo": "converters.huatuo",
    "soap": "converters.soap",
    "patient-doctor": "converters.patient_doctor",
    "medical-qa": "converters.medical_qa",
    "ark": "converters.ark",
    "preference": "converters.preference",
    "chat": "converters.chat",
}


@functools.cache
def shapes_of(source: str) -> tuple[Shape, ...]:
    """The shapes of one source, most specific first. Raises UserError for an unknown source."""
    if source not in MODULES:
        raise UserError(f"unknown source {source!r}; sources are {', '.join(MODULES)}")
    return importlib.import_module(MODULES[source]).SHAPES


def shape_named(source: str, name: str) -> Shape:
    """One shape by its name; workers look shapes up by name because functions do not always travel."""
    return next(shape for shape in shapes_of(source) if shape.name == name)
