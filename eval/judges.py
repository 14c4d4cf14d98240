"""Which judge a run asks: `lexical`, `endpoint` (JUDGE_* variables) or `local` (a served recipe)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from eval import judge_lexical, judge_llm
from eval.recipe import EvalRecipe
from eval.verdicts import SectionCase, failed_unasked, verdict_row
from llm import Endpoint
from store.errors import UserError

KINDS = ("lexical", "endpoint", "local")


@dataclass(frozen=True)
class Judge:
    """``hash``: decides which results may share a table. ``prompt_hash``: of the prompt, or of the lexical rule."""

    kind: str
    id: str
    label: str
    hash: str
    prompt_hash: str
    endpoint: Endpoint | None = None

    def folder_name(self) -> str:
        """Name of the judge's folder below a model's."""
        return f"{self.kind}-{self.hash[:8]}"

    def described(self, recipe: EvalRecipe) -> dict[str, Any]:
        """For results.json: who judged, with what; never a key."""
        found = {
            "kind": self.kind,
            "id": self.id,
            "label": self.label,
            "hash": self.hash,
            "prompt_hash": self.prompt_hash,
        }
        if self.kind == "lexical":
            return {
                **found,
                "max_omitted": recipe.lexical_max_omitted,
                "max_unsupported": recipe.lexical_max_unsupported,
            }
        return {**found, "temperature": recipe.judge_temperature, "max_tokens": recipe.judge_max_tokens}


def read_judge(kind: str, recipe: EvalRecipe) -> Judge:
    """The judge of a run. Raises UserError when its variables or its serve file are missing."""
    if kind == "lexical":
        hashed = judge_lexical.rule_hash(recipe)
        return Judge(kind, judge_lexical.NAME, judge_lexical.LABEL, hashed, hashed)
    if kind == "endpoint":
        endpoint = Endpoint.from_environment("JUDGE_")
        model = endpoint.model
    elif kind == "local":
        endpoint, model = None, _local_model(Path(recipe.judge_serve))
    else:
        raise UserError(f"JUDGE={kind}: expected one of {', '.join(KINDS)}")
    return Judge(kind, model, f"LLM judge {model}", judge_llm.judge_hash(recipe, model), recipe.prompt_hash(), endpoint)


def _local_model(config: Path) -> str:
    if not config.is_file():
        raise UserError(f"JUDGE=local: no serve file {config} (judge_serve in the eval recipe)")
    model = (yaml.safe_load(config.read_text("utf-8")) or {}).get("model")
    if not isinstance(model, str):
        raise UserError(f"{config}: expected a key `model:` naming the judge's hub id or folder")
    return model


@contextlib.contextmanager
def served(judge: Judge, recipe: EvalRecipe, log_dir: Path) -> Iterator[Endpoint]:
    """The judge's endpoint; ``local`` is started here and stopped on leaving."""
    if judge.endpoint is not None:
        yield judge.endpoint
        return
    from serve import running
    from store.models import resolve

    print(f"serving the judge {judge.id} ({recipe.judge_serve})", flush=True)
    with running(resolve(judge.id), name="judge", config=Path(recipe.judge_serve), log_dir=log_dir) as server:
        if not server.structured:
            print(
                f"note: {server.engine} does not honour JSON schemas; unparsable verdicts will be unscored", flush=True
            )
        yield Endpoint(server.base_url, server.model, server.api_key)


def lexical_rows(cases: list[SectionCase], recipe: EvalRecipe) -> list[dict[str, Any]]:
    """Verdict rows by the lexical rule."""
    rows = []
    for case in cases:
        if case.problem:
            rows.append(failed_unasked(case))
        else:
            passed, reason = judge_lexical.judge_section(case.dialogue, case.reference, case.predicted, recipe)
            rows.append(verdict_row(case, "pass" if passed else "fail", reason, judge_lexical.NAME))
    return rows


def llm_rows(
    cases: list[SectionCase], judge: Judge, endpoint: Endpoint | None, recipe: EvalRecipe, folder: Path, title: str
) -> list[dict[str, Any]]:
    """Verdict rows by the LLM judge, in the order of ``cases``; sections without output fail unasked."""
    asked = [case for case in cases if case.problem is None]
    judged = iter(judge_llm.judge(asked, endpoint, recipe, folder, title, judge.hash) if asked else [])
    return [failed_unasked(case) if case.problem else next(judged) for case in cases]
