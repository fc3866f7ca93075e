"""Llama 3's rotary scaling, which a GGUF file says by its result instead of its parameters."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from worker.engine.lean.rope import rope_of
from worker.models.errors import ModelUnavailable

ROPE_FACTORS = "rope_freqs.weight"
"""Tensor of what each frequency is divided by."""

_LLAMA3 = {
    "rope_type": "llama3",
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
"""As every Llama 3.1 to 3.3 was trained; the factor differs and is the largest in the tensor."""

_TOLERANCE = 1e-3


def scaled_rope(gguf_path: Path, plain: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters whose frequencies are those of the file.

    Args:
        gguf_path: a file that holds ROPE_FACTORS.
        plain: parameters without scaling; says the base.

    Raises:
        ModelUnavailable: the factors are not those of Llama 3.
    """
    from gguf import GGUFReader

    tensors = {tensor.name: tensor for tensor in GGUFReader(gguf_path).tensors}
    factors = np.asarray(tensors[ROPE_FACTORS].data, dtype=np.float64)
    base = float(plain.get("rope_theta", 10000.0))
    parameters = {**_LLAMA3, "rope_theta": base, "factor": float(factors.max())}
    head_dim = 2 * len(factors)
    unscaled = np.array(rope_of({"rope_theta": base}, head_dim).frequencies)
    expected = unscaled / np.array(rope_of(parameters, head_dim).frequencies)
    if not np.allclose(factors, expected, rtol=_TOLERANCE):
        raise ModelUnavailable(
            f"{gguf_path.name} scales its rotary embedding in a way that is not Llama 3's"
        )
    return parameters
