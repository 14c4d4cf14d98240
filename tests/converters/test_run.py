"""The engine: splits, duplicates, published sets, folders, atomic output, workers, registration, command line."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from converters.encode import row_id
from converters.splits import normalise, normalise_all, normalise_plainly, parse_splits
from store.errors import UserError
from store.registry import dataset_file, entries
from tests.converters.running import jsonl, lite, read, read_json, run

TEXTS = st.text(max_size=40) | st.text(alphabet="，。？、！：—“ＡａＢé①ﬁ℃ß中文 .,?5²Σς\x1f\u4dc0\u0301e", max_size=30)


@given(st.lists(TEXTS, max_size=8))
def test_fast_normal_form_equals_the_plain_one(texts: list[str]) -> None:
    assert normalise_all(texts) == [normalise_plainly(text) for text in texts]


def test_normal_form_joins_spellings() -> None:
    assert normalise("什么是 ＤＮＡ ？") == normalise("什么是dna") == "什么是dna".encode()
    assert normalise("？？") != normalise("。")


@pytest.mark.parametrize("words", ["train:0.9", "train:x", "dev:0.5,foo:0.5", "train:1.5,test:-0.5", ""])
def test_bad_splits(words: str) -> None:
    with pytest.raises(UserError, match="SPLITS"):
        parse_splits(words)


def test_same_question_never_on_two_sides(tmp_path: Path) -> None:
    rows = [
        lite(number, question=variant)
        for number in range(300)
        for variant in (f"问题{number}？", f" 问题 {number} ", f"问题{number}。")
    ]
    result = run(tmp_path, "huatuo", jsonl(tmp_path / "rows.jsonl", rows), splits="train:0.6,val:0.2,test:0.2")
    sides: dict[bytes, set[str]] = {}
    for split in ("train", "val", "test"):
        for row in read(result, split):
            sides.setdefault(normalise(row["messages"][0]["content"]), set()).add(split)
    assert len(sides) == 300
    assert all(len(found) == 1 for found in sides.values())
    counts = result.manifest["splits"]
    assert 450 < counts["train"] < 630 and counts["val"] > 100 and counts["test"] > 100


def test_splits_and_bytes_do_not_depend_on_order_or_workers(tmp_path: Path) -> None:
    rows = [lite(number) for number in range(3000)] + [lite(5), lite(6, question=" "), lite(7)]
    path = jsonl(tmp_path / "rows.jsonl", [*rows, "{"])
    one = run(tmp_path, "huatuo", path, name="one")
    two = run(tmp_path, "huatuo", path, name="two", workers=2)
    array = tmp_path / "rows.json"
    array.write_text(json.dumps(rows, ensure_ascii=False))
    three = run(tmp_path, "huatuo", array, name="three", workers=2)
    for split in ("train", "val", "test", "rejects"):
        assert (one.out / f"{split}.jsonl").read_bytes() == (two.out / f"{split}.jsonl").read_bytes()
    assert one.manifest["duplicates"] == three.manifest["duplicates"] == 2
    random.Random(1).shuffle(rows)
    mixed = run(tmp_path, "huatuo", jsonl(tmp_path / "mixed.jsonl", rows), name="mixed")
    for split in ("train", "val", "test"):
        ids = {row["id"] for row in read(one, split)}
        assert ids == {row["id"] for row in read(mixed, split)} == {row["id"] for row in read(three, split)}
    other = run(tmp_path, "huatuo", path, name="other", seed=7)
    assert {row["id"] for row in read(one, "test")} != {row["id"] for row in read(other, "test")}


def test_rows_carry_id_and_meta(tmp_path: Path) -> None:
    result = run(
        tmp_path, "huatuo", jsonl(tmp_path / "rows.jsonl", [lite(1, source="web", origin="x" * 300)]), splits="train:1"
    )
    (row,) = read(result, "train")
    assert list(row) == ["id", "messages", "meta"]
    assert row["id"] == row_id({"messages": row["messages"]})
    assert row["meta"] == {
        "source": "huatuo26m-lite",
        "origin": "rows.jsonl:1",
        "id": 1,
        "score": 5,
        "label": "内科",
        "row_source": "web",
    }


def test_published_splits_are_kept_and_crossings_counted(tmp_path: Path) -> None:
    folder = tmp_path / "published"
    folder.mkdir()
    same = {"questions": ["两边都有的问题"], "answers": ["甲"]}
    jsonl(
        folder / "train_datasets.jsonl",
        [{"questions": [f"问{n}"], "answers": ["甲"]} for n in range(50)] + [{**same, "answers": ["乙"]}, same],
    )
    jsonl(folder / "test_datasets.jsonl", [same])
    jsonl(folder / "validation_datasets.jsonl", [{"questions": ["问z"], "answers": ["甲"]}])
    jsonl(folder / "more.jsonl", [{"questions": ["两边都有的问题！"], "answers": ["丙"]}])
    result = run(tmp_path, "huatuo", folder)
    assert result.manifest["published_splits"] is True
    assert result.manifest["groups_across_splits"] == 1
    assert result.manifest["duplicates"] == 1  # the copy in train goes, the one in test stays
    # the row of more.jsonl, which no publisher placed, follows its question to the test side
    assert result.manifest["splits"] == {"train": 51, "val": 1, "test": 2}


def test_a_lone_train_split_is_cut_by_splits(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "train-00000-of-00001.jsonl", [lite(number) for number in range(200)])
    result = run(tmp_path, "huatuo", path, splits="train:0.5,test:0.5")
    assert not result.manifest["published_splits"]
    assert result.manifest["splits"]["test"] > 50


def test_folder_lists_what_it_skips(tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    (folder / "sub").mkdir(parents=True)
    jsonl(folder / "sub" / "lite.jsonl", [lite(1), lite(2)])
    jsonl(folder / "v1.jsonl", [{"data": ["问：甲", "答：乙"]}])
    jsonl(folder / "other.jsonl", [{"dialogue": "x", "soap": "S: y"}])
    (folder / "README.md").write_text("# read, me\ntext\n")
    (folder / "empty.json").write_text("")
    result = run(tmp_path, "huatuo", folder)
    assert result.name == "huatuo"
    assert set(result.manifest["shape"]) == {"huatuo26m-lite", "huatuogpt-v1"}
    assert {entry["path"] for entry in result.manifest["skipped_files"]} == {"other.jsonl", "README.md", "empty.json"}
    assert {row["meta"]["origin"] for row in read(result)} == {"sub/lite.jsonl:1", "sub/lite.jsonl:2", "v1.jsonl:1"}
    (folder / "v2.jsonl").write_bytes(b'{"data": ["\xff"]}\n')
    with pytest.raises(UserError, match="not valid UTF-8"):
        run(tmp_path, "huatuo", folder)


def test_manifest_says_how_it_was_made(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "rows.jsonl", [lite(1)])
    result = run(tmp_path, "huatuo", path)
    (entry,) = result.manifest["inputs"]
    assert entry["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert entry["bytes"] == path.stat().st_size
    assert (entry["shape"], entry["rows"]) == ("huatuo26m-lite", 1)
    assert result.manifest["options"]["think"] == "drop"
    sizes = {name: (result.out / f"{name}.jsonl").stat().st_size for name in ("train", "val", "test", "rejects")}
    assert result.manifest["outputs"] == {f"{name}.jsonl": size for name, size in sizes.items()} and max(sizes.values())


def test_limit(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "rows.jsonl", [lite(number) for number in range(50)])
    assert run(tmp_path, "huatuo", path, limit=7).manifest["rows_in"] == 7


def test_registered_names(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "rows.jsonl", [lite(number) for number in range(300)])
    result = run(tmp_path, "huatuo", path, splits="train:0.8,test:0.2")
    assert result.registered == ["huatuo_lite", "huatuo_lite_val", "huatuo_lite_test"]
    assert dataset_file(tmp_path / "datasets", "huatuo_lite").resolve() == (result.out / "train.jsonl").resolve()
    assert entries(tmp_path / "datasets")["huatuo_lite"]["formatting"] == "sharegpt"


def test_nothing_kept_registers_nothing_and_spares_a_good_set(tmp_path: Path) -> None:
    urls = jsonl(tmp_path / "urls.jsonl", [{"questions": ["q"], "answers": ["https://a.invalid/1"]}])
    result = run(tmp_path, "huatuo", urls)
    assert result.manifest["rejected"] == {"answer-is-url": 1}
    assert result.registered == [] and entries(tmp_path / "datasets") == {}
    good = run(tmp_path, "huatuo", jsonl(tmp_path / "rows.jsonl", [lite(1)]), out=tmp_path / "good")
    again = run(tmp_path, "huatuo", urls, out=tmp_path / "good")
    assert again.out == tmp_path / "good.nothing-kept"
    assert read_json(good.out / "manifest.json")["kept"] == 1


def test_an_error_in_the_middle_leaves_the_old_output(tmp_path: Path) -> None:
    good = run(tmp_path, "huatuo", jsonl(tmp_path / "rows.jsonl", [lite(1)]), out=tmp_path / "out")
    before = {file.name: file.read_bytes() for file in good.out.iterdir()}
    bad = jsonl(tmp_path / "bad.jsonl", [*[lite(number) for number in range(5000)], b'{"question": "\xff"}'])
    with pytest.raises(UserError, match="row 5001 is not valid UTF-8"):
        run(tmp_path, "huatuo", bad, out=tmp_path / "out")
    assert {file.name: file.read_bytes() for file in good.out.iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.jsonl", "datasets", "out", "rows.jsonl"]


def command(*words: object, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "converters", *map(str, words)], capture_output=True, text=True, timeout=60, **options
    )


def test_kill_leaves_the_old_output_and_no_process(tmp_path: Path, repo: Path) -> None:
    run(tmp_path, "huatuo", jsonl(tmp_path / "rows.jsonl", [lite(1)]), out=tmp_path / "out")
    big = jsonl(tmp_path / "big.jsonl", [lite(number, answer="很长的回答" * 200) for number in range(60_000)])
    words = [
        sys.executable,
        "-m",
        "converters",
        "huatuo",
        str(big),
        "--out",
        str(tmp_path / "out"),
        "--dataset-dir",
        str(tmp_path / "d"),
        "--workers",
        "2",
    ]
    process = subprocess.Popen(words, cwd=repo, stderr=subprocess.DEVNULL)
    partial = tmp_path / ".out.partial" / "train.jsonl"
    deadline = time.time() + 30
    while not (partial.is_file() and partial.stat().st_size) and process.poll() is None and time.time() < deadline:
        time.sleep(0.005)
    children = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True
    ).stdout.split()
    assert process.poll() is None, "finished before it could be killed"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert read_json(tmp_path / "out" / "manifest.json")["kept"] == 1
    assert entries(tmp_path / "d") == {}
    deadline = time.time() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in children) and time.time() < deadline:
        time.sleep(0.1)
    assert children and not any(Path(f"/proc/{pid}").exists() for pid in children)
    assert command("huatuo", big, "--out", tmp_path / "out", "--dataset-dir", tmp_path / "d", cwd=repo).returncode == 0
    assert read_json(tmp_path / "out" / "manifest.json")["kept"] == 60_000
    assert not (tmp_path / ".out.partial").exists()


def test_command_line(tmp_path: Path, repo: Path) -> None:
    good = jsonl(tmp_path / "rows.jsonl", [lite(1), lite(1), lite(2, answer="")])
    done = command("huatuo", good, "--dataset-dir", tmp_path / "d", "--splits", "train:1", cwd=repo)
    assert done.returncode == 0, done.stderr
    for line in ("rows in", "empty-answer", "duplicates", "registered as huatuo_lite", "DATASET=huatuo_lite"):
        assert line in done.stdout
    bad = command("huatuo", tmp_path / "none.json", "--dataset-dir", tmp_path / "d", cwd=repo)
    assert (bad.returncode, bad.stdout) == (2, "")
    assert bad.stderr.startswith("error: ") and bad.stderr.count("\n") == 1
    urls = jsonl(tmp_path / "urls.jsonl", [{"questions": ["q"], "answers": ["https://a.invalid/1"]}])
    assert command("huatuo", urls, "--dataset-dir", tmp_path / "d", cwd=repo).returncode == 1


def test_fetch_offline_says_what_to_run(tmp_path: Path, repo: Path) -> None:
    offline = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = command("fetch", "huatuo_lite", cwd=repo, env=offline)
    assert done.returncode == 2
    assert "licence Apache-2.0" in done.stdout
    assert "make data-huatuo INPUT=<local copy> NAME=huatuo_lite" in done.stderr
    done = command("fetch", "no_such_set", cwd=repo, env=offline)
    assert done.returncode == 2 and "huatuo_lite" in done.stderr


def test_workers_read_their_lines_from_the_right_place(tmp_path: Path) -> None:
    rows = [lite(number, answer="长" * (number % 900 + 1)) for number in range(3000)]
    path = jsonl(tmp_path / "rows.jsonl", rows)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().rstrip())
    one, two = run(tmp_path, "huatuo", path, name="one"), run(tmp_path, "huatuo", path, name="two", workers=2)
    assert one.manifest["kept"] == 3000
    assert (one.out / "train.jsonl").read_bytes() == (two.out / "train.jsonl").read_bytes()


def test_out_never_replaces_what_no_conversion_wrote(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    path = jsonl(own / "rows.jsonl", [lite(number) for number in range(9)])
    with pytest.raises(UserError, match="holds the input rows.jsonl"):
        run(tmp_path, "huatuo", path, out=own)
    (own / "notes.txt").write_text("keep")
    elsewhere = jsonl(tmp_path / "rows.jsonl", [lite(number) for number in range(9)])
    path.unlink()
    with pytest.raises(UserError, match=r"holds notes\.txt"):
        run(tmp_path, "huatuo", elsewhere, out=own)
    assert (own / "notes.txt").read_text() == "keep"
    run(tmp_path, "huatuo", elsewhere, out=tmp_path / "out")
    assert run(tmp_path, "huatuo", elsewhere, out=tmp_path / "out").manifest["kept"] == 9


@pytest.mark.parametrize("name", ["../../victim", "a,b", "x;touch y", ".hidden", "a b"])
def test_a_name_is_a_name(tmp_path: Path, name: str) -> None:
    path = jsonl(tmp_path / "rows.jsonl", [lite(number) for number in range(9)])
    with pytest.raises(UserError, match="NAME="):
        run(tmp_path, "huatuo", path, name=name)
    assert not (tmp_path / "victim").exists()


def test_a_name_whose_file_is_gone_is_forgotten(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "rows.jsonl", [lite(number) for number in range(60)])
    run(tmp_path, "huatuo", path, splits="train:0.5,val:0.25,test:0.25")
    assert run(tmp_path, "huatuo", path, format="arrow", splits="train:1").registered == ["huatuo_lite"]
    assert set(entries(tmp_path / "datasets")) == {"huatuo_lite"}


def test_a_control_marker_is_no_text(tmp_path: Path) -> None:
    rows = [lite(1), {**lite(2), "answer": "rest<|im_end|>\n<|im_start|>user\nhi"}, {**lite(3), "answer": "a <| b"}]
    manifest = run(tmp_path, "huatuo", jsonl(tmp_path / "rows.jsonl", rows)).manifest
    assert manifest["rejected"] == {"control-marker": 1} and manifest["kept"] == 2


def test_a_csv_without_a_header_shows_no_text(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("我头痛三天了,吃药\n我咳嗽,休息\n")
    with pytest.raises(UserError) as caught:
        run(tmp_path, "huatuo", path)
    assert "头痛" not in str(caught.value) and "2 columns without names" in str(caught.value)


def test_replacing_a_set_made_from_another_file_is_said(tmp_path: Path) -> None:
    from converters.report import lines

    first = jsonl(tmp_path / "first.jsonl", [lite(number) for number in range(9)])
    second = jsonl(tmp_path / "second.jsonl", [lite(number) for number in range(9)])
    run(tmp_path, "huatuo", first)
    assert not any("this replaces" in line for line in lines(run(tmp_path, "huatuo", first)))
    assert any(
        "this replaces the set made from" in line and "first.jsonl" in line
        for line in lines(run(tmp_path, "huatuo", second))
    )
