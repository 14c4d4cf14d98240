"""Nothing half-written, nothing lost: whatever moment a kill comes at."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import orjson
import pytest

from store.errors import UserError
from store.hashing import canonical, content_id, file_sha256
from store.ledger import Ledger
from store.models import local, resolve
from store.registry import dataset_file, entries, register
from store.writing import atomic_folder, atomic_json, atomic_write


def test_ids_depend_on_content_not_on_key_order() -> None:
    assert content_id({"a": 1, "b": "头痛"}) == content_id({"b": "头痛", "a": 1})
    assert content_id({"a": 1}) != content_id({"a": 2})
    assert canonical({"b": 1, "a": "é"}) == '{"a":"é","b":1}'.encode()
    assert len(content_id({})) == 16


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    atomic_json(file, {"old": True})
    before = file_sha256(file)
    with pytest.raises(TypeError):
        atomic_json(file, {"new": object()})
    with pytest.raises(TypeError):
        atomic_write(file, 5)  # type: ignore[arg-type]
    assert file_sha256(file) == before and [path.name for path in tmp_path.iterdir()] == ["x.json"]


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with atomic_folder(target) as aside:
        (aside / "a").write_text("1")
        assert not target.exists()
    with pytest.raises(RuntimeError), atomic_folder(target) as aside:
        (aside / "b").write_text("2")
        raise RuntimeError
    assert [path.name for path in target.iterdir()] == ["a"] and [path.name for path in tmp_path.iterdir()] == ["out"]
    with atomic_folder(target) as aside:
        (aside / "c").write_text("3")
    assert [path.name for path in target.iterdir()] == ["c"] and [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_killed_writer_leaves_the_old_folder_and_blocks_nobody(tmp_path: Path, repo: Path) -> None:
    target = tmp_path / "out"
    with atomic_folder(target) as aside:
        (aside / "a").write_text("old")
    code = (
        "import sys, time; sys.path.insert(0, sys.argv[2])\n"
        "from store.writing import atomic_folder\n"
        "with atomic_folder(sys.argv[1]) as aside:\n"
        "    (aside / 'half').write_text('x'); print('ready', flush=True); time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(target), str(repo)], stdout=subprocess.PIPE)
    assert process.stdout and process.stdout.readline() == b"ready\n"
    with pytest.raises(UserError, match="another process is writing it"), atomic_folder(target):
        pass
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert (target / "a").read_text() == "old"
    with atomic_folder(target) as aside:
        (aside / "b").write_text("new")
    assert [path.name for path in target.iterdir()] == ["b"] and [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_killed_between_its_two_renames_is_restored(tmp_path: Path) -> None:
    (tmp_path / ".out.old").mkdir()
    (tmp_path / ".out.old" / "a").write_text("old")
    with pytest.raises(RuntimeError), atomic_folder(tmp_path / "out"):
        raise RuntimeError
    assert (tmp_path / "out" / "a").read_text() == "old"


def test_a_ledger_cut_at_any_byte_keeps_every_whole_line(tmp_path: Path) -> None:
    file = tmp_path / "ledger.jsonl"
    with Ledger(file) as ledger:
        for number in range(4):
            ledger.append(f"k{number}", {"n": number, "text": "头痛"})
    whole = file.read_bytes()
    ends = [at + 1 for at, byte in enumerate(whole) if byte == ord("\n")]
    for cut in range(len(whole) + 1):
        file.write_bytes(whole[:cut])
        with Ledger(file) as ledger:
            assert len(ledger.rows) == sum(end <= cut for end in ends)
            ledger.append("again", {"n": 9})
        lines = file.read_bytes().splitlines()
        assert all(orjson.loads(line) for line in lines)


def test_a_foreign_file_is_not_taken_for_a_ledger(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("hello\n")
    with pytest.raises(UserError, match="x:1: not a ledger line"):
        Ledger(tmp_path / "x")


def test_registering_keeps_what_is_there_and_is_read_by_name(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("")
    register(tmp_path, "b", tmp_path / "rows.jsonl")
    register(tmp_path, "a", tmp_path / "rows.jsonl", "preference")
    assert list(entries(tmp_path)) == ["a", "b"] and entries(tmp_path)["a"]["ranking"] is True
    assert entries(tmp_path)["b"]["formatting"] == "sharegpt"
    assert dataset_file(tmp_path, "b") == tmp_path / "rows.jsonl"
    with pytest.raises(UserError, match="nearest is 'b'"):
        dataset_file(tmp_path, "bb")


def test_many_registering_at_once_lose_nothing(tmp_path: Path, repo: Path) -> None:
    code = "import sys; sys.path.insert(0, sys.argv[3])\nfrom store.registry import register\nregister(sys.argv[1], sys.argv[2], sys.argv[1] + '/f')"
    started = time.monotonic()
    running = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), f"n{at}", str(repo)]) for at in range(8)]
    assert all(process.wait(60) == 0 for process in running), time.monotonic() - started
    assert len(entries(tmp_path)) == 8


def test_a_hub_id_is_looked_for_under_models_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELS_DIR", str(tmp_path))
    assert resolve("Qwen/Qwen2.5-7B-Instruct") == "Qwen/Qwen2.5-7B-Instruct"
    (tmp_path / "Qwen2.5-7B-Instruct").mkdir()
    (tmp_path / "Qwen2.5-7B-Instruct" / "config.json").write_text("{}")
    assert resolve("Qwen/Qwen2.5-7B-Instruct") == str(tmp_path / "Qwen2.5-7B-Instruct")
    with pytest.raises(UserError, match="no config.json"):
        local("runs/none/llamafactory/merged")
