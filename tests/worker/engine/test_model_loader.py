from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    GptOssConfig,
    LlamaConfig,
    PreTrainedConfig,
)

from services.core.errors import InvalidRequest
from tests.worker.engine.tiny_models import config_of
from worker.engine.device import choose_dtype
from worker.engine.errors import UnsupportedModel
from worker.engine.model_loader import load_model
from worker.engine.model_runner import ModelRunner
from worker.engine.settings import EngineSettings

CPU = torch.device("cpu")


def _save(config: PreTrainedConfig, path: Path) -> Path:
    AutoModelForCausalLM.from_config(config).save_pretrained(path)
    return path


def test_a_model_without_the_attention_backend_is_refused(tmp_path: Path):
    config = BloomConfig(vocab_size=64, hidden_size=32, n_layer=1, n_head=2)
    with pytest.raises(UnsupportedModel, match="BloomForCausalLM"):
        ModelRunner(_save(config, tmp_path), EngineSettings(num_blocks=2))


def test_attention_sinks_are_refused(tmp_path: Path):
    config = GptOssConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        num_local_experts=2,
        num_experts_per_tok=1,
        pad_token_id=0,
    )
    with pytest.raises(UnsupportedModel, match="s_aux"):
        ModelRunner(_save(config, tmp_path), EngineSettings(num_blocks=2, dtype="fp32"))


def test_a_length_dependent_rope_caps_the_context(tmp_path: Path):
    config = LlamaConfig(
        **{**config_of("llama").to_dict(), "max_position_embeddings": 400},
    )
    config.rope_parameters = {
        "rope_type": "dynamic",
        "rope_theta": 10000.0,
        "factor": 2.0,
        "original_max_position_embeddings": 200,
    }
    model = load_model(_save(config, tmp_path), EngineSettings(dtype="fp32"))
    assert model.max_model_len == 200


def test_a_setting_shortens_the_context(tiny_model_dir: Callable[[str], Path]):
    settings = EngineSettings(dtype="fp32", max_model_len=100)
    assert load_model(tiny_model_dir("llama"), settings).max_model_len == 100


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("auto", torch.bfloat16),
        ("fp32", torch.float32),
        ("bf16", torch.bfloat16),
        ("fp16", torch.bfloat16),
    ],
)
def test_precision_on_a_cpu(name: str, dtype: torch.dtype):
    assert choose_dtype(name, CPU) is dtype


def test_fp16_on_another_device_is_fp16():
    assert choose_dtype("fp16", torch.device("cuda")) is torch.float16


def test_an_unknown_precision_is_refused():
    with pytest.raises(InvalidRequest, match="dtype is int3"):
        EngineSettings(dtype="int3")
