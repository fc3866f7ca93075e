"""Small random models of several architectures, saved as Hugging Face directories."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    LlamaConfig,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

VOCAB_SIZE = 211

_COMMON: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
    # Wide, so that the answers of random weights differ from token to token.
    "initializer_range": 0.3,
    "eos_token_id": 1,
    "pad_token_id": 1,
    "bos_token_id": 2,
}

_LAYER_TYPES = ["sliding_attention", "full_attention", "sliding_attention"]


def config_of(name: str) -> PreTrainedConfig:
    match name:
        case "llama":
            return LlamaConfig(**_COMMON, tie_word_embeddings=True)
        case "qwen2":
            return Qwen2Config(**{k: v for k, v in _COMMON.items() if k != "head_dim"})
        case "qwen3":
            return Qwen3Config(**_COMMON)
        case "gemma2":
            return Gemma2Config(
                **_COMMON, sliding_window=24, layer_types=_LAYER_TYPES, query_pre_attn_scalar=20
            )
        case "gemma3":
            return Gemma3TextConfig(**_COMMON, sliding_window=24, layer_types=_LAYER_TYPES)
    raise ValueError(name)


def save_tiny_model(name: str, path: Path) -> Path:
    torch.manual_seed(sum(name.encode()))
    model = AutoModelForCausalLM.from_config(config_of(name), attn_implementation="eager")
    model.save_pretrained(path)
    return path


def generate(model: Any, prompt: list[int], num_tokens: int) -> list[int]:
    """The plain reference: transformers' own greedy generation."""
    out = model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        max_new_tokens=num_tokens,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    return out[0, len(prompt) :].tolist()
