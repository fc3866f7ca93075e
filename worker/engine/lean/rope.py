"""Rotary position embedding: which angle each pair of values turns by."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Rope:
    """Angles per position of the head_dim / 2 pairs (value i turns with value i + head_dim / 2)."""

    frequencies: tuple[float, ...]


def rope_of(parameters: Mapping[str, Any], head_dim: int) -> Rope:
    """Frequencies for a config's parameters.

    Raises:
        ValueError: a kind whose frequencies depend on the sequence, or that is not known.

    Source: RoFormer, Su et al. 2021; Llama 3.1's scaling as in its model card.
    """
    if parameters.get("partial_rotary_factor", 1.0) != 1.0:
        raise ValueError("partial rotary embedding")
    base = float(parameters.get("rope_theta", 10000.0))
    plain = [base ** -(2 * i / head_dim) for i in range(head_dim // 2)]
    kind = parameters.get("rope_type", parameters.get("type", "default"))
    match kind:
        case "default":
            scaled = plain
        case "linear":
            scaled = [frequency / float(parameters["factor"]) for frequency in plain]
        case "llama3":
            scaled = [_llama3(frequency, parameters) for frequency in plain]
        case _:
            raise ValueError(f"rope type {kind}")
    return Rope(tuple(scaled))


def _llama3(frequency: float, parameters: Mapping[str, Any]) -> float:
    """Long waves are stretched by the factor, short ones stay, between the two it blends."""
    factor = float(parameters["factor"])
    low, high = float(parameters["low_freq_factor"]), float(parameters["high_freq_factor"])
    turns = float(parameters["original_max_position_embeddings"]) * frequency / (2 * math.pi)
    if turns <= low:
        return frequency / factor
    if turns >= high:
        return frequency
    blend = (turns - low) / (high - low)
    return (1 - blend) * frequency / factor + blend * frequency
