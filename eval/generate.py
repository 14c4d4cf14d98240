"""Rows → the candidate's replies, greedily, each asked for once.

Only ``EvalRow.prompt`` goes into a request: the reference cannot. Replies are appended to a ledger keyed by the prompt, the
model's identity and the sampling, so a killed run continues and a changed model is asked again. The final file is in row
order and equal byte for byte however often the run was interrupted. Output is not schema-constrained.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import orjson

from eval import progress
from eval.candidates import Candidate
from eval.recipe import EvalRecipe
from eval.rows import EvalRow
from llm import Client, Endpoint, Refused
from store.errors import UserError
from store.hashing import content_id
from store.ledger import Ledger
from store.writing import atomic_write


def request_key(row: EvalRow, candidate: Candidate, recipe: EvalRecipe) -> str:
    """Content hash of one request: row, model identity, sampling, thinking."""
    return content_id([row.id, row.prompt, candidate.identity, recipe.sampling(), candidate.enable_thinking])


def ungenerated(rows: list[EvalRow], candidate: Candidate, recipe: EvalRecipe, folder: Path) -> int:
    """How many rows still need the model; 0 means that nothing has to be served."""
    if not (folder / "generations.ledger.jsonl").is_file():
        return len(rows)
    with Ledger(folder / "generations.ledger.jsonl") as ledger:
        return sum(request_key(row, candidate, recipe) not in ledger.rows for row in rows)


def generate(
    rows: list[EvalRow], candidate: Candidate, endpoint: Endpoint | None, recipe: EvalRecipe, folder: Path
) -> dict[str, int]:
    """Write ``folder/generations.jsonl`` and return counts: asked now, kept from before, cut by length, refused, …

    ``endpoint`` may be None when nothing is missing (``ungenerated``).
    A row the server refuses (a prompt longer than the context) has no prediction, a reason, and fails in scoring. Raises
    UserError when the server cannot be used; what was generated until then is kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with Ledger(folder / "generations.ledger.jsonl") as ledger:
        keys = {row.id: request_key(row, candidate, recipe) for row in rows}
        missing = [row for row in rows if keys[row.id] not in ledger.rows]
        if missing:
            if endpoint is None:
                raise ValueError("rows are missing and no server is given")
            asyncio.run(_ask(missing, keys, candidate, endpoint, recipe, ledger))
        replies = [ledger.rows[keys[row.id]] for row in rows]
    lines = [
        {
            "id": row.id,
            "prediction": reply["text"],
            "reference": row.reference,
            "input": row.prompt,
            "meta": {
                **row.meta,
                **{name: reply[name] for name in ("finish_reason", "refused", "to_context_end") if reply[name]},
            },
        }
        for row, reply in zip(rows, replies, strict=True)
    ]
    atomic_write(folder / "generations.jsonl", b"".join(orjson.dumps(line) + b"\n" for line in lines))
    counts = Counter(asked=len(missing), kept=len(rows) - len(missing))
    counts["cut_by_length"] = sum(reply["finish_reason"] == "length" for reply in replies)
    counts["refused"] = sum(bool(reply["refused"]) for reply in replies)
    counts["to_context_end"] = sum(reply["to_context_end"] for reply in replies)
    return dict(counts)


async def _ask(
    rows: list[EvalRow],
    keys: dict[str, str],
    candidate: Candidate,
    endpoint: Endpoint,
    recipe: EvalRecipe,
    ledger: Ledger,
) -> None:
    extra: dict[str, Any] = {}
    if candidate.enable_thinking is not None:
        extra["extra_body"] = {"chat_template_kwargs": {"enable_thinking": candidate.enable_thinking}}
    async with Client(endpoint, concurrency=recipe.concurrency, timeout_s=recipe.timeout_s) as client:
        await client.check()

        async def one(row: EvalRow) -> dict[str, Any]:
            result = {"text": None, "finish_reason": None, "refused": None, "to_context_end": False}
            try:
                reply = await client.chat(row.prompt, **recipe.sampling(), **extra)
            except Refused as error:
                if error.status is None:
                    raise UserError(
                        f"{endpoint.base_url}: row {row.id}: {error}; what listens there is no model server"
                    ) from None
                # prompt + max_tokens may exceed the context where the prompt alone does not
                try:
                    reply = await client.chat(row.prompt, temperature=recipe.temperature, **extra)
                    result["to_context_end"] = True
                except Refused as again:
                    return {**result, "refused": str(again)}
            # a lone surrogate cannot be written as UTF-8
            text = reply.text.encode("utf-8", "replace").decode("utf-8")
            return {**result, "text": text, "finish_reason": reply.finish_reason}

        with progress.bar(len(rows), f"generate {candidate.label}", "row") as shown:
            async for row, result in client.each(rows, one):
                ledger.append(keys[row.id], result)
                shown.set_postfix(retries=client.retries, refresh=False)
                shown.update()


def read_generations(path: Path) -> list[dict[str, Any]]:
    """The rows of a ``generations.jsonl``."""
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]
