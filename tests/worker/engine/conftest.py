from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.worker.engine.tiny_models import save_tiny_model


@pytest.fixture(scope="session")
def tiny_model_dir(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Directory of a small random model, made once per architecture."""
    made: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in made:
            made[name] = save_tiny_model(name, tmp_path_factory.mktemp(name))
        return made[name]

    return make


@pytest.fixture(scope="session")
def quantized_cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def quantized_models_of_their_own(
    quantized_cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Quantized copies of tiny models are kept for the session, not in the user's cache."""
    monkeypatch.setenv("TOKENMILL_CACHE_DIR", str(quantized_cache_dir))
