"""A scripted engine for the tests of starting and stopping: it takes vLLM's place as `python -m vllm… serve MODEL --port …`.

STAND_IN says how it behaves: ok, slow (ready after 7 s), never, crash (while loading), dies (half a second after its first answer),
deaf (ignores SIGTERM). Like vLLM it has a child, here in a session of its own, where signals to the group do not reach it.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

mode = os.environ.get("STAND_IN", "ok")
arguments = sys.argv
port = int(arguments[arguments.index("--port") + 1])
name = arguments[arguments.index("--served-model-name") + 1]
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)


class Handler(BaseHTTPRequestHandler):
    """GET /v1/models with the key."""

    def do_GET(self) -> None:
        allowed = self.headers.get("Authorization") == f"Bearer {os.environ['VLLM_API_KEY']}"
        self.send_response(200 if allowed else 401)
        self.end_headers()
        self.wfile.write(json.dumps({"data": [{"id": name}]}).encode() if allowed else b"{}")
        if mode == "dies":
            threading.Timer(0.5, os._exit, [3]).start()


if mode == "crash":
    print(
        "(APIServer pid=1) WARNING 11-20 23:18:10 [system_utils.py:255] This can cause errors like `OSError: [Errno 24] x`"
    )
    print("(EngineCore pid=1) ERROR 11-20 23:18:12 [core.py:1510] RuntimeError: Error while deserializing header")
    print("RuntimeError: Engine core initialization failed. See root cause above.", flush=True)
    sys.exit(1)
if mode == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if mode in ("slow", "never"):
    print("Loading weights", flush=True)
    time.sleep(7 if mode == "slow" else 600)
ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
