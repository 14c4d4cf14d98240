"""LLaMA-Factory imports torchaudio at start-up, for text too; the released torchaudio has no build for a CPU torch.

Importing this works, using anything in it does not. A real torchaudio in the environment is never overwritten.
"""

__version__ = "0.0.0+text.only"


def __getattr__(name: str) -> object:
    if name.startswith("__"):
        raise AttributeError(name)
    raise ImportError(f"torchaudio.{name}: this environment trains on text only")
