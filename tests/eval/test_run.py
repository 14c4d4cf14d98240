"""The command line, from rows to report, against scripted servers; and which weights a label means."""

from __future__ import annotations

import json
from pathlib import Path

import orjson
import pytest

from eval.__main__ import main
from eval.candidates import resolve
from eval.judges import read_judge
from eval.recipe import read_recipe
from eval.rows import read_rows, split_file
from store.errors import UserError
from store.registry import register
from tests.eval.notes import gold, number_of, remembers, verdict, write_rows
from tests.scripted_openai import ScriptedServer


@pytest.fixture(autouse=True)
def at_the_root(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repo)


def candidates(request: dict) -> str:
    """base: no JSON; sft: all by heart; dpo: one section of every third note is wrong."""
    note = gold(number_of(request))
    if request["model"] == "base":
        return "<script>alert(1)</script> sorry"
    if request["model"] == "dpo" and number_of(request) % 3 == 0:
        note["P"] = "Give 900 mg of something unheard."
    return json.dumps(note)


def evaluate(server: ScriptedServer, file: Path, runs: Path, *more: str) -> int:
    models = [word for label in ("base", "sft", "dpo") for word in ("--model", label)]
    return main(["run", "--base-url", server.base_url, *models, "--dataset", str(file), "--runs", str(runs), *more])


def results(runs: Path, label: str, kind: str) -> dict:
    [path] = runs.glob(f"eval/soap/*/{label}/{kind}-*/results.json")
    return orjson.loads(path.read_bytes())


def test_lexical_then_endpoint(tmp_path: Path, capsys, monkeypatch) -> None:
    file, runs = write_rows(tmp_path / "test.jsonl", 9), tmp_path / "runs"
    with (
        ScriptedServer(candidates, lists_models=False) as server,
        ScriptedServer(lambda r: verdict(True), model="j") as llm,
    ):
        monkeypatch.setenv("JUDGE_BASE_URL", llm.base_url)
        monkeypatch.setenv("JUDGE_MODEL", "j")
        assert evaluate(server, file, runs) == 0
        printed = capsys.readouterr().out
        assert "lexical stand-in, not a clinical judgement" in printed
        assert "100.0% [70.1–100.0] n=9" in printed
        assert "goldzq" not in printed
        base, sft, dpo = (results(runs, label, "lexical") for label in ("base", "sft", "dpo"))
        assert base["counts"]["invalid_json"] == 9 and base["metrics"]["all_sections"]["value"] == 0
        assert base["metrics"]["all_sections"]["n"] == 36
        assert sft["metrics"]["exact_all_sections"]["value"] == 1
        assert dpo["metrics"]["P"]["value"] == pytest.approx(6 / 9)
        assert {"task", "n", "hashes", "metrics"} <= sft.keys()
        assert {"value", "n", "ci95"} <= sft["metrics"]["S"].keys()
        asked = len(server.requests)
        assert evaluate(server, file, runs, "--judge", "endpoint") == 0
        assert len(server.requests) == asked  # judging again does not generate again
        assert len(llm.requests) == 2 * 36  # invalid JSON is never shown to the judge
        assert results(runs, "base", "endpoint")["metrics"]["S"]["value"] == 0
        assert results(runs, "dpo", "endpoint")["metrics"]["P"]["value"] == 1
        assert evaluate(server, file, runs, "--judge", "endpoint") == 0
        assert len(llm.requests) == 2 * 36
    assert (runs / "report/index.html").is_file()


def test_train_split_is_called_memory(tmp_path: Path, capsys) -> None:
    write_rows(tmp_path / "conv" / "train.jsonl", 3)
    register(tmp_path / "datasets", "notes", tmp_path / "conv" / "train.jsonl")
    data = ["--dataset", "notes", "--split", "train", "--dataset-dir", str(tmp_path / "datasets")]
    with ScriptedServer(remembers) as server:
        model = ["--base-url", server.base_url, "--served-model", "scripted"]
        code = main(["run", *model, *data, "--runs", str(tmp_path / "runs")])
    assert code == 0
    assert "MEMORY OF TRAINING ROWS" in capsys.readouterr().out
    assert "Memory of training rows" in (tmp_path / "runs/report/index.html").read_text()


