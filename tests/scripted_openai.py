"""A scripted OpenAI-compatible server: real HTTP, replies decided by the test; slow, flaky, rate-limited, malformed on demand.

with ScriptedServer(lambda request: "hello", faults=lambda n, request: Fault(status=500) if n == 0 else None) as server:
    ...  server.base_url, server.requests
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one request: a delay, an error status, a dropped connection, or a raw body sent with 200."""

    delay_s: float = 0.0
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    drop: bool = False
    raw: bytes | None = None
    message: str = "scripted"


class ScriptedServer:
    """``reply(request) -> str | (str, finish_reason)``; ``faults(n, request) -> Fault | None``, n counted from 0 over all chats."""

    def __init__(
        self,
        reply: Callable[[dict[str, Any]], Any],
        *,
        faults: Callable[[int, dict[str, Any]], Fault | None] = lambda n, request: None,
        model: str = "scripted",
        api_key: str | None = None,
        lists_models: bool = True,
    ) -> None:
        self.reply, self.faults, self.model, self.api_key, self.lists_models = (
            reply,
            faults,
            model,
            api_key,
            lists_models,
        )
        self.requests: list[dict[str, Any]] = []
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()

    def __enter__(self) -> ScriptedServer:
        script = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def allowed(self) -> bool:
                if script.api_key and self.headers.get("Authorization") != f"Bearer {script.api_key}":
                    self.send(401, b'{"error": {"message": "bad key"}}')
                    return False
                return True

            def do_GET(self) -> None:
                if not self.allowed():
                    return
                if not script.lists_models:
                    return self.send(404, b'{"error": {"message": "no such route"}}')
                self.send(
                    200, json.dumps({"object": "list", "data": [{"id": script.model, "object": "model"}]}).encode()
                )

            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if not self.allowed():
                    return
                with script._lock:
                    number = len(script.requests)
                    script.requests.append(request)
                    script._at_once += 1
                    script.most_at_once = max(script.most_at_once, script._at_once)
                try:
                    self.answer(number, request)
                finally:
                    with script._lock:
                        script._at_once -= 1

            def answer(self, number: int, request: dict[str, Any]) -> None:
                fault = script.faults(number, request) or Fault()
                time.sleep(fault.delay_s)
                if fault.drop:
                    self.close_connection = True
                    return self.connection.close()
                if fault.status is not None:
                    body = json.dumps({"error": {"message": fault.message, "code": fault.status}}).encode()
                    return self.send(fault.status, body, fault.headers)
                if fault.raw is not None:
                    return self.send(200, fault.raw)
                said = script.reply(request)
                text, finish = said if isinstance(said, tuple) else (said, "stop")
                message = {"role": "assistant", "content": text}
                body = {
                    "id": f"chat-{number}",
                    "object": "chat.completion",
                    "created": 0,
                    "model": request["model"],
                    "choices": [{"index": 0, "message": message, "finish_reason": finish, "logprobs": None}],
                    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
                }
                self.send(200, json.dumps(body).encode())

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *_: Any) -> None:  # a client that hung up, or our own dropped connection
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5)

    @property
    def base_url(self) -> str:
        """``http://127.0.0.1:PORT/v1``."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"
