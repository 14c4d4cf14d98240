"""Starting, waiting, failing and stopping, with the stand-in engine; above all: nothing is left running, however it ends."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

CHAIN = """
import sys, time
from pathlib import Path
from serve import running
with running(sys.argv[1], name="tiny", engine="vllm-cpu", config=Path("recipes/serve/vllm-cpu.yaml"), log_dir=Path("logs")) as server:
    print("ready", server.port, flush=True)
    {body}
"""


def chain(place: Path, model: Path, env: dict[str, str], body: str = "time.sleep(60)") -> subprocess.Popen[str]:
    """A program that serves the model while ``body`` runs, as the evaluation does."""
    return subprocess.Popen(
        [sys.executable, "-u", "-c", CHAIN.format(body=body), str(model)],
        cwd=place,
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def read_until(process: subprocess.Popen[str], text: str) -> str:
    """The process's output up to the line that holds ``text``; fails when it ends before."""
    assert process.stdout
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return "".join(lines)
    raise AssertionError(f"ended without {text!r}:\n{''.join(lines)}")


@pytest.mark.parametrize("how", ["end", "exception", "SIGINT", "SIGTERM", "SIGKILL"])
def test_chain_leaves_nothing(how, place, tiny_model, stand_in, marked) -> None:
    body = {"end": "pass", "exception": "1 / 0"}.get(how, "time.sleep(60)")
    process = chain(place, tiny_model, stand_in("ok"), body)
    read_until(process, "ready ")
    if how.startswith("SIG"):
        assert len(marked.pids()) >= 4  # the chain, the keeper, the engine, its child
        process.send_signal(getattr(signal, how))
    code = process.wait(20)
    assert marked.wait_gone(5) == []
    assert (code == 0) == (how == "end")


def test_kill_while_loading_leaves_nothing(place, tiny_model, stand_in, marked) -> None:
    process = chain(place, tiny_model, stand_in("never"))
    while len(marked.pids()) < 4:
        time.sleep(0.05)
    process.kill()
    assert marked.wait_gone(5) == []


def test_engine_deaf_to_sigterm_is_killed(place, tiny_model, stand_in, marked) -> None:
    process = chain(place, tiny_model, stand_in("deaf"), "pass")
    assert process.wait(30) == 0
    assert marked.wait_gone(1) == []


def test_killed_keeper_takes_the_engine_with_it(place, tiny_model, stand_in, marked) -> None:
    process = chain(place, tiny_model, stand_in("ok"), "time.sleep(3); server.check()")
    read_until(process, "ready ")
    found = subprocess.run(["pgrep", "-P", str(process.pid), "-f", "keeper.py"], capture_output=True, text=True)
    os.kill(int(found.stdout), signal.SIGKILL)
    assert process.wait(20) == 1
    assert "ended by itself (code -9)" in process.stdout.read()


def test_crash_while_loading_shows_cause_and_hint(place, tiny_model, stand_in, serve, marked) -> None:
    process = serve(tiny_model, "--engine", "vllm-cpu", "--port", "0", env=stand_in("crash"))
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 2
    assert "cause: RuntimeError: Error while deserializing header" in output
    assert output.count("cause: ") == 1  # neither vLLM's "see above" nor the warning that speaks of an OSError
    assert "hint: weights and config.json do not belong together" in output
    assert "serve.log" in output and "Traceback" not in output
    assert marked.wait_gone(2) == []


def test_engine_that_dies_later_is_an_error(place, tiny_model, stand_in, serve, marked) -> None:
    process = serve(tiny_model, "--engine", "vllm-cpu", "--port", "0", env=stand_in("dies"))
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 2
    assert "ended by itself (code 3)" in output
    assert marked.wait_gone(2) == []


