"""The client against a real HTTP server that misbehaves on demand."""

from __future__ import annotations

import asyncio

import pytest

from llm import Client, Endpoint, Refused
from store.errors import UserError
from tests.scripted_openai import Fault, ScriptedServer

ASK = [{"role": "user", "content": "?"}]


def chat(server: ScriptedServer, times: int = 1, api_key: str = "k", **options):
    options = {"first_wait_s": 0.01, "timeout_s": 5, **options}

    async def run():
        async with Client(Endpoint(server.base_url, "scripted", api_key), **options) as client:
            replies = [reply.text async for _, reply in client.each(range(times), lambda n: client.chat(ASK, seed=n))]
            return replies, client.retries

    return asyncio.run(run())


@pytest.mark.parametrize("fault", [Fault(status=429), Fault(status=500), Fault(status=503), Fault(drop=True)])
def test_passing_trouble_is_tried_again(fault: Fault) -> None:
    with ScriptedServer(lambda r: "ok", faults=lambda n, r: fault if n < 2 else None) as server:
        assert chat(server) == (["ok"], 2)
        assert len(server.requests) == 3


def test_a_timeout_is_tried_again() -> None:
    with ScriptedServer(lambda r: "ok", faults=lambda n, r: Fault(delay_s=0.6) if n == 0 else None) as server:
        assert chat(server, timeout_s=0.2) == (["ok"], 1)


def test_retry_after_is_honoured() -> None:
    import time

    with ScriptedServer(
        lambda r: "ok", faults=lambda n, r: Fault(status=429, headers={"Retry-After": "1"}) if n == 0 else None
    ) as server:
        begin = time.monotonic()
        chat(server)
        assert time.monotonic() - begin >= 1.0


@pytest.mark.parametrize(
    "fault", [Fault(status=400), Fault(status=422), Fault(raw=b"not json"), Fault(raw=b'{"choices": []}')]
)
def test_a_refused_or_spoiled_request_is_not_repeated(fault: Fault) -> None:
    with ScriptedServer(lambda r: "ok", faults=lambda n, r: fault) as server:
        with pytest.raises(Refused):
            chat(server)
        assert len(server.requests) == 1


def test_retries_are_bounded() -> None:
    with ScriptedServer(lambda r: "ok", faults=lambda n, r: Fault(status=500)) as server:
        with pytest.raises(UserError, match="HTTP 500 after 3 attempts"):
            chat(server, attempts=3)
        assert len(server.requests) == 3


def test_wrong_key_ends_the_run_and_is_not_shown() -> None:
    with ScriptedServer(lambda r: "ok", api_key="right") as server:
        with pytest.raises(UserError, match="HTTP 401") as caught:
            chat(server, api_key="wrong-secret")
        assert "wrong-secret" not in str(caught.value)
    assert "wrong-secret" not in repr(Endpoint("http://x/v1", "m", "wrong-secret"))


def test_a_server_that_is_not_there() -> None:
    async def run():
        async with Client(Endpoint("http://127.0.0.1:9/v1", "m"), attempts=2, first_wait_s=0.01) as client:
            await client.check()

    with pytest.raises(UserError, match="cannot be reached"):
        asyncio.run(run())


def test_never_more_at_once_than_allowed() -> None:
    with ScriptedServer(lambda r: str(r["seed"]), faults=lambda n, r: Fault(delay_s=0.02)) as server:
        replies, _ = chat(server, times=30, concurrency=4)
        assert sorted(map(int, replies)) == list(range(30))
        assert 2 <= server.most_at_once <= 4


def test_check_names_what_is_served() -> None:
    async def run(server):
        async with Client(Endpoint(server.base_url, "other"), attempts=1) as client:
            return await client.check()

    with ScriptedServer(lambda r: "ok") as server, pytest.raises(UserError, match="it serves scripted"):
        asyncio.run(run(server))
    with ScriptedServer(lambda r: "ok", lists_models=False) as server:
        assert asyncio.run(run(server)) == {}


def test_endpoint_from_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JUDGE_BASE_URL", raising=False)
    monkeypatch.setenv("JUDGE_MODEL", "judge")
    with pytest.raises(UserError, match="JUDGE_BASE_URL not set"):
        Endpoint.from_environment("JUDGE_")
    monkeypatch.setenv("JUDGE_BASE_URL", "http://h/v1/")
    assert Endpoint.from_environment("JUDGE_") == Endpoint("http://h/v1", "judge", "none")
