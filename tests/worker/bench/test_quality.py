from __future__ import annotations

import math
from pathlib import Path

import torch

from tests.worker.engine.tiny_models import VOCAB_SIZE, save_tiny_model
from worker.bench.quality import measure_perplexity, process_age_s
from worker.engine.lean.load import load_lean
from worker.engine.lean.model import LeanModel
from worker.engine.settings import EngineSettings
from worker.quant.perturb import main as perturb


def test_perplexity_equals_transformers(tmp_path: Path):
    from transformers import AutoModelForCausalLM

    model_dir = save_tiny_model("llama", tmp_path)
    settings = EngineSettings(dtype="fp32", num_blocks=64, num_threads=1)
    tokens = [(31 * i) % VOCAB_SIZE for i in range(300)]
    ids = torch.tensor([tokens])
    loss = AutoModelForCausalLM.from_pretrained(model_dir)(ids, labels=ids).loss.item()
    model = LeanModel(load_lean(model_dir, settings), settings)
    assert math.isclose(measure_perplexity(model, tokens), math.exp(loss), rel_tol=1e-4)


def test_a_perturbed_model_still_loads(tmp_path: Path):
    model_dir = save_tiny_model("llama", tmp_path / "model")
    (tmp_path / "moved").mkdir()
    perturb(model_dir, tmp_path / "moved")
    settings = EngineSettings(dtype="fp32", num_blocks=4, num_threads=1)
    LeanModel(load_lean(tmp_path / "moved", settings), settings)


def test_a_process_is_as_old_as_the_clock_says():
    before = process_age_s()
    assert 0 < before <= process_age_s()