def test_never_ready_ends_with_the_timeout(place, tiny_model, stand_in, serve, marked) -> None:
    process = serve(tiny_model, "--engine", "vllm-cpu", "--port", "0", "--ready-timeout", "2", env=stand_in("never"))
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 2
    assert "not ready after 2 s" in output and "| Loading weights" in output
    assert marked.wait_gone(2) == []


def test_slow_start_shows_progress_then_how_to_use_and_stop_it(place, tiny_model, stand_in, serve, marked) -> None:
    process = serve(tiny_model, "--engine", "vllm-cpu", "--port", "0", "--name", "doctor", env=stand_in("slow"))
    output = read_until(process, "Ctrl-C stops it")
    assert re.search(r"vllm-cpu: loading… 5 s  Loading weights", output)
    assert "engine vllm-cpu: asked for" in output
    url, key_file = re.search(r"base_url +(\S+)", output)[1], place / re.search(r"\$\(cat (\S+)\)", output)[1]
    assert key_file.stat().st_mode & 0o777 == 0o600
    request = urllib.request.Request(f"{url}/models", headers={"Authorization": f"Bearer {key_file.read_text()}"})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=5) as answer:
        assert json.load(answer)["data"][0]["id"] == "doctor"
    arguments = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    assert key_file.read_text() not in arguments
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 143
    assert marked.wait_gone(1) == []
    assert not key_file.exists()


def test_ctrl_c_stops_the_server(place, tiny_model, stand_in, serve, marked) -> None:
    process = serve(tiny_model, "--engine", "vllm-cpu", "--port", "0", env=stand_in("ok"))
    read_until(process, "Ctrl-C stops it")
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=20)
    assert "stopped" in output and "Traceback" not in output
    assert marked.wait_gone(1) == []


def test_key_from_the_environment_is_used_and_not_printed(place, tiny_model, stand_in, serve, marked) -> None:
    process = serve(
        tiny_model, "--engine", "vllm-cpu", "--port", "0", env={**stand_in("ok"), "SERVE_API_KEY": "s3cret"}
    )
    output = read_until(process, "Ctrl-C stops it")
    process.send_signal(signal.SIGINT)
    process.wait(20)
    assert "$SERVE_API_KEY" in output and "s3cret" not in output
    assert "s3cret" not in (place / "runs" / "serve" / tiny_model.name / "serve.log").read_text()


def test_port_in_use_names_port_and_holder(place, tiny_model, stand_in, serve) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        port = held.getsockname()[1]
        process = serve(tiny_model, "--engine", "vllm-cpu", "--port", port, env=stand_in("ok"))
        output, _ = process.communicate(timeout=20)
    assert process.returncode == 2
    assert output.count("\n") == 1
    assert output.startswith(f"error: port {port} is already in use")
    assert f"(pid {os.getpid()})" in output


def test_another_program_on_the_port_is_not_taken_for_ours(place, tiny_model, stand_in, marked) -> None:
    body = "import dataclasses; assert server.healthy(); other = dataclasses.replace(server, api_key='x'); assert not other.healthy()"
    process = chain(place, tiny_model, stand_in("ok"), body)
    assert process.wait(20) == 0, process.stdout.read()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["sft-qwen7b"], "train it first with: make sft-qwen7b"),
        (["runs/absent/merged"], "neither a folder nor a hub id"),
        (["sft-qwen8b"], "is no recipe, run or model folder"),
        (["--config", "absent.yaml"], "absent.yaml: cannot be read"),
        (["x/y", "--engine", "tgi"], "engine 'tgi' is not known"),
    ],
)
def test_mistakes_are_one_line(arguments, expected, place, stand_in, serve) -> None:
    (place / "runs" / "sft-qwen7b").mkdir(parents=True)
    process = serve(*arguments, "--port", "0", env=stand_in("ok"))
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 2
    errors = [line for line in output.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and expected in errors[0] and "Traceback" not in output


@pytest.fixture(autouse=True)
def _end_what_a_failed_test_left(marked):
    yield
    for pid in marked.pids():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
