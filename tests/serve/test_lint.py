"""Serve files: ours pass, and each silent or late mistake of vLLM's reader is refused with file, key and correction."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve import lint
from serve.__main__ import main
from store.errors import UserError


def write(folder: Path, text: str) -> Path:
    path = folder / "file.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_our_serve_files_pass_and_none_is_missed(repo: Path) -> None:
    files = sorted((repo / "recipes" / "serve").iterdir())
    assert {path.name for path in files} >= {"vllm.yaml", "vllm-cpu.yaml", "qwen32b.yaml", "judge-qwen3-8b.yaml"}
    for path in files:
        settings = lint.checked(path)
        assert settings["host"] == "127.0.0.1"
        assert settings["structured-outputs-config"] == {"backend": "guidance", "disable_any_whitespace": True}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("enable-prefix-caching: false", "`no-enable-prefix-caching: true`"),
        ("headless: false", "remove the line"),
        ("no-enable-prefix-caching: false", "write `enable-prefix-caching: true`"),
        ("max-model-length: 4096", "did you mean max-model-len"),
        ("qqqq: 1", "is no flag of `vllm serve`"),
        ("no-max-model-len: true", "is no flag"),
        ("dtype:", "has no value"),
        ("max-model-len: 16k", "write the number out"),
        ("kv-cache-memory-bytes: 1.5G", "write the number out"),
        ("max-num-seqs: many", "is not a whole number"),
        ("max-num-seqs: 1.5", "is not a whole number"),
        ("gpu-memory-utilization: high", "is not a number"),
        ("max-num-seqs: auto", "is not a whole number"),
        ("max-model-len: true", "takes a value"),
        ("enforce-eager: 1", "is a switch"),
        ("dtype: bf16", "did you mean bfloat16"),
        ("structured-outputs-config: guidance", "takes nested"),
        ("structured-outputs-config: [guidance]", "takes nested"),
        ("dtype: {name: bfloat16}", "found nested lines"),
        ("host: [127.0.0.1]", "found a list"),
        ("api-key: abc", "set SERVE_API_KEY in the environment"),
        ("hf_token: abc", "set HF_TOKEN in the environment"),
        ("enable-log-outputs: true", "patients' text"),
    ],
)
def test_refused(tmp_path: Path, line: str, expected: str) -> None:
    path = write(tmp_path, f"host: 127.0.0.1\n{line}\n" if not line.startswith("host") else line)
    with pytest.raises(UserError) as refused:
        lint.checked(path)
    key = line.partition(":")[0].replace("_", "-")
    assert str(refused.value).startswith(f"{path}: {key}: ")
    assert expected in str(refused.value)


@pytest.mark.parametrize(
    "line",
    [
        "max_model_len: auto",
        "max-num-seqs: '64'",
        "no-enable-prefix-caching: true",
        "served-model-name: [a, b]",
        "served-model-name: a",
        "quantization: fp8",
        "model: Qwen/Qwen3-8B",
        "default-chat-template-kwargs: {enable_thinking: false}",
    ],
)
def test_accepted(tmp_path: Path, line: str) -> None:
    assert lint.problems(lint.load(write(tmp_path, line))) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("port: 1\nport: 2\n", "file.yaml:2: is not valid YAML: key 'port' is given twice"),
        ("max-num-seqs: 1\nmax_num_seqs: 2\n", "given twice"),
        ("- a\n", "found list"),
        ("", "found nothing"),
        ("a: [1\n", "is not valid YAML"),
    ],
)
def test_files_that_are_no_mapping(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(UserError, match=r"file\.yaml") as refused:
        lint.load(write(tmp_path, text))
    assert expected in str(refused.value)


def test_all_faults_of_a_file_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(UserError) as refused:
        lint.checked(write(tmp_path, "dtipe: auto\nenforce-eager: false\n"))
    assert "did you mean dtype" in str(refused.value) and "no-enforce-eager" in str(refused.value)


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = tmp_path / "good.yaml", write(tmp_path, "max-model-len: 16k\n")
    good.write_text("host: 127.0.0.1\n")
    assert main(["lint", str(good)]) == 0
    assert main(["lint", str(good), str(bad)]) == 2
    assert f"error: {bad}: max-model-len: 16k" in capsys.readouterr().err
    with pytest.raises(UserError, match="cannot be read"):
        lint.checked(tmp_path / "absent.yaml")
    with pytest.raises(UserError, match=r"only \.yaml and \.yml"):
        lint.checked(tmp_path / "a.json")
