"""The one async client for model calls: any OpenAI-compatible server, bounded retries, a concurrency limit."""

from llm.client import Client, Endpoint, Refused, Reply

__all__ = ["Client", "Endpoint", "Refused", "Reply"]
