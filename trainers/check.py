"""Every recipe through the trainer's own parser, without weights, data or a GPU."""

from __future__ import annotations

import tempfile
from pathlib import Path

from store.errors import UserError
from trainers import data_keys, llamafactory
from trainers.recipe import available, dump, load


def check_all(chosen: list[str]) -> int:
    """Print a line a recipe: ok, or what is wrong with it. Returns 0 when all are ok, else 2."""
    complaints: dict[str, str] = {}
    files: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in chosen or available():
            try:
                recipe = load(name)
                data_keys.answer(recipe)
            except UserError as error:
                complaints[name] = str(error)
                continue
            path = Path(folder) / f"{name}.yaml"
            path.write_text(dump({key: value for key, value in recipe.keys.items() if value is not None}))
            files[str(path)] = name
        complaints |= {files[path]: text for path, text in llamafactory.check([Path(path) for path in files]).items()}
    for name in chosen or available():
        print(f"{name:<24} {'refused: ' + complaints[name] if name in complaints else 'ok'}")
    return 2 if complaints else 0
