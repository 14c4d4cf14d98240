"""Every container a row can come in, told by content; every kind of bad file in one line."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from converters import batches, json_rows
from converters.compression import Stream
from converters.json_rows import array_batches
from store.errors import UserError
from tests.converters.running import LITE, jsonl, lite, read, rejects, run

ROWS = [lite(number) for number in range(40)]


def wanted(rows: list[dict[str, Any]]) -> set[tuple[str, str]]:
    return {(row["question"], row["answer"]) for row in rows}


def got(result) -> set[tuple[str, str]]:
    return {(row["messages"][0]["content"], row["messages"][1]["content"]) for row in read(result)}


def as_csv(rows: list[dict[str, Any]], encoding: str) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode(encoding)


def lines(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


CONTAINERS = {
    "array.json": json.dumps(ROWS, ensure_ascii=False).encode(),
    "array.jsonl": json.dumps(ROWS, indent=1).encode(),
    "bom.json": b"\xef\xbb\xbf" + json.dumps(ROWS).encode(),
    "lines.json": lines(ROWS),
    "windows.jsonl": lines(ROWS).replace(b"\n", b"\r\n"),
    "no-last-newline.jsonl": lines(ROWS).rstrip(),
    "lines.txt.gz": gzip.compress(lines(ROWS)),
    "array.json.zst": zstandard.compress(json.dumps(ROWS).encode()),
    "two-frames.zst": zstandard.compress(lines(ROWS[:20])) + zstandard.compress(lines(ROWS[20:])),
    "utf8.csv": as_csv(ROWS, "utf-8"),
    "bom.csv": as_csv(ROWS, "utf-8-sig"),
    "chinese.csv": as_csv(ROWS, "gb18030"),
    "chinese.csv.gz": gzip.compress(as_csv(ROWS, "gb18030")),
    "tabs.csv": as_csv(ROWS, "utf-8").replace(b",", b"\t"),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_container(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(CONTAINERS[name])
    result = run(tmp_path, "huatuo", path)
    assert got(result) == wanted(ROWS)
    assert result.manifest["rows_in"] == 40
    assert sorted(row["meta"]["origin"] for row in read(result)) == sorted(
        f"{name}:{number}" for number in range(1, 41)
    )


def test_parquet_and_arrow_folders(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet
    from datasets import Dataset, DatasetDict

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "rows.bin", row_group_size=7)
    assert got(run(tmp_path, "huatuo", tmp_path / "rows.bin")) == wanted(ROWS)
    Dataset.from_list(ROWS).save_to_disk(tmp_path / "saved", num_shards=3)
    result = run(tmp_path, "huatuo", tmp_path / "saved")
    assert got(result) == wanted(ROWS)
    assert result.manifest["inputs"][0]["format"] == "arrow folder"
    both = DatasetDict(train=Dataset.from_list(ROWS[:30]), test=Dataset.from_list(ROWS[30:]))
    both.save_to_disk(tmp_path / "dict")
    result = run(tmp_path, "huatuo", tmp_path / "dict")
    assert result.manifest["splits"] == {"train": 30, "val": 0, "test": 10}
    assert result.manifest["published_splits"]


BAD = {
    "empty.json": (b"", "empty"),
    "spaces.jsonl": (b"\n \n", "empty"),
    "no-rows.json": (b"[]", "no rows"),
    "header.csv": (b"question,answer,label,score\n", "no rows"),
    "truncated.json": (json.dumps(ROWS).encode()[:-40], "row 40 of the JSON array is broken or cut off"),
    "between.json": (json.dumps(ROWS).encode()[:-1], "after row 40 without a closing bracket"),
    "comma.json": (
        json.dumps(ROWS).encode().replace(b'"score": 5, "label"', b'"score": 5 "label"', 1),
        "row 1 of the JSON array",
    ),
    "after.json": (json.dumps(ROWS).encode() + b"{}", "after the array's closing bracket"),
    "latin.jsonl": (lines(ROWS[:3]) + b'{"question": "caf\xe9"}\n', "row 4 is not valid UTF-8 (byte 0xe9)"),
    "latin.json": (
        json.dumps(ROWS[:3])[:-1].encode() + b', {"question": "caf\xe9"}]',
        "row 4 is not valid UTF-8 (byte 0xe9)",
    ),
    "latin.csv": (
        as_csv(ROWS, "utf-8") + "caf\xe9 cr\xe8me br\xfbl\xe9e,\n".encode("latin-1"),
        "line 42 is neither UTF-8 nor GB18030",
    ),
    "utf16.json": (json.dumps(ROWS).encode("utf-16"), "UTF-16"),
    "open-quote.csv": (as_csv(ROWS, "utf-8") + b'1,"never closed', "row 41: a quoted field is never closed"),
    "columns.csv": (b"id,question,answr\n1,q,a\n", "row 1 has columns id, question, answr"),
    "lines.jsonl": (b'{"a": 1}\n', "row 1 has columns a; source huatuo expects"),
    "numbers.json": (b"[1, 2, 3]", "row 1 has a int"),
    "broken.jsonl": (b"{oops\n{oops\n", "none of the first 2 rows parses"),
    "torn.gz": (gzip.compress(lines(ROWS))[:-20], "damaged or cut off"),
    "torn.zst": (zstandard.compress(lines(ROWS))[:-20], "damaged or cut off"),
    "torn.parquet": (b"PAR1" + b"x" * 100, "not a whole Parquet file"),
    "picture.png": (b"\x89PNG\r\n\x1a\n\x00\x00", "not a data file"),
    "twice.csv": (b"question,answer,answer\nq,a,b\n", "names column 'answer' twice"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_file_is_one_clear_line_and_leaves_nothing(tmp_path: Path, name: str) -> None:
    data, message = BAD[name]
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(UserError) as caught:
        run(tmp_path, "huatuo", path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(name)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "datasets").rglob("*.jsonl"))


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file or folder"):
        run(tmp_path, "huatuo", tmp_path / "nowhere.json")
    with pytest.raises(UserError, match="no such file or folder"):
        run(tmp_path, "huatuo", "data/nowhere.jsonl")


def test_bad_rows_are_rejected_counted_and_kept(tmp_path: Path) -> None:
    path = jsonl(
        tmp_path / "rows.jsonl",
        [
            lite(1),
            "{broken",
            "",
            lite(2, answer=""),
            "[1]",
            '{"question": "q", "answer": "\\ud800", "label": "", "score": 1}',
            b"\x00",
            lite(3),
        ],
    )
    result = run(tmp_path, "huatuo", path)
    assert result.manifest["rows_in"] == 7  # the blank line is no row
    assert result.manifest["rejected"] == {"empty-answer": 1, "lone-surrogate": 1, "not-an-object": 1, "not-json": 2}
    assert [(row["origin"], row["reason"]) for row in rejects(result)] == [
        ("rows.jsonl:2", "not-json"),
        ("rows.jsonl:4", "empty-answer"),
        ("rows.jsonl:5", "not-an-object"),
        ("rows.jsonl:6", "lone-surrogate"),
        ("rows.jsonl:7", "not-json"),
    ]
    assert rejects(result)[1]["row"] == lite(2, answer="")
    assert rejects(result)[0]["row"].strip() == "{broken"


def test_nan_and_wide_csv_rows(tmp_path: Path) -> None:
    path = jsonl(
        tmp_path / "nan.jsonl", [json.dumps(lite(1, score=float("nan"))), json.dumps(lite(2, answer=float("inf")))]
    )
    result = run(tmp_path, "huatuo", path)
    assert result.manifest["rejected"] == {"not-this-shape": 1}
    assert "score" not in read(result)[0]["meta"]
    (tmp_path / "wide.csv").write_bytes(as_csv(ROWS, "utf-8") + b"1,2,3\n" + b"1,2,3,4,5,6,7,8\n\n")
    result = run(tmp_path, "huatuo", tmp_path / "wide.csv")
    assert result.manifest["rejected"] == {"wrong-number-of-columns": 2}


def test_huge_quoted_csv_field(tmp_path: Path) -> None:
    rows = [LITE | {"answer": 'line, "quoted"\n' * 20_000}]
    (tmp_path / "huge.csv").write_bytes(as_csv(rows, "utf-8"))
    assert (
        read(run(tmp_path, "huatuo", tmp_path / "huge.csv"))[0]["messages"][1]["content"] == rows[0]["answer"].strip()
    )


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.dictionaries(
            st.sampled_from(["a", "b}", "c"]),
            st.text(max_size=8) | st.lists(st.dictionaries(st.just("a"), st.text(max_size=4)), max_size=3),
        ),
        max_size=30,
    ),
    indent=st.sampled_from([None, 0, 1, 4]),
    block=st.integers(8, 200),
)
def test_array_reader_equals_json_loads_whatever_the_block(
    tmp_path_factory: Any, rows: list[Any], indent: int | None, block: int
) -> None:
    path = tmp_path_factory.mktemp("array") / "rows.json"
    path.write_text(json.dumps(rows, indent=indent, ensure_ascii=False), encoding="utf-8")
    old = json_rows.BATCH_BYTES
    json_rows.BATCH_BYTES = block
    try:
        stream = Stream(path, "rows.json")
        found = [row for batch in array_batches(stream) for row in batch.parse()[1]]
        stream.close()
    finally:
        json_rows.BATCH_BYTES = old
    assert found == rows


def test_batches_travel_without_their_parsed_rows() -> None:
    import pickle

    batch = batches.Batch("x", 5, rows=[{"a": 1}], array=b'{"a": 1}')
    other = pickle.loads(pickle.dumps(batch))
    assert other.rows is None
    assert other.parse() == (range(5, 6), [{"a": 1}])
