"""Converters: rows per second and memory, as ratios measured in one run.

    python -m benchmarks.convert [--rows 200000] [--repeats 3] [--memory-rows 5000000]

Two generated files (random Chinese text, sizes of the published rows): flat rows like Huatuo26M-Lite (about 790 bytes) and
conversations of two to ten turns like HuatuoGPT-sft-data-v1. For each, in processes of their own, pinned to one core, best of
`repeats` interleaved runs:

    converter   `python -m converters` as a user runs it, WORKERS=1, start-up included
    json peer   a plain json-module script with the same conversion, ids, de-duplication and splits; its rows are compared
    orjson      the floor: decode and encode every line with orjson, nothing else

Then, on all cores, WORKERS=2 against WORKERS=1; and, when asked for, the peak memory at `memory-rows` rows.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import orjson

from converters.splits import normalise

SHAPES = ("flat", "multi-turn")
SOURCE = {"flat": "huatuo26m-lite", "multi-turn": "huatuogpt-v1"}


# --- rows -------------------------------------------------------------------------------------------------------------------


def generate(path: Path, shape: str, rows: int, seed: int = 1) -> None:
    """Write `rows` JSON lines; one in fifty repeats an earlier row."""
    chance = random.Random(seed)
    marks = {
        "，": 54,
        "。": 17,
        "、": 6,
        "？": 4,
        "：": 1,
        "！": 1,
        "5": 3,
        "m": 2,
        "（": 1,
    }  # per thousand, as in published rows
    letters = [chr(0x4E00 + code) for code in range(3000)]
    weights = [(1000 - sum(marks.values())) / len(letters)] * len(letters)
    pool = "".join(chance.choices([*letters, *marks], [*weights, *marks.values()], k=1 << 20))

    def text(low: int, high: int) -> str:
        length = chance.randint(low, high)
        start = chance.randrange(len(pool) - length)
        return pool[start : start + length]

    earlier: list[bytes] = []
    with open(path, "wb", buffering=1 << 20) as target:
        for number in range(rows):
            if earlier and number % 50 == 49:
                target.write(chance.choice(earlier))
                continue
            if shape == "flat":
                row = {
                    "id": number,
                    "answer": text(100, 220),
                    "score": chance.randint(4, 5),
                    "label": "眼耳鼻喉科",
                    "question": text(30, 95) + "？",
                    "related_diseases": None if number % 3 else "鼻炎",
                }
            else:
                turns = chance.choice((2, 2, 2, 4, 6, 8, 10))
                row = {"data": [f"{'答' if turn % 2 else '问'}：{text(15, 120)}。" for turn in range(turns)]}
            line = orjson.dumps(row) + b"\n"
            if len(earlier) < 1000:
                earlier.append(line)
            target.write(line)


# --- what is measured, each in a process of its own ---------------------------------------------------------------------------


def json_peer(source: Path, out: Path, shape: str) -> None:
    """What one would write by hand with the standard library; output equal to the converter's, byte for byte."""
    out.mkdir(parents=True)
    seen: set[str] = set()
    compact = {"ensure_ascii": False, "separators": (",", ":")}
    files = {name: open(out / f"{name}.jsonl", "w", encoding="utf-8") for name in ("train", "val", "test")}  # noqa: SIM115
    with open(source, encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            row = json.loads(line)
            if shape == "flat":
                question, answer = row["question"].strip(), row["answer"].strip()
                if not question or not answer or re.fullmatch(r"(https?://|www\.)\S+", answer):
                    continue
                messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
                meta = {key: row[key] for key in ("id", "score", "label", "related_diseases") if row[key] is not None}
            else:
                messages = [
                    {"role": "assistant" if index % 2 else "user", "content": re.sub("^[问答]：", "", turn).strip()}
                    for index, turn in enumerate(row["data"])
                ]
                question, meta = messages[0]["content"], {}
            body = {"messages": messages}
            key = hashlib.sha256(json.dumps(body, **compact).encode()).hexdigest()[:16]
            if key in seen:
                continue
            seen.add(key)
            digest = hashlib.sha256(b"42\n" + normalise(question)).digest()
            share = int.from_bytes(digest[:8], "big") / 2**64
            split = "train" if share < 0.94 else "val" if share < 0.95 else "test"
            meta = {"source": SOURCE[shape], "origin": f"{source.name}:{number}", **meta}
            files[split].write(json.dumps({"id": key, **body, "meta": meta}, **compact) + "\n")
    for file in files.values():
        file.close()


def orjson_floor(source: Path, out: Path) -> None:
    """Decode and encode every line."""
    out.mkdir(parents=True)
    with open(source, "rb") as lines, open(out / "all.jsonl", "wb") as target:
        for line in lines:
            target.write(orjson.dumps(orjson.loads(line), None, orjson.OPT_APPEND_NEWLINE))


def command(what: str, source: Path, out: Path, shape: str, workers: int = 1) -> list[str]:
    """The command line of one measured process."""
    if what == "converter":
        target = ["--out", str(out), "--dataset-dir", str(out.parent / "registry"), "--workers", str(workers)]
        return [sys.executable, "-m", "converters", "huatuo", str(source), *target]
    return [sys.executable, "-m", "benchmarks.convert", "--measure", what, str(source), str(out), shape]


def measure(words: list[str], one_core: bool) -> tuple[float, float]:
    """(seconds, peak memory in MB): CPU seconds on one core, which other users of the machine disturb least, else wall seconds."""
    core = {sorted(os.sched_getaffinity(0))[0]}
    before = os.sched_getaffinity(0)
    wrapped = [sys.executable, "-m", "benchmarks.convert", "--wrap", *words]
    if one_core:
        os.sched_setaffinity(0, core)
    try:
        done = subprocess.run(wrapped, capture_output=True, text=True, check=False)
    finally:
        os.sched_setaffinity(0, before)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} failed:\n{done.stderr}")
    wall, cpu, megabytes = map(float, done.stdout.split()[-3:])
    return cpu if one_core else wall, megabytes


