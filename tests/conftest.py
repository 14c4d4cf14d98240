"""Fixtures every part uses: where the checkout, the bundled samples and (if present) the real sample rows are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def repo() -> Path:
    """The checkout."""
    return REPO


@pytest.fixture(scope="session")
def samples() -> Path:
    """The bundled samples."""
    return REPO / "datasets" / "samples"


@pytest.fixture(scope="session")
def shared_data() -> Path | None:
    """Real rows in the sources' true schemas, beside the checkout; None when they are not there."""
    folder = Path(os.environ.get("MEDTUNE_SHARED_DATA", REPO.parent / "shared" / "data"))
    return folder if folder.is_dir() else None


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in model, made once a session."""
    folder = tmp_path_factory.mktemp("models") / "tiny-qwen2"
    subprocess.run([sys.executable, "-m", "trainers", "tiny-model", "--out", str(folder)], cwd=REPO, check=True)
    return folder
