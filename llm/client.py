"""Model calls that wait, try again and give up in known ways.

Tried again, with jitter and a bound: 429, 5xx, time-outs, dropped connections. Nothing else: a wrong key, an unknown model
or a request the server refuses fails the same way every time.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar, cast
from urllib.parse import urlsplit

import openai
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, wait_random_exponential

from store.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")

LONGEST_WAIT_S = 30.0
# What cannot be another request's fate: the whole run stops.
FATAL = (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError)


class Refused(Exception):
    """The server refused this one request (``status`` 400, 413, 422 …) or its reply is no chat completion (``status`` None)."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class Reply(NamedTuple):
    """One answer. ``finish_reason`` is the server's (``stop``, ``length``); token counts are None when it sent none."""

    text: str
    finish_reason: str | None
    prompt_tokens: int | None
    completion_tokens: int | None


@dataclass(frozen=True)
class Endpoint:
    """Where a model answers. ``base_url`` ends in ``/v1``; the key never shows in a repr."""

    base_url: str
    model: str
    api_key: str = field(default="none", repr=False)

    @classmethod
    def from_environment(cls, prefix: str = "") -> Endpoint:
        """``BASE_URL``, ``MODEL``, ``OPENAI_API_KEY``; with prefix ``JUDGE_``: ``JUDGE_BASE_URL``, ``JUDGE_MODEL``, ``JUDGE_API_KEY``."""
        values = {name: os.environ.get(f"{prefix}{name}", "").strip() for name in ("BASE_URL", "MODEL")}
        missing = [f"{prefix}{name}" for name, value in values.items() if not value]
        if missing:
            raise UserError(
                f"{' and '.join(missing)} not set: name an OpenAI-compatible server in the environment or .env"
            )
        key = os.environ.get(f"{prefix}API_KEY" if prefix else "OPENAI_API_KEY", "").strip()
        return cls(values["BASE_URL"].rstrip("/"), values["MODEL"], key or "none")

    def http_client(self) -> Any:
        """An HTTP client; a server on this machine is never reached through a proxy of the environment."""
        local = urlsplit(self.base_url).hostname in ("127.0.0.1", "localhost", "::1")
        return openai.DefaultAsyncHttpxClient(trust_env=not local)


def retryable(error: BaseException) -> bool:
    """True for 408, 429, 5xx, time-outs and dropped connections."""
    if isinstance(error, openai.APIConnectionError):  # time-outs are a subclass
        return True
    return isinstance(error, openai.APIStatusError) and (error.status_code in (408, 429) or error.status_code >= 500)


class Client:
    """An OpenAI-compatible chat client. Use as ``async with Client(endpoint) as client``.

    ``attempts`` counts the first try; ``first_wait_s`` doubles with each retry up to 30 s, with full jitter; a server's
    ``Retry-After`` is honoured up to 60 s. ``retries`` counts what was tried again.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        concurrency: int = 16,
        timeout_s: float = 600.0,
        attempts: int = 6,
        first_wait_s: float = 0.5,
    ) -> None:
        self.endpoint = endpoint
        self.concurrency = concurrency
        self.attempts = attempts
        self.retries = 0
        self._slots = asyncio.Semaphore(concurrency)
        self._jitter = wait_random_exponential(multiplier=first_wait_s, max=LONGEST_WAIT_S)
        self._openai = openai.AsyncOpenAI(
            base_url=endpoint.base_url,
            api_key=endpoint.api_key,
            max_retries=0,  # tenacity below does it, where it can be counted
            timeout=timeout_s,
            http_client=endpoint.http_client(),
        )

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._openai.close()

    def _wait(self, state: RetryCallState) -> float:
        self.retries += 1
        wait = self._jitter(state)
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, openai.APIStatusError):
            asked = error.response.headers.get("retry-after", "")
            if asked.isdigit():
                wait = max(wait, min(float(asked), 60.0))
        return wait

    async def _call(self, send: Callable[[], Awaitable[Result]]) -> Result:
        retrying = AsyncRetrying(
            retry=retry_if_exception(retryable), wait=self._wait, stop=stop_after_attempt(self.attempts), reraise=True
        )
        where = f"{self.endpoint.base_url} (model {self.endpoint.model!r})"
        try:
            async with self._slots:
                return await retrying(send)
        except FATAL as error:
            raise UserError(
                f"{where}: HTTP {error.status_code}; check the address, the model's name and the key"
            ) from None
        except openai.APIStatusError as error:
            if retryable(error):
                raise UserError(
                    f"{where}: HTTP {error.status_code} after {self.attempts} attempts; try again later"
                ) from None
            raise Refused(f"HTTP {error.status_code}: {error.message[:300]}", error.status_code) from None
        except openai.APITimeoutError:
            raise UserError(
                f"{where}: no answer in time, {self.attempts} attempts; is the server overloaded?"
            ) from None
        except openai.APIConnectionError:
            raise UserError(f"{where}: cannot be reached ({self.attempts} attempts); is the server running?") from None
        except (openai.OpenAIError, ValueError) as error:
            raise Refused(f"not a chat completion: {type(error).__name__}") from None

    async def check(self) -> dict[str, Any]:
        """The server's entry for the model, ``{}`` where it lists none. Raises UserError: unreachable, wrong key or model."""

        async def send() -> Any:
            return await self._openai.models.list()

        try:
            listed = await self._call(send)
        except Refused:
            return {}
        except UserError as error:
            if "HTTP 404" in str(error):  # some servers answer chats but list no models
                return {}
            raise
        cards = {card.id: card.model_dump() for card in listed.data or []}
        if cards and self.endpoint.model not in cards:
            raise UserError(
                f"{self.endpoint.base_url} does not serve {self.endpoint.model!r}; it serves {', '.join(sorted(cards))}"
            )
        return cards.get(self.endpoint.model, {})

    async def chat(self, messages: list[dict[str, str]], **sampling: Any) -> Reply:
        """One chat completion; ``sampling`` goes to the server as it is (temperature, max_tokens, extra_body …).

        Raises Refused for this request alone, UserError when no request can succeed or the retries are used up.
        """

        async def send() -> Any:
            return await self._openai.chat.completions.create(
                model=self.endpoint.model,
                messages=cast(Any, messages),
                **sampling,
            )

        done = await self._call(send)
        choices = getattr(done, "choices", None)
        if not choices or getattr(choices[0], "message", None) is None:
            raise Refused("not a chat completion: the reply has no choices")
        usage = done.usage
        return Reply(
            text=choices[0].message.content or "",
            finish_reason=choices[0].finish_reason,
            prompt_tokens=usage.prompt_tokens if usage else None,
            completion_tokens=usage.completion_tokens if usage else None,
        )

    async def each(
        self, items: Iterable[Item], call: Callable[[Item], Awaitable[Result]]
    ) -> AsyncIterator[tuple[Item, Result]]:
        """``(item, result)`` in order of completion, at most ``concurrency`` at a time; the first error ends the rest.

        Results finished beside an error are yielded before it is raised.
        """
        waiting, more = iter(items), True
        running: dict[asyncio.Future[Result], Item] = {}
        try:
            while True:
                while more and len(running) < self.concurrency:
                    try:
                        item = next(waiting)
                    except StopIteration:
                        more = False
                        break
                    running[asyncio.ensure_future(call(item))] = item
                if not running:
                    return
                done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in sorted(done, key=lambda task: task.exception() is not None):
                    item = running.pop(task)
                    yield item, task.result()
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
