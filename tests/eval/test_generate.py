"""Generation: no gold text in any request, kill and resume, what the server refuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from eval.candidates import Candidate
from eval.generate import generate, read_generations, ungenerated
from eval.recipe import EvalRecipe, read_recipe
from eval.rows import read_rows
from llm import Endpoint
from store.errors import UserError
from tests.eval.notes import gold, remembers, write_rows
from tests.scripted_openai import Fault, ScriptedServer

SFT = Candidate("sft", "scripted", "weights-1")


@pytest.fixture
def recipe(repo: Path) -> EvalRecipe:
    return read_recipe("soap", repo / "recipes" / "eval").model_copy(update={"concurrency": 4})


def ask(server: ScriptedServer, rows, recipe: EvalRecipe, folder: Path, candidate: Candidate = SFT) -> dict[str, int]:
    return generate(rows, candidate, Endpoint(server.base_url, "scripted"), recipe, folder)


def test_no_gold_text_enters_a_request(tmp_path: Path, recipe: EvalRecipe) -> None:
    rows = read_rows(write_rows(tmp_path / "test.jsonl", 12))
    with ScriptedServer(remembers) as server:
        ask(server, rows, recipe, tmp_path / "out")
        sent = json.dumps(server.requests)
    assert len(server.requests) == 12
    for number in range(12):
        for text in gold(number).values():
            assert not {word for word in text.split() if word.startswith("goldzq")} & set(
                sent.replace('"', " ").split()
            )
            assert text.split()[0] not in sent
    assert all(request["temperature"] == 0 and "response_format" not in request for request in server.requests)
    assert all(request["messages"][-1]["role"] == "user" for request in server.requests)
    # and yet the file holds both, for scoring
    assert all(
        json.loads(row["prediction"]) == json.loads(row["reference"])
        for row in read_generations(tmp_path / "out/generations.jsonl")
    )


def test_thinking_is_passed_as_the_manifest_says(tmp_path: Path, recipe: EvalRecipe) -> None:
    rows = read_rows(write_rows(tmp_path / "test.jsonl", 1))
    with ScriptedServer(remembers) as server:
        ask(server, rows, recipe, tmp_path / "none")
        ask(server, rows, recipe, tmp_path / "off", Candidate("x", "scripted", "w", enable_thinking=False))
    assert "chat_template_kwargs" not in server.requests[0]
    assert server.requests[1]["chat_template_kwargs"] == {"enable_thinking": False}


def test_the_second_run_asks_nothing_and_new_weights_ask_all(tmp_path: Path, recipe: EvalRecipe) -> None:
    rows = read_rows(write_rows(tmp_path / "test.jsonl", 5))
    with ScriptedServer(remembers) as server:
        assert ask(server, rows, recipe, tmp_path / "out")["asked"] == 5
        assert ungenerated(rows, SFT, recipe, tmp_path / "out") == 0
        assert ask(server, rows, recipe, tmp_path / "out")["kept"] == 5
        assert len(server.requests) == 5
        assert ask(server, rows, recipe, tmp_path / "out", Candidate("sft", "scripted", "weights-2"))["asked"] == 5
        hotter = recipe.model_copy(update={"temperature": 0.5})
        assert ungenerated(rows, SFT, hotter, tmp_path / "out") == 5


def test_a_server_lost_in_the_middle_costs_only_what_was_missing(tmp_path: Path, recipe: EvalRecipe) -> None:
    rows = read_rows(write_rows(tmp_path / "test.jsonl", 20))
    with ScriptedServer(remembers, faults=lambda n, r: Fault(status=401) if n >= 9 else None) as server:
        with pytest.raises(UserError, match="401"):
            ask(server, rows, recipe, tmp_path / "out")
        assert not (tmp_path / "out/generations.jsonl").exists()
    with ScriptedServer(remembers) as server:
        counts = ask(server, rows, recipe, tmp_path / "out")
        assert 5 <= counts["kept"] <= 9 and counts["asked"] == len(server.requests) == 20 - counts["kept"]
        ask(server, rows, recipe, tmp_path / "whole")
    assert (tmp_path / "out/generations.jsonl").read_bytes() == (tmp_path / "whole/generations.jsonl").read_bytes()


def test_what_does_not_fit_the_context(tmp_path: Path, recipe: EvalRecipe) -> None:
    rows = read_rows(write_rows(tmp_path / "test.jsonl", 3))

    def too_long(n, request):
        number = rows.index(next(row for row in rows if row.prompt == request["messages"]))
        if number == 2 or (number == 1 and "max_tokens" in request):
            return Fault(status=400, message="maximum context length is 2048 tokens")
        return None

    with ScriptedServer(lambda request: ("cut he", "length"), faults=too_long) as server:
        counts = ask(server, rows, recipe, tmp_path / "out")
    assert (counts["to_context_end"], counts["refused"], counts["cut_by_length"]) == (1, 1, 2)
    last = read_generations(tmp_path / "out/generations.jsonl")[2]
    assert last["prediction"] is None and "2048 tokens" in last["meta"]["refused"]


def test_what_is_no_model_server(tmp_path: Path, recipe: EvalRecipe) -> None:
    rows = read_rows(write_rows(tmp_path / "test.jsonl", 1))
    with (
        ScriptedServer(remembers, faults=lambda n, r: Fault(raw=b"<html>")) as server,
        pytest.raises(UserError, match="no model server"),
    ):
        ask(server, rows, recipe, tmp_path / "out")


def test_kill_9_and_resume(tmp_path: Path, repo: Path) -> None:
    file = write_rows(tmp_path / "test.jsonl", 24)
    with ScriptedServer(remembers, faults=lambda n, r: Fault(delay_s=0.15) if n < 24 else None) as server:
        command = [sys.executable, "-m", "eval", "run", "--base-url", server.base_url, "--served-model", "scripted"]
        command += ["--dataset", str(file), "--runs", str(tmp_path / "runs"), "--task", str(tmp_path / "slow.yaml")]
        text = (repo / "recipes/eval/soap.yaml").read_text().replace("concurrency: 32", "concurrency: 2")
        (tmp_path / "slow.yaml").write_text(text)
        started = subprocess.Popen(command, cwd=repo, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 30
        while len(server.requests) < 8 and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(started.pid, signal.SIGKILL)
        started.wait()
        [ledger] = (tmp_path / "runs").rglob("generations.ledger.jsonl")
        done = ledger.read_bytes().count(b"\n")
        assert 4 <= done < 24
        with open(ledger, "ab") as stream:
            stream.write(b'{"key": "torn')  # a kill in the middle of a write
        before = len(server.requests)
        finished = subprocess.run(command, cwd=repo, capture_output=True, text=True, timeout=60)
        assert finished.returncode == 0, finished.stderr
        assert len(server.requests) - before == 24 - done
        assert "goldzq" not in finished.stdout + finished.stderr
    [written] = (tmp_path / "runs").rglob("generations.jsonl")
    assert [row["id"] for row in read_generations(written)] == [row.id for row in read_rows(file)]
