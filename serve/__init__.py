"""Start, wait for and stop an OpenAI-compatible engine: vLLM on a GPU, vLLM's CPU build, or LLaMA-Factory's API."""

from serve.server import EngineError, Server, running

__all__ = ["EngineError", "Server", "running"]
