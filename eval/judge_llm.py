"""An LLM judges sections through inspect_ai; the candidate's notes come from the file, no solver model is called.

Every verdict goes into a ledger keyed by the question and the judge, so that a killed run continues and a second run is
free. inspect's own cache is not used: it would keep an unparsable reply for good, and it is keyed by the judge's port.
What the judge failed to answer (unparsable after ``judge_asks`` replies, transport errors) is *unscored*, is not kept in
the ledger, and is asked again by the next run. ``cannot_judge`` is an answer: unscored, and kept.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from string import Template
from typing import Any

from pydantic import ValidationError
from tqdm import tqdm

from eval import progress
from eval.recipe import EvalRecipe
from eval.soap import FENCE
from eval.verdicts import SectionCase, Verdict, verdict_row
from llm import Client, Endpoint
from store.hashing import content_id
from store.ledger import Ledger

TAGS = re.compile(r"<(/?)(dialogue|reference|predicted)>", re.IGNORECASE)
GIVES_UP_AFTER = 5  # calls in a row that failed after all retries: the judge is gone, the rest is not asked

AGAIN = 'That was not the JSON object asked for. Reply with only {"reason": "…", "verdict": "pass|fail|cannot_judge"}.'

Messages = list[tuple[str, str]]  # (role, text)
Say = Callable[[Messages], Awaitable[str]]
Result = dict[str, Any]  # {"verdict", "reason", "cause"}


def judge_hash(recipe: EvalRecipe, model: str) -> str:
    """Hash of what decides a verdict besides the note: judge, prompt, schema, sampling."""
    settings = [recipe.judge_temperature, recipe.judge_max_tokens, recipe.judge_enable_thinking]
    return content_id([model, recipe.prompt_hash(), Verdict.model_json_schema(), settings])


def judge_messages(case: SectionCase, recipe: EvalRecipe) -> Messages:
    """One question. Tags inside the texts are broken, so that no text can leave its own tag."""

    def plain(text: str) -> str:
        return TAGS.sub(r"‹\1\2›", text)

    question = Template(recipe.judge_prompt).substitute(
        section=case.section,
        section_meaning=recipe.meaning(case.section),
        dialogue=plain(case.dialogue),
        reference=plain(case.reference),
        predicted=plain(case.predicted),
    )
    return [("system", recipe.judge_system), ("user", question)]


def parse_verdict(reply: str) -> Verdict | None:
    """A judge's reply → its verdict, None when it is not the JSON object asked for (one Markdown fence is forgiven)."""
    found = FENCE.match(reply.strip())
    try:
        return Verdict.model_validate(json.loads(found.group(1) if found else reply, strict=False))
    except (ValueError, ValidationError, RecursionError):
        return None


class Asker:
    """Asks for one section at a time, knows what is known, and stops knocking when the judge is gone."""

    def __init__(self, recipe: EvalRecipe, ledger: Ledger, hashed: str, shown: tqdm) -> None:
        self.recipe, self.ledger, self.hashed, self.shown = recipe, ledger, hashed, shown
        self.found: dict[str, Result] = {}  # what this run was answered, unscored included
        self._failures_in_a_row = 0

    async def settle(self, say: Say, case: SectionCase) -> Result:
        """The verdict on a section: from the ledger, else by asking; answers go into the ledger at once."""
        key = case.key(self.hashed)
        if key in self.ledger.rows:
            return self.ledger.rows[key]
        self.found[key] = result = await self._ask(say, case)
        if result["cause"] in ("judge", "cannot_judge"):
            self.ledger.append(key, result)
        self.shown.update()
        return result

    async def _ask(self, say: Say, case: SectionCase) -> Result:
        messages = judge_messages(case, self.recipe)
        for _ in range(self.recipe.judge_asks):
            if self._failures_in_a_row >= GIVES_UP_AFTER:
                return _unscored("the judge was gone", "transport")
            try:
                reply = await say(messages)
            except (
                Exception
            ) as error:  # whatever inspect or the client raises: this section is unscored, the run goes on
                self._failures_in_a_row += 1
                return _unscored(f"the judge gave no answer: {type(error).__name__}", "transport")
            self._failures_in_a_row = 0
            if verdict := parse_verdict(reply):
                if verdict.verdict == "cannot_judge":
                    return _unscored(verdict.reason, "cannot_judge")
                return {"verdict": verdict.verdict, "reason": verdict.reason, "cause": "judge"}
            messages = [*messages, ("assistant", reply[:2000] or "(empty)"), ("user", AGAIN)]
        return _unscored(f"no parsable verdict in {self.recipe.judge_asks} replies", "unparsable")


def _unscored(reason: str, cause: str) -> Result:
    return {"verdict": "unscored", "reason": reason, "cause": cause}


def judge(
    cases: list[SectionCase], endpoint: Endpoint | None, recipe: EvalRecipe, folder: Path, title: str, hashed: str
) -> list[dict[str, Any]]:
    """Verdict rows of ``cases`` (those without a problem), in order. ``hashed`` is the ``judge_hash``.

    ``endpoint`` may be None when nothing is to be asked (``unjudged``). Logs of inspect_ai go to ``folder/inspect``; they
    hold the dialogues, as the rows do. Raises UserError when the judge cannot be reached at all.
    """
    folder.mkdir(parents=True, exist_ok=True)
    keys = [case.key(hashed) for case in cases]
    with Ledger(folder / "verdicts.ledger.jsonl") as ledger:
        missing = sum(key not in ledger.rows for key in keys)
        found: dict[str, Result] = {}
        if missing:
            if endpoint is None:
                raise ValueError("verdicts are missing and no judge is given")
            asyncio.run(_reachable(endpoint))
            log_dir = folder / "inspect"
            log_dir.mkdir(exist_ok=True)
            # before the first import: inspect's trace file would otherwise be written under the user's home
            os.environ["INSPECT_TRACE_FILE"] = str(log_dir.resolve() / "trace.log")
            from eval.judge_task import run_task

            with progress.bar(missing, f"judge {title}", "section") as shown:
                asker = Asker(recipe, ledger, hashed, shown)
                run_task(cases, asker.settle, endpoint, recipe, log_dir, title, hashed)
                found = asker.found
        rows = []
        for key, case in zip(keys, cases, strict=True):
            result = ledger.rows.get(key) or found.get(key) or _unscored("not asked: the judge failed", "transport")
            rows.append(verdict_row(case, result["verdict"], result["reason"], result["cause"]))
    return rows


def unjudged(cases: list[SectionCase], folder: Path, hashed: str) -> int:
    """How many of ``cases`` still need the judge."""
    if not (folder / "verdicts.ledger.jsonl").is_file():
        return len(cases)
    with Ledger(folder / "verdicts.ledger.jsonl") as ledger:
        return sum(case.key(hashed) not in ledger.rows for case in cases)


async def _reachable(endpoint: Endpoint) -> None:
    async with Client(endpoint, attempts=3, timeout_s=30) as client:
        await client.check()