def test_an_unreachable_judge_ends_with_a_line(tmp_path: Path, monkeypatch) -> None:
    file = write_rows(tmp_path / "test.jsonl", 1)
    monkeypatch.setenv("JUDGE_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("JUDGE_MODEL", "j")
    with ScriptedServer(candidates, lists_models=False) as server, pytest.raises(UserError, match="cannot be reached"):
        evaluate(server, file, tmp_path / "runs", "--judge", "endpoint")


def test_a_model_may_not_judge_itself(tmp_path: Path, monkeypatch) -> None:
    file = write_rows(tmp_path / "test.jsonl", 1)
    with ScriptedServer(candidates, lists_models=False) as server:
        monkeypatch.setenv("JUDGE_BASE_URL", server.base_url)
        monkeypatch.setenv("JUDGE_MODEL", "sft")
        with pytest.raises(UserError, match="judge itself"):
            evaluate(server, file, tmp_path / "runs", "--judge", "endpoint")


def test_fresh_sets_the_old_generations_aside(tmp_path: Path) -> None:
    file, runs = write_rows(tmp_path / "test.jsonl", 2), tmp_path / "runs"
    with ScriptedServer(candidates, lists_models=False) as server:
        evaluate(server, file, runs)
        evaluate(server, file, runs, "--fresh")
        assert len(server.requests) == 12
    assert len(list(runs.glob("eval/soap/*/.old/*/generations.jsonl"))) == 3


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"{", "not JSON"),
        (b'{"messages": "x"}', "expected a converted row"),
        (b'{"messages": [{"role": "user", "content": "u"}]}', "last message"),
        (b'{"messages": [{"role": "assistant", "content": "a"}, {"role": "user", "content": "u"}]}', "last message"),
        (b"", "no rows"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, line: bytes, says: str) -> None:
    (tmp_path / "test.jsonl").write_bytes(line + b"\n")
    with pytest.raises(UserError, match=says) as caught:
        read_rows(tmp_path / "test.jsonl")
    assert "test.jsonl" in str(caught.value)


def test_recipe_faults_are_named(tmp_path: Path, repo: Path) -> None:
    text = (repo / "recipes/eval/soap.yaml").read_text()
    for change, says in (
        (("temperature: 0\n", "temperature: 0\ntemperatur: 1\n"), "temperatur: Extra"),
        (("$predicted", "$prediction"), "judge_prompt: .*must hold exactly"),
        (("max_tokens: 8192", "max_tokens: many"), "max_tokens"),
    ):
        (tmp_path / "soap.yaml").write_text(text.replace(*change))
        with pytest.raises(UserError, match=says):
            read_recipe(str(tmp_path / "soap.yaml"))
    assert read_recipe("soap", overrides=["max_tokens=99"]).max_tokens == 99
    with pytest.raises(UserError, match="max_token: Extra"):
        read_recipe("soap", overrides=["max_token=99"])
    with pytest.raises(UserError, match=r"tasks here: .*soap"):
        read_recipe("nothing")


def test_a_dataset_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not in"):
        split_file("nothing", "test", tmp_path)


def make_run(runs: Path, name: str, **more) -> Path:
    """A hand-made finished run with its weights in ``merged``."""
    folder = runs / name / "llamafactory"
    (folder / "merged").mkdir(parents=True)
    (folder / "merged/config.json").write_text("{}")
    (folder / "merged/model.safetensors").write_bytes(name.encode())
    (folder / "merged/chat_template.jinja").write_text("{{ messages }}")
    base = runs / "models" / "base"
    base.mkdir(parents=True, exist_ok=True)
    (base / "config.json").write_text("{}")
    manifest = {"recipe": name, "method": "lora", "status": "complete", "model": "merged", "base_model": "Org/Base"}
    manifest |= {"base_local": str(base), "enable_thinking": False, "template_hash": "t", **more}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_labels_mean_runs_folders_and_the_base_of_a_chain(tmp_path: Path) -> None:
    sft = make_run(tmp_path, "lora-x")
    make_run(tmp_path, "dpo-x", **{"base_model": str(sft / "merged"), "base_local": str(sft / "merged")})

    def found(*specs: str):
        return resolve(list(specs), backend="llamafactory", run=None, enable_thinking=None, runs=tmp_path)

    base, dpo = found("base", "dpo=dpo-x")
    assert base.weights == tmp_path / "models" / "base" and base.described == "Org/Base"
    assert (
        dpo.weights == tmp_path / "dpo-x/llamafactory/merged"
        and dpo.enable_thinking is False
        and dpo.template_hash == "t"
    )
    [plain] = found(f"mine={sft / 'merged'}")
    assert plain.run is None and plain.template_hash
    before = plain.identity
    (sft / "merged/model.safetensors").write_bytes(b"trained again")
    assert found(f"mine={sft / 'merged'}")[0].identity != before
    for specs, says in (
        (("base",), "name a tuned run"),
        (("a=dpo-x", "a=lora-x"), "same label"),
        (("a/../b=dpo-x",), "a label is"),
        (("sft=no-such-model",), "no-such-model"),
    ):
        with pytest.raises(UserError, match=says):
            found(*specs)
    make_run(tmp_path, "lora-y", status="running")
    with pytest.raises(UserError, match="'running'"):
        found("lora-y")


def test_the_local_judge_is_what_its_serve_file_names(tmp_path: Path, repo: Path) -> None:
    recipe = read_recipe("soap")
    assert (repo / recipe.judge_serve).is_file()
    judge = read_judge("local", recipe)
    assert judge.id == "Qwen/Qwen3-8B" and judge.endpoint is None and "Qwen/Qwen3-8B" in judge.label
    assert judge.hash != read_judge("lexical", recipe).hash
    (tmp_path / "no-model.yaml").write_text("host: 127.0.0.1\n")
    for file, says in (("no-model.yaml", "naming the judge"), ("nothing.yaml", "no serve file")):
        with pytest.raises(UserError, match=says):
            read_judge("local", recipe.model_copy(update={"judge_serve": str(tmp_path / file)}))
