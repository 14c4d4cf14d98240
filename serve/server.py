"""One running engine: started under the keeper, waited for, stopped for certain."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from serve import engines, lint, log_reading, ports, weights
from store.environment import REPO
from store.errors import UserError

KEEPER = Path(__file__).with_name("keeper.py")
POLL_S = 0.25
SAY_EVERY_S = 5.0
STOP_WAIT_S = 20.0
# requests to the own machine never go through a proxy that the environment names
_local = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class EngineError(UserError):
    """The engine did not start, or ended by itself; the message holds the end of its log and a hint."""


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@dataclass
class Server:
    """A healthy engine. Send ``model`` (or an adapter's name) as the model, ``api_key`` as the key, to ``base_url``."""

    engine: str
    model: str
    port: int
    api_key: str = field(repr=False)
    log: Path
    adapters: tuple[str, ...]
    keeper: subprocess.Popen[bytes] = field(repr=False)

    @property
    def base_url(self) -> str:
        """``http://127.0.0.1:PORT/v1``"""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def structured(self) -> bool:
        """Whether the engine honours ``response_format: json_schema``; LLaMA-Factory's API ignores it."""
        return self.engine != "llamafactory"

    def alive(self) -> bool:
        """Whether the engine's process runs."""
        return self.keeper.poll() is None

    def check(self) -> None:
        """Raises EngineError when the engine has ended by itself."""
        if not self.alive():
            raise EngineError(f"{self.engine} ended by itself{self._story()}")

    def _story(self) -> str:
        """The exit code and what the log says about it."""
        code = self.keeper.poll()
        ended = "" if code is None else f" (code {code})"
        return f"{ended}\n{log_reading.why(self.log, code)}"

    def healthy(self) -> bool:
        """True once our engine, and not another program on its port, answers with our key and our model's name."""
        request = urllib.request.Request(f"{self.base_url}/models", headers={"Authorization": f"Bearer {self.api_key}"})
        try:
            with _local.open(request, timeout=5) as answer:
                return self.model in [entry["id"] for entry in json.load(answer)["data"]]
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def wait_ready(self, timeout_s: float) -> float:
        """Poll until healthy; returns the seconds waited. Raises EngineError after ``timeout_s`` or when the engine ends."""
        begun = said = time.monotonic()
        while not self.healthy():
            now = time.monotonic()
            if not self.alive():
                raise EngineError(f"{self.engine} ended while loading {self.model}{self._story()}")
            if now - begun > timeout_s:
                longer = "give it longer with --ready-timeout"
                raise EngineError(f"{self.engine} is not ready after {timeout_s:.0f} s; {longer}{self._story()}")
            if now - said >= SAY_EVERY_S:
                said = now
                say(f"  {self.engine}: loading… {now - begun:.0f} s  {log_reading.last_line(self.log)}")
            time.sleep(POLL_S)
        return time.monotonic() - begun

    def stop(self) -> None:
        """End the engine and every process it started; returns when they are gone. Stopping twice is harmless."""
        if self.keeper.stdin and not self.keeper.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                self.keeper.stdin.close()
        try:
            self.keeper.wait(STOP_WAIT_S)
        finally:
            # its session outlives the keeper only if the keeper was killed
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.keeper.pid, signal.SIGKILL)
            self.keeper.wait(5)


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """The engine's variables: this process's, less what reaches into another Python and other services' secrets."""
    hidden = ("PYTHONPATH", "PYTHONHOME", "OPENAI_API_KEY", "JUDGE_API_KEY", "SERVE_API_KEY", "VLLM_API_KEY")
    return {**{key: value for key, value in os.environ.items() if key not in hidden}, **extra}


def launch(command: list[str], variables: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Start ``command`` under the keeper, in its own session, output to ``log`` (begun anew, for this user's eyes)."""
    descriptor: IO[bytes]
    with open(os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as descriptor:
        descriptor.write(f"$ {' '.join(command)}\n".encode())
    return subprocess.Popen(
        [sys.executable, "-I", "-S", str(KEEPER), str(os.getpid()), str(log), *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment(variables),
        start_new_session=True,
    )


def served_name(settings: Mapping[str, Any], asked: str | None) -> str:
    """The model's name for clients: the one asked for, else the serve file's, else ``model``."""
    named = settings.get("served-model-name") or "model"
    return asked or (named[0] if isinstance(named, list) else str(named))


@contextlib.contextmanager
def running(
    model: str | Path | None,
    *,
    name: str | None = None,
    adapters: Mapping[str, Path] | None = None,
    engine: str = "auto",
    config: Path | None = None,
    log_dir: Path,
    port: int | None = None,
    ready_timeout_s: float = 900.0,
    template: str | None = None,
) -> Iterator[Server]:
    """Serve ``model`` while the block runs.

    model: folder or hub id; None takes the serve file's ``model``. name: what clients send as the model.
    adapters: LoRA folders by the names clients send. engine: auto, vllm, vllm-cpu, llamafactory.
    config: a file for `vllm serve --config`, else recipes/serve/<engine>.yaml. log_dir: receives serve.log.
    port: None takes a free one. template: LLaMA-Factory's template name, else the model's own chat template is read.
    The key is $SERVE_API_KEY or made up. Raises UserError for what can be seen before starting, EngineError (a
    UserError with the end of the log) when the engine fails to start or ends while the block runs.
    """
    chosen, reason, python = engines.choose(engine)
    if engine == "auto":
        say(f"  engine {chosen}: {reason}")
    if config is None and chosen != "llamafactory":
        config = REPO / "recipes" / "serve" / f"{chosen}.yaml"
    settings = lint.checked(config) if config else {}
    if model is None and "model" not in settings:
        raise UserError(f"{config}: has no `model:` line, and no model was given")
    if settings.get("host", "127.0.0.1") not in ("127.0.0.1", "localhost", "::1"):
        say(f"  WARNING {config} binds {settings['host']}: the key does not cover every path, see serve/README.md")
    log_dir.mkdir(parents=True, exist_ok=True)
    start = engines.Start(
        model=weights.find(str(settings["model"] if model is None else model)),
        name=served_name(settings, name),
        port=ports.free_port() if port is None else ports.require_free(port),
        api_key=os.environ.get("SERVE_API_KEY") or secrets.token_urlsafe(24),
        log_dir=log_dir,
        adapters={key: Path(path) for key, path in (adapters or {}).items()},
        config=config,
        template=template,
    )
    if chosen == "llamafactory":
        command, variables = engines.llamafactory_command(python, start), engines.llamafactory_environment(start)
    else:
        command, variables = engines.vllm_command(python, start, settings), engines.vllm_environment(chosen, start)
    log = log_dir / "serve.log"
    keeper = launch(command, variables, log)
    server = Server(chosen, start.name, start.port, start.api_key, log, tuple(start.adapters), keeper)
    try:
        say(f"  {chosen}: {start.name} ready on port {start.port} after {server.wait_ready(ready_timeout_s):.0f} s")
        yield server
    except EngineError:
        raise
    except Exception as error:
        if not server.alive():
            try:
                server.check()
            except EngineError as ended:
                raise ended from error
        raise
    finally:
        server.stop()
