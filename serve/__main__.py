"""python -m serve RECIPE|FOLDER|HUB-ID … | --config FILE … | lint [FILES] | flags"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType
from typing import NoReturn

from serve import engines, lint, ports, targets
from serve.server import Server, running
from store.errors import UserError, cli
from store.writing import atomic_write


def run_lint(files: list[str]) -> int:
    """Check serve files (default: all in recipes/serve); 2 when a line is refused."""
    paths = [Path(name) for name in files] or sorted(targets.RECIPES.glob("*.y*ml"))
    if not paths:
        raise UserError(f"{targets.RECIPES}: no serve files there; name the files to check")
    bad = 0
    for path in paths:
        try:
            lint.checked(path)
            print(f"ok  {path}")
        except UserError as error:
            bad += 1
            print(f"error: {error}", file=sys.stderr)
    return 2 if bad else 0


def run_flags() -> int:
    """Write serve/vllm_flags.tsv anew from the vLLM of this machine."""
    engine, _, python = engines.choose("auto")
    if engine == "llamafactory":
        raise UserError("no vLLM can run on this machine, so its flags cannot be listed")
    variables = {**os.environ, **engines.quiet()}
    script = Path(lint.__file__).with_name("list_flags.py")
    listed = subprocess.run([python, script], env=variables, stdout=subprocess.PIPE, text=True)
    if listed.returncode:
        raise UserError("vLLM's flags could not be listed; the lines above say why")
    atomic_write(lint.FLAGS_FILE, listed.stdout)
    print(f"{lint.FLAGS_FILE}: {listed.stdout.count(chr(10)) - 1} flags")
    return 0


def explain(server: Server, key_file: Path) -> None:
    """Tell the user how to talk to the server and how to stop it."""
    key = "$SERVE_API_KEY" if os.environ.get("SERVE_API_KEY") else f"$(cat {key_file})"
    names = ", ".join([server.model, *server.adapters])
    body = f'{{"model": "{(*server.adapters, server.model)[0]}", "messages": [{{"role": "user", "content": "Hello"}}]}}'
    print(
        f"\n  base_url  {server.base_url}\n  model     {names}\n  key       {key}\n  log       {server.log}\n\n"
        f"  curl {server.base_url}/chat/completions -H 'Content-Type: application/json' \\\n"
        f"    -H \"Authorization: Bearer {key}\" -d '{body}'\n\n  Ctrl-C stops it.",
        flush=True,
    )


def terminated(_number: int, _frame: FrameType | None) -> NoReturn:
    """SIGTERM leaves the way Ctrl-C does, so that the engine is stopped before this process ends."""
    raise SystemExit(143)


def run_server(argv: list[str]) -> int:
    """Serve in the foreground until Ctrl-C or SIGTERM; an engine that ends by itself is an error."""
    parser = argparse.ArgumentParser(prog="python -m serve", description=__doc__)
    parser.add_argument("target", nargs="?", help="recipe, run folder, model folder or hub id; optional with --config")
    parser.add_argument("--backend", default="llamafactory", help="the trainer whose run is served")
    parser.add_argument("--run", help="the RUN= name of the run")
    parser.add_argument("--engine", default="auto", help=f"auto, {', '.join(engines.NAMES)}")
    parser.add_argument("--config", type=Path, help="a file for `vllm serve --config`")
    parser.add_argument("--port", type=int, help="default: the serve file's, else 8000; 0: a free one")
    parser.add_argument("--name", help="the model's name for clients")
    parser.add_argument("--adapter", action="store_true", help="serve the base model and the run's LoRA adapter")
    parser.add_argument("--ready-timeout", type=float, default=900.0, metavar="SECONDS")
    options = parser.parse_args(argv)
    if options.target is None and options.config is None:
        parser.error("name a recipe, a folder or a hub id, or a serve file with --config")
    settings = lint.checked(options.config) if options.config else {}
    asked = int(settings.get("port", 8000)) if options.port is None else options.port
    port = ports.require_free(asked) if asked else ports.free_port()
    if options.target is None:
        target = targets.Target(None, None, targets.RUNS / "serve" / options.config.stem)
    else:
        target = targets.find(options.target, options.backend, options.run, options.adapter)
    engine, reason, _ = engines.choose(options.engine)
    config = options.config
    if config is None and engine != "llamafactory":
        config = targets.serve_file(options.target, engine)
    print(f"  engine {engine}: {reason}\n  serve file {config or '(none: this engine has no serve files)'}", flush=True)
    key_file = target.folder / "api_key"
    signal.signal(signal.SIGTERM, terminated)
    try:
        with running(
            target.model,
            name=options.name or target.name,
            adapters=target.adapters,
            engine=engine,
            config=config,
            log_dir=target.folder,
            port=port,
            ready_timeout_s=options.ready_timeout,
            template=target.template,
        ) as server:
            key_file.unlink(missing_ok=True)
            with open(os.open(key_file, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as file:
                file.write(server.api_key)
            explain(server, key_file)
            server.keeper.wait()
            server.check()
    except KeyboardInterrupt:
        print("\n  stopped", flush=True)
    finally:
        key_file.unlink(missing_ok=True)
    return 0


def main(argv: list[str]) -> int:
    """Dispatch on the first word."""
    if argv[:1] == ["lint"]:
        return run_lint(argv[1:])
    if argv == ["flags"]:
        return run_flags()
    return run_server(argv)


if __name__ == "__main__":
    cli(main)