def wrap(words: list[str]) -> None:
    """Run a command; print its wall seconds, CPU seconds and peak memory in MB."""
    start = time.perf_counter()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    wall = time.perf_counter() - start
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


# --- the table ----------------------------------------------------------------------------------------------------------------


def main() -> None:
    """Generate, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--memory-rows", type=int, default=0)
    args = parser.parse_args()
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {args.rows:,} rows, best of {args.repeats}"
    )
    with tempfile.TemporaryDirectory(prefix="bench-convert-") as folder:
        for shape in SHAPES:
            compare(Path(folder), shape, args.rows, args.repeats)
        if args.memory_rows:
            memory(Path(folder), args.memory_rows)


def compare(folder: Path, shape: str, rows: int, repeats: int) -> None:
    """One shape: the table of ratios."""
    source = folder / f"{shape}.jsonl"
    generate(source, shape, rows)
    runs = {
        "converter": (1, True),
        "json": (1, True),
        "orjson": (1, True),
        "workers-1": (1, False),
        "workers-2": (2, False),
    }
    best: dict[str, tuple[float, float]] = {}
    for repeat in range(repeats):
        for name, (workers, one_core) in runs.items():
            what = "converter" if name.startswith("workers") else name
            seconds, megabytes = measure(
                command(what, source, folder / f"{shape}-{name}-{repeat}", shape, workers), one_core
            )
            best[name] = min(best.get(name, (seconds, megabytes)), (seconds, megabytes))
    same = all(
        (folder / f"{shape}-{name}-0" / f"{split}.jsonl").read_bytes()
        == (folder / f"{shape}-converter-0" / f"{split}.jsonl").read_bytes()
        for name in ("json", "workers-2")
        for split in ("train", "val", "test")
    )
    print(
        f"\n{shape}: {source.stat().st_size / rows:.0f} bytes a row; json peer and WORKERS=2 write the same bytes: {'yes' if same else 'NO'}"
    )
    for name, (seconds, megabytes) in best.items():
        print(
            f"  {name:<12}{rows / seconds:>12,.0f} rows/s {megabytes:>8.0f} MB  ({'one core, CPU time' if runs[name][1] else 'all cores, wall time'})"
        )
    speed = {name: rows / seconds for name, (seconds, _) in best.items()}
    print(f"  converter / json peer      {speed['converter'] / speed['json']:.2f}  (one core)")
    print(f"  converter / orjson floor   {speed['converter'] / speed['orjson']:.2f}  (one core)")
    print(f"  WORKERS=2 / WORKERS=1      {speed['workers-2'] / speed['workers-1']:.2f}  (all cores)")
    for path in folder.iterdir():
        if path.is_dir():
            subprocess.run(["rm", "-r", str(path)], check=True)


def memory(folder: Path, rows: int) -> None:
    """Peak memory of one conversion of many flat rows."""
    source = folder / "memory.jsonl"
    generate(source, "flat", rows)
    for workers in (1, 2):
        seconds, megabytes = measure(command("converter", source, folder / f"memory-{workers}", "flat", workers), False)
        print(
            f"\nmemory at {rows:,} flat rows, WORKERS={workers}: {megabytes:.0f} MB peak, {rows / seconds:,.0f} rows/s"
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--wrap"]:
        wrap(sys.argv[2:])
    elif sys.argv[1:2] == ["--measure"]:
        what, source, out, shape = sys.argv[2:6]
        if what == "json":
            json_peer(Path(source), Path(out), shape)
        else:
            orjson_floor(Path(source), Path(out))
    else:
        main()
