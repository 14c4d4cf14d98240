"""recipes/eval/*.yaml: what is asked of the candidate, what is asked of the judge, and the lexical rule's thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from store.errors import UserError
from store.hashing import content_id

PLACEHOLDERS = {"section", "section_meaning", "dialogue", "reference", "predicted"}


class EvalRecipe(BaseModel):
    """One evaluation task; every key must be known. Times are seconds, shares are 0–1, lengths are tokens."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: Literal["soap"]
    dataset: str
    split: Literal["train", "val", "test"] = "test"
    # the candidate
    temperature: float = Field(ge=0)
    max_tokens: int = Field(gt=0)
    enable_thinking: bool | None = None
    concurrency: int = Field(gt=0)
    timeout_s: float = Field(gt=0)
    dialogue_marker: str
    # the judge
    section_S: str
    section_O: str
    section_A: str
    section_P: str
    judge_system: str
    judge_prompt: str
    judge_temperature: float = Field(ge=0)
    judge_max_tokens: int = Field(gt=0)
    judge_enable_thinking: bool | None = None
    judge_concurrency: int = Field(gt=0)
    judge_timeout_s: int = Field(gt=0)
    judge_retries: int = Field(ge=0)
    judge_asks: int = Field(gt=0)
    judge_serve: str
    # the lexical stand-in
    lexical_max_omitted: float = Field(ge=0, le=1)
    lexical_max_unsupported: float = Field(ge=0, le=1)
    # statistics
    bootstrap_seed: int
    bootstrap_resamples: int = Field(ge=1000)

    @field_validator("judge_prompt")
    @classmethod
    def _placeholders(cls, text: str) -> str:
        found = set(Template(text).get_identifiers())
        if found != PLACEHOLDERS or not Template(text).is_valid():
            raise ValueError(f"must hold exactly ${', $'.join(sorted(PLACEHOLDERS))}; found {sorted(found)}")
        return text

    def meaning(self, section: str) -> str:
        """What a section key stands for, as the judge is told."""
        return getattr(self, f"section_{section}")

    def sampling(self) -> dict[str, float | int]:
        """What every candidate is asked with; part of the hash that tables are grouped by."""
        return {"temperature": self.temperature, "max_tokens": self.max_tokens}

    def prompt_hash(self) -> str:
        """Hash of everything the judge is told besides the note itself."""
        return content_id([self.judge_system, self.judge_prompt, [self.meaning(key) for key in "SOAP"]])


def read_recipe(task: str, folder: str | Path = "recipes/eval", overrides: Sequence[str] = ()) -> EvalRecipe:
    """``recipes/eval/<task>.yaml`` or a path to one, with ``key=value`` overrides. Raises UserError naming the key."""
    path = Path(task) if task.endswith((".yaml", ".yml")) else Path(folder) / f"{task}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in Path(folder).glob("*.yaml"))) or "none"
        raise UserError(f"task {task!r}: no file {path}; tasks here: {known}")
    try:
        keys = yaml.safe_load(path.read_text("utf-8"))
        for override in overrides:
            key, equals, value = override.partition("=")
            if not equals or not isinstance(keys, dict):
                raise UserError(f"--set {override}: expected key=value with a key of {path}")
            keys[key] = yaml.safe_load(value)
        return EvalRecipe.model_validate(keys)
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not YAML ({str(error).splitlines()[0]})") from None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "the file"
        raise UserError(f"{path}: {key}: {first['msg']} (of {error.error_count()} faults)") from None
