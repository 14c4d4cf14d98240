"""A recipe: a native LLaMA-Factory YAML, read, overridden for one run, and described by the keys we act on."""

from __future__ import annotations

import difflib
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from store.errors import UserError

RECIPES = Path("recipes")
VERBS = ("sft", "lora", "dpo")


class Loader(yaml.SafeLoader):
    """YAML 1.2 floats, as OmegaConf reads them for the trainer: ``1e-4`` is a number, not text; a key stands once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE][-+]?[0-9]+|\.[0-9]+(?:[eE][-+]?[0-9]+)?)$"
    ),
    list("-+0123456789."),
)


@dataclass(frozen=True)
class Recipe:
    """One training run: its name (the file's stem), its verb, its keys, and what was overridden for this run."""

    name: str
    keys: dict[str, Any]
    overrides: dict[str, Any] = field(default_factory=dict)

    @property
    def verb(self) -> str:
        """``sft`` (full), ``lora`` or ``dpo``, from the keys, not from the name."""
        if self.keys.get("stage") == "dpo":
            return "dpo"
        return "lora" if self.keys.get("finetuning_type") == "lora" else "sft"

    def get(self, key: str, default: Any = None) -> Any:
        """A key's value, ``default`` where it is absent or null."""
        value = self.keys.get(key)
        return default if value is None else value


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping. Raises UserError with file and line for anything else."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=Loader)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise UserError(f"{where}: not valid YAML: {getattr(error, 'problem', None) or error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected `key: value` lines, found {type(content).__name__}")
    return content


def parse_overrides(text: str) -> dict[str, Any]:
    """``"learning_rate=1e-5 flash_attn=auto"`` → values as YAML reads them. Raises UserError for a word without ``=``."""
    found: dict[str, Any] = {}
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UserError(f"SET: {error}: {text!r}") from None
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise UserError(f'SET: {word!r} is not key=value; write SET="learning_rate=1e-5 num_train_epochs=2"')
        found[key] = yaml.load(value, Loader=Loader) if value else None
    return found


def available(folder: Path = RECIPES) -> list[str]:
    """Names of all recipes on disk."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def load(name: str, overrides: dict[str, Any] | None = None, folder: Path = RECIPES) -> Recipe:
    """The recipe ``recipes/<name>.yaml`` with this run's overrides. Raises UserError for an unknown name, naming the nearest."""
    path = folder / f"{name}.yaml"
    if not path.is_file():
        near = difflib.get_close_matches(name, available(folder), n=3)
        hint = f"; did you mean {', '.join(near)}?" if near else f"; there are: {', '.join(available(folder))}"
        raise UserError(f"no recipe {name!r} in {folder}/{hint}")
    keys = read_yaml(path)
    recipe = Recipe(name, {**keys, **(overrides or {})}, dict(overrides or {}))
    require(recipe, path)
    return recipe


def require(recipe: Recipe, path: Path) -> None:
    """The keys without which nothing can be done. Raises UserError naming file and key."""
    for key in ("model_name_or_path", "stage", "finetuning_type", "dataset", "template", "cutoff_len"):
        if recipe.get(key) is None:
            raise UserError(f"{path}: key {key!r} is missing; see recipes/sft-tiny.yaml for a complete recipe")
    if recipe.keys["stage"] not in ("sft", "dpo"):
        raise UserError(f"{path}: stage {recipe.keys['stage']!r}; expected sft or dpo")
    if recipe.keys["finetuning_type"] not in ("full", "lora"):
        raise UserError(f"{path}: finetuning_type {recipe.keys['finetuning_type']!r}; expected full or lora")
    if not isinstance(recipe.keys["cutoff_len"], int) or recipe.keys["cutoff_len"] < 8:
        raise UserError(
            f"{path}: cutoff_len {recipe.keys['cutoff_len']!r}; expected a whole number of tokens, at least 8"
        )


def names(value: Any) -> list[str]:
    """LLaMA-Factory's lists of names: ``a,b`` or a YAML list."""
    if value is None:
        return []
    return (
        [part.strip() for part in value.split(",") if part.strip()]
        if isinstance(value, str)
        else [str(v) for v in value]
    )


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What changed between two recipes, a line a key: ``learning_rate: 1e-05 → 1e-06``."""
    return [
        f"{key}: {old.get(key, 'absent')!r} → {new.get(key, 'absent')!r}"
        for key in sorted(set(old) | set(new))
        if old.get(key) != new.get(key)
    ]


def dump(keys: dict[str, Any]) -> str:
    """YAML in the order given, a line a key; lists and mappings inline."""
    return "".join(
        yaml.safe_dump({key: value}, allow_unicode=True, width=10_000, default_flow_style=False)
        if not isinstance(value, (dict, list))
        else f"{key}: {yaml.safe_dump(value, allow_unicode=True, width=10_000, default_flow_style=True).strip()}\n"
        for key, value in keys.items()
    )
