"""The judge run as an inspect_ai task: one sample per note, the stored note as its output, one score per section.

Imported only when something is to be judged: importing inspect_ai takes seconds.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import defaultdict
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from inspect_ai import Task
from inspect_ai import eval as inspect_eval
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import (
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageUser,
    GenerateConfig,
    Model,
    ModelOutput,
    ResponseSchema,
    get_model,
)
from inspect_ai.scorer import Score, Target, mean, scorer
from inspect_ai.solver import Generate, TaskState, solver
from inspect_ai.util import json_schema

from eval.judge_llm import Messages, Result, Say
from eval.recipe import EvalRecipe
from eval.soap import SECTIONS
from eval.verdicts import SectionCase, Verdict
from llm import Endpoint
from store.errors import UserError

ROLES: dict[str, Any] = {"system": ChatMessageSystem, "user": ChatMessageUser, "assistant": ChatMessageAssistant}
VALUES = {"pass": 1.0, "fail": 0.0, "unscored": float("nan")}  # inspect leaves NaN out of its metrics


def grader(endpoint: Endpoint, recipe: EvalRecipe) -> Model:
    """The judge: schema-constrained; the openai client retries 429, 5xx, time-outs and dropped connections, with jitter."""
    config = GenerateConfig(
        temperature=recipe.judge_temperature,
        max_tokens=recipe.judge_max_tokens,
        max_connections=recipe.judge_concurrency,
        adaptive_connections=False,
        max_retries=0,  # inspect's own loop waits up to half an hour
        response_schema=ResponseSchema(name="verdict", json_schema=json_schema(Verdict), strict=True),
    )
    if recipe.judge_enable_thinking is not None:
        config.extra_body = {"chat_template_kwargs": {"enable_thinking": recipe.judge_enable_thinking}}
    return get_model(
        f"openai-api/judge/{endpoint.model}",
        base_url=endpoint.base_url,
        api_key=endpoint.api_key,
        config=config,
        memoize=False,
        http_client=endpoint.http_client(),
        max_retries=recipe.judge_retries,
        client_timeout=float(recipe.judge_timeout_s),
    )


def section_task(cases: list[SectionCase], settle: Callable[[Say, SectionCase], Awaitable[Result]], title: str) -> Task:
    """``settle(say, case)`` decides a section; a section without a case has failed unasked and scores 0."""
    notes: dict[str, list[SectionCase]] = defaultdict(list)
    for case in cases:
        notes[case.id].append(case)

    @solver(name="stored_generation")
    def stored_generation() -> Any:
        async def solve(state: TaskState, generate: Generate) -> TaskState:
            state.output = ModelOutput.from_content("candidate", state.metadata["note"])
            return state

        return solve

    @scorer(metrics={key: [mean()] for key in SECTIONS}, name="sections")
    def sections() -> Any:
        async def score(state: TaskState, target: Target) -> Score:
            model = get_model(role="grader")

            async def say(messages: Messages) -> str:
                return (await model.generate([ROLES[role](content=text) for role, text in messages])).completion

            asked = notes[str(state.sample_id)]
            results = await asyncio.gather(*(settle(say, case) for case in asked))
            found = {case.section: result for case, result in zip(asked, results, strict=True)}
            return Score(
                value={key: VALUES[found[key]["verdict"]] if key in found else 0.0 for key in SECTIONS},
                explanation="\n".join(f"{key}: {one['verdict']}: {one['reason']}" for key, one in found.items()),
                metadata=found,
            )

        return score

    def sample(note: str, asked: list[SectionCase]) -> Sample:
        predicted = json.dumps({case.section: case.predicted for case in asked}, ensure_ascii=False, indent=1)
        return Sample(id=note, input=asked[0].dialogue, metadata={"note": predicted})

    return Task(
        dataset=MemoryDataset([sample(note, asked) for note, asked in notes.items()], name=title),
        solver=stored_generation(),
        scorer=sections(),
        name=f"soap-{re.sub('[^A-Za-z0-9]+', '-', title)}",
    )


def run_task(
    cases: list[SectionCase],
    settle: Callable[[Say, SectionCase], Awaitable[Result]],
    endpoint: Endpoint,
    recipe: EvalRecipe,
    log_dir: Path,
    title: str,
    hashed: str,
) -> None:
    """Run the task silently; the log goes to ``log_dir``. Raises UserError when inspect_ai itself fails."""
    [log] = inspect_eval(
        section_task(cases, settle, title),
        model=None,
        model_roles={"grader": grader(endpoint, recipe)},
        display="none",
        log_level="error",
        log_dir=str(log_dir),
        log_realtime=False,  # otherwise samples are also written to a database under the user's home
        log_model_api=False,
        score_display=False,
        max_samples=recipe.judge_concurrency,
        metadata={"judge_hash": hashed, "prompt_hash": recipe.prompt_hash()},
    )
    if log.status == "cancelled":
        raise KeyboardInterrupt
    if log.status != "success":
        first = log.error.message.splitlines()[0] if log.error else "no reason given"
        raise UserError(
            f"inspect_ai stopped ({log.status}): {first[:200]}; its log is in {log_dir}; run again to continue"
        )
