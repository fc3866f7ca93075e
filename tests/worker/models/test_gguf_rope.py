from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.worker.models.tiny_gguf import HEADS, write_tiny_gguf
from worker.engine.lean.config import read_config
from worker.engine.lean.rope import rope_of
from worker.models.conversion import adopt_gguf
from worker.models.errors import ModelUnavailable

HIDDEN = 256
HEAD_DIM = HIDDEN // HEADS
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def _adopted(directory: Path, factors: np.ndarray) -> Path:
    write_tiny_gguf(directory / "tiny.gguf", hidden=HIDDEN, rope_factors=factors)
    model_dir = directory / "model"
    model_dir.mkdir()
    adopt_gguf(directory / "tiny.gguf", model_dir)
    return model_dir


def test_llama_3_scaling_is_told_by_its_factors(tmp_path: Path):
    scaled = rope_of(LLAMA3, HEAD_DIM).frequencies
    plain = rope_of({"rope_theta": 10000.0}, HEAD_DIM).frequencies
    config = read_config(_adopted(tmp_path, np.divide(plain, scaled)))
    np.testing.assert_allclose(config.ropes[0].frequencies, scaled, rtol=1e-6)


def test_other_scaling_is_refused(tmp_path: Path):
    with pytest.raises(ModelUnavailable, match="not Llama 3's"):
        _adopted(tmp_path, np.linspace(1.0, 5.0, HEAD_DIM // 2))
