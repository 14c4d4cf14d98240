"""The report: one file, nothing loaded, everything escaped, nothing mixed."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from eval.__main__ import main
from eval.report import write_report
from tests.eval.notes import gold, number_of, write_rows
from tests.scripted_openai import ScriptedServer

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'></div> http://evil.example/x {{ 7 * 7 }}"


class Elements(HTMLParser):
    """Every element and attribute of the page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes.extend(attrs)


def candidate(request: dict) -> str:
    note = gold(number_of(request))
    if request["model"] == "base":
        return HOSTILE
    return json.dumps({**note, "S": HOSTILE}) if number_of(request) == 0 else json.dumps(note)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    state = folder / "runs/sft-tiny/llamafactory/train/trainer_state.json"
    state.parent.mkdir(parents=True)
    history = [{"step": step, "loss": 3 / step} for step in range(1, 30)] + [
        {"step": 20, "eval_loss": 0.4},
        {"step": 21, "loss": float("nan")},
    ]
    state.write_text(json.dumps({"log_history": history}))
    (state.parent.parent / "manifest.json").write_text(
        json.dumps({"method": "sft", "base_model": "<b>tiny</b>", "wall_s": 3.2})
    )
    with ScriptedServer(candidate, lists_models=False) as server:
        for name, count in (("one", 6), ("two", 4)):
            file = write_rows(folder / name / "test.jsonl", count)
            models = ["--base-url", server.base_url, "--model", "base", "--model", "sft"]
            assert main(["run", *models, "--dataset", str(file), "--runs", str(folder / "runs")]) == 0
    return folder / "runs"


def test_nothing_is_loaded_and_nothing_runs(runs: Path) -> None:
    page = Elements()
    page.feed((runs / "report/index.html").read_text("utf-8"))
    assert not {"script", "img", "iframe", "link", "object", "b"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name in ("src", "href", "action") or name.startswith("on")]
    style = re.search(r"<style>(.*?)</style>", (runs / "report/index.html").read_text("utf-8"), re.DOTALL)
    assert style and "url(" not in style.group(1) and "@import" not in style.group(1)
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in page.attributes
    assert ("name", "viewport") in page.attributes


def test_hostile_output_is_shown_as_text(runs: Path) -> None:
    text = (runs / "report/index.html").read_text("utf-8")
    assert "<script" not in text and "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "{{ 7 * 7 }}" in text


def test_what_a_reader_must_see(runs: Path) -> None:
    text = (runs / "report/index.html").read_text("utf-8")
    for shown in (
        "[61.0–100.0] n=6",  # Wilson of 6 of 6
        "sft − base",
        "6 of 6",  # invalid JSON of base
        "lexical stand-in, not a clinical judgement",
        "prompt hash" if "LLM judge" in text else "rule hash",
        "not schema-constrained",
        "python -m eval run",
        "Loss curves",
        "polyline",
        "&lt;b&gt;tiny&lt;/b&gt;",
    ):
        assert shown in text, shown


def test_every_table_of_the_stand_in_says_so(runs: Path) -> None:
    text = (runs / "report/index.html").read_text("utf-8")
    tables = text.split("<h3>Sections passed</h3>")[1:]
    assert len(tables) == 2  # two data hashes, two tables
    assert all("exical stand-in" in part.split("</table>")[1] for part in tables)


def test_judges_never_share_a_table(runs: Path, tmp_path: Path) -> None:
    import shutil

    import orjson

    copy = tmp_path / "runs"
    shutil.copytree(runs, copy)
    for path in list(copy.glob("eval/soap/*/sft/lexical-*/results.json")):
        result = orjson.loads(path.read_bytes())
        result["judge"] |= {"kind": "endpoint", "id": "judge", "label": "LLM judge judge"}
        other = path.parent.parent / "endpoint-x"
        shutil.copytree(path.parent, other)
        (other / "results.json").write_bytes(orjson.dumps(result))
    text = write_report(copy).read_text("utf-8")
    sections = text.split("<section>")[1:]
    assert len(sections) == 5  # 2 lexical, 2 of the other judge, loss curves
    for section in sections:
        assert not ("LLM judge judge" in section and "exical stand-in" in section)


def test_a_state_that_is_being_written_does_not_stop_the_report(runs: Path, tmp_path: Path) -> None:
    state = tmp_path / "sft-x/llamafactory/train/trainer_state.json"
    state.parent.mkdir(parents=True)
    state.write_text('{"log_history": [')
    assert "cannot be read as JSON" in write_report(tmp_path).read_text("utf-8")


def test_a_report_of_nothing(tmp_path: Path) -> None:
    assert "No results yet" in write_report(tmp_path).read_text("utf-8")
