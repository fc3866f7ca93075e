"""What config.json says about a Llama-like model, in one vocabulary for all families."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worker.engine.lean.rope import Rope, rope_of

ARCHITECTURES = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "mistral",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
    "Gemma3ForCausalLM": "gemma3",
}
"""Architectures that the lean path knows, and their families."""

_ACTIVATIONS = {"silu": "silu", "swish": "silu", "gelu_pytorch_tanh": "gelu_tanh"}


class NotLean(Exception):
    """The lean path does not compute this model; the general path may."""


@dataclass(frozen=True, slots=True)
class LeanConfig:
    """A Llama-like model.

    Attributes:
        norm_offset: added to every norm's weight before it scales: Gemma stores it less one.
        activation: silu or gelu_tanh, of the gate.
        attention_scale: factor of the scores.
        embedding_scale: factor of the embeddings.
        logit_softcap: logits are squeezed into (-c, c); None leaves them.
        score_softcap: likewise for attention scores.
        windows: per layer, how many tokens back a token sees, itself included; None sees all.
        ropes: per layer, how positions turn queries and keys.
        is_sandwiched: norms also follow attention and MLP, before they are added.
        is_tied: the output layer is the embedding.
    """

    architecture: str
    vocab_size: int
    hidden_size: int
    ffn_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_model_len: int
    norm_eps: float
    norm_offset: float
    activation: str
    attention_scale: float
    embedding_scale: float
    logit_softcap: float | None
    score_softcap: float | None
    windows: tuple[int | None, ...]
    ropes: tuple[Rope, ...]
    is_sandwiched: bool
    is_tied: bool

    @property
    def q_size(self) -> int:
        """Values of a token's query, all heads."""
        return self.num_heads * self.head_dim

    @property
    def kv_size(self) -> int:
        """Values of a token's key, all heads."""
        return self.num_kv_heads * self.head_dim


def read_config(model_dir: Path) -> LeanConfig:
    """Reads config.json.

    Raises:
        NotLean: an architecture, or a feature of one, that the lean path lacks.
    """
    raw: dict[str, Any] = json.loads((model_dir / "config.json").read_text(encoding="utf-8"))
    architecture = (raw.get("architectures") or ["?"])[0]
    family = ARCHITECTURES.get(architecture)
    if family is None:
        raise NotLean(f"architecture {architecture}")
    is_gemma = family == "gemma3"
    hidden_size, num_layers = raw["hidden_size"], raw["num_hidden_layers"]
    num_heads = raw["num_attention_heads"]
    head_dim = raw.get("head_dim") or _default_head_dim(family, hidden_size, num_heads)
    kinds = _layer_kinds(raw, family, num_layers)
    scalar = raw.get("query_pre_attn_scalar", 256) if is_gemma else head_dim
    return LeanConfig(
        architecture=architecture,
        vocab_size=raw["vocab_size"],
        hidden_size=hidden_size,
        ffn_size=raw["intermediate_size"],
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=raw.get("num_key_value_heads") or num_heads,
        head_dim=head_dim,
        max_model_len=raw["max_position_embeddings"],
        norm_eps=raw.get("rms_norm_eps", 1e-6),
        norm_offset=1.0 if is_gemma else 0.0,
        activation=_activation(raw, is_gemma),
        attention_scale=scalar**-0.5,
        embedding_scale=hidden_size**0.5 if is_gemma else 1.0,
        logit_softcap=raw.get("final_logit_softcapping") if is_gemma else None,
        score_softcap=raw.get("attn_logit_softcapping") if is_gemma else None,
        windows=tuple(
            raw.get("sliding_window") if kind == "sliding_attention" else None for kind in kinds
        ),
        ropes=tuple(_rope(raw, kind, head_dim) for kind in kinds),
        is_sandwiched=is_gemma,
        is_tied=raw.get("tie_word_embeddings", is_gemma),
    )


def _default_head_dim(family: str, hidden_size: int, num_heads: int) -> int:
    return {"qwen3": 128, "gemma3": 256}.get(family, hidden_size // num_heads)


def _activation(raw: dict[str, Any], is_gemma: bool) -> str:
    name = raw.get("hidden_activation" if is_gemma else "hidden_act")
    name = name or ("gelu_pytorch_tanh" if is_gemma else "silu")
    if name not in _ACTIVATIONS:
        raise NotLean(f"activation {name}")
    return _ACTIVATIONS[name]


def _layer_kinds(raw: dict[str, Any], family: str, num_layers: int) -> list[str]:
    kinds = raw.get("layer_types")
    if kinds:
        unknown = set(kinds) - {"sliding_attention", "full_attention"}
        if unknown or len(kinds) != num_layers:
            raise NotLean(f"layer types {sorted(set(kinds))}")
        return kinds
    match family:
        case "gemma3":
            pattern = raw.get("sliding_window_pattern", 6)
            is_sliding = [(i + 1) % pattern != 0 for i in range(num_layers)]
        case "mistral":
            is_sliding = [raw.get("sliding_window") is not None] * num_layers
        case "qwen2" | "qwen3":
            first = raw.get("max_window_layers", 28)
            is_sliding = [
                bool(raw.get("use_sliding_window")) and i >= first for i in range(num_layers)
            ]
        case _:
            is_sliding = [False] * num_layers
    return ["sliding_attention" if sliding else "full_attention" for sliding in is_sliding]


def _rope(raw: dict[str, Any], kind: str, head_dim: int) -> Rope:
    parameters = raw.get("rope_parameters")
    if parameters:
        # Gemma keeps one set per kind of layer.
        parameters = parameters.get(kind, parameters)
    elif kind == "sliding_attention" and "rope_local_base_freq" in raw:
        parameters = {"rope_theta": raw["rope_local_base_freq"]}
    else:
        parameters = {
            "rope_theta": raw.get("rope_theta", 10000.0),
            **(raw.get("rope_scaling") or {}),
        }
    if raw.get("partial_rotary_factor", 1.0) != 1.0:
        raise NotLean("partial rotary embedding")
    try:
        return rope_of(parameters, head_dim)
    except ValueError as exc:
        raise NotLean(str(exc)) from exc
