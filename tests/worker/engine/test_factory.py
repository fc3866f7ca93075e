from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from services.core.errors import InvalidRequest
from worker.engine.factory import build_engine
from worker.engine.settings import EngineSettings


def test_the_fake_engine_takes_its_vocabulary_from_the_model(
    tiny_model_dir: Callable[[str], Path], tmp_path: Path
):
    engine = build_engine("fake", tiny_model_dir("llama"), EngineSettings())
    assert engine.runner.vocab_size == 211  # type: ignore[attr-defined]
    assert build_engine("fake", tmp_path, EngineSettings()).layout.dtype == "uint8"


def test_the_torch_engine_is_built(tiny_model_dir: Callable[[str], Path]):
    engine = build_engine("torch", tiny_model_dir("llama"), EngineSettings(num_blocks=4))
    assert engine.layout.dtype == "bfloat16"


def test_an_unknown_engine_is_refused(tmp_path: Path):
    with pytest.raises(InvalidRequest, match="engine is steam"):
        build_engine("steam", tmp_path, EngineSettings())


def test_the_fake_engine_needs_no_torch(tmp_path: Path):
    code = (
        "import sys; from pathlib import Path; from worker.engine.factory import build_engine;"
        "from worker.engine.settings import EngineSettings;"
        f"build_engine('fake', Path({str(tmp_path)!r}), EngineSettings());"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
