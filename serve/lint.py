"""Checks files for `vllm serve --config` before vLLM reads them.

vLLM turns each line into a command-line argument and is silent about some mistakes: on 0.32 `flag: false` is dropped (the
default stays), and 16k means 16000. What is refused here has a key, a reason and a correction.
"""

from __future__ import annotations

import difflib
import functools
import re
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from store.errors import UserError

FLAGS_FILE = Path(__file__).with_name("vllm_flags.tsv")
SECRETS = {"api-key": "SERVE_API_KEY", "hf-token": "HF_TOKEN"}
LOGS_TEXT = {"enable-log-requests", "enable-log-outputs", "enable-log-deltas"}


class Flag(NamedTuple):
    """One flag of `vllm serve`; kinds are explained in list_flags.py."""

    kind: str
    choices: tuple[str, ...]


@functools.cache
def flags() -> dict[str, Flag]:
    """Flag name → Flag, from the generated list."""
    rows = (line.split("\t") for line in FLAGS_FILE.read_text().splitlines() if not line.startswith("#"))
    return {row[0]: Flag(row[1], tuple(row[2].split(",")) if len(row) > 2 else ()) for row in rows}


def version() -> str:
    """The vLLM version that the list of flags was made from."""
    found = re.search(r"serve` (\S+);", FLAGS_FILE.read_text())
    return found[1] if found else "unknown"


class _NoDuplicates(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice (YAML would keep the last, silently)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            name = str(key.value).replace("_", "-")
            if name in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} is given twice", key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)


def load(path: Path) -> dict[str, Any]:
    """A serve file → {flag name with dashes: value}. Raises UserError when it cannot be read as one YAML mapping."""
    if path.suffix not in (".yaml", ".yml"):
        raise UserError(f"{path}: `vllm serve --config` reads only .yaml and .yml; rename the file")
    try:
        read = yaml.load(path.read_text(encoding="utf-8"), Loader=_NoDuplicates)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); serve files are in recipes/serve/") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not UTF-8 text; save it as UTF-8") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise UserError(f"{where}: is not valid YAML: {getattr(error, 'problem', error)}") from None
    if not isinstance(read, dict):
        found = "nothing" if read is None else type(read).__name__
        raise UserError(f"{path}: `flag: value` lines were expected, found {found}")
    return {str(key).replace("_", "-"): value for key, value in read.items()}


def unknown(key: str) -> str:
    """What to say about a flag that vLLM does not have, with the nearest names it has."""
    names = list(flags()) + [f"no-{name}" for name, flag in flags().items() if flag.kind == "on-off"]
    near = difflib.get_close_matches(key, names, n=2, cutoff=0.6)
    hint = f"did you mean {' or '.join(near)}?" if near else "see `vllm serve --help=all`"
    return f"is no flag of `vllm serve` {version()}; {hint}"


def number_problem(flag: Flag, value: Any) -> str | None:
    """What is wrong with the value of an int, float or size flag, or None."""
    text = str(value).strip()
    if re.fullmatch(r"\d+(\.\d+)?[kKmMgGtT]", text):
        return f"{text} is ambiguous (vLLM reads 16k as 16000, 16K as 16384); write the number out"
    if flag.kind == "size" and text in ("auto", "-1"):
        return None
    try:
        float(text) if flag.kind == "float" else int(text)
    except ValueError:
        return f"{value!r} is not {'a number' if flag.kind == 'float' else 'a whole number'}"
    return None


def value_problem(flag: Flag, key: str, value: Any) -> str | None:
    """What is wrong with ``value`` for a known flag, or None."""
    if value is None:
        return "has no value (vLLM would be given the text None); write one, or remove the line"
    if flag.kind in ("on", "on-off"):
        if value is True:
            return None
        if value is False:
            fix = f"write `no-{key}: true`" if flag.kind == "on-off" else "remove the line: absent is off"
            return f"`false` is dropped silently by vLLM, so the default stays; {fix}"
        return f"is a switch: `{key}: true` was expected, found {value!r}"
    if isinstance(value, bool):
        return f"takes a value, not {str(value).lower()}; quote it if the text is meant"
    if flag.kind == "json":
        if isinstance(value, dict) or (isinstance(value, str) and value.lstrip().startswith("[")):
            return None
        return f"takes nested `key: value` lines below it, found {type(value).__name__} {value!r}"
    if isinstance(value, dict):
        return "takes a plain value, found nested lines"
    if isinstance(value, list):
        if flag.kind != "list":
            return "takes one value, found a list"
        nested = [item for item in value if isinstance(item, dict | list)]
        return f"holds {nested[0]!r} where plain text was expected" if nested else None
    if flag.kind in ("int", "float", "size") and (problem := number_problem(flag, value)):
        return problem
    if flag.choices and str(value) not in flag.choices:
        near = difflib.get_close_matches(str(value), flag.choices, n=1)
        return f"{value!r} is not one of {', '.join(flag.choices)}" + (f"; did you mean {near[0]}?" if near else "")
    return None


def problems(settings: dict[str, Any]) -> list[str]:
    """One text per faulty line of a serve file, each beginning with its key."""
    found = []
    for key, value in settings.items():
        negative = key.removeprefix("no-") if key.startswith("no-") else None
        if key in SECRETS:
            problem: str | None = f"a secret does not belong in a file; set {SECRETS[key]} in the environment"
        elif key in LOGS_TEXT and value is True:
            problem = "would write patients' text to the log; remove the line"
        elif key in flags():
            problem = value_problem(flags()[key], key, value)
        elif negative in flags() and flags()[negative].kind == "on-off":
            problem = None if value is True else f"only `{key}: true` means something; or write `{negative}: true`"
        else:
            problem = unknown(key)
        if problem:
            found.append(f"{key}: {problem}")
    return found


def checked(path: Path) -> dict[str, Any]:
    """`load`, then refuse every faulty line. Raises UserError listing all of them."""
    settings = load(path)
    if found := problems(settings):
        raise UserError(f"\n{'error: ':>7}".join(f"{path}: {problem}" for problem in found))
    return settings
