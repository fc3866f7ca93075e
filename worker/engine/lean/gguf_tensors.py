"""The tensors of a GGUF file under the names and in the layout of a Hugging Face directory.

The file is mapped, and a tensor is taken out of its blocks when it is asked for: nothing is written
to disk, and no more of the model is in memory in float32 than its caller holds.
"""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import torch

from worker.engine.lean.config import LeanConfig, NotLean
from worker.models.gguf_rope import ROPE_FACTORS

_SUFFIXES = (".weight", ".bias")
_INTERLEAVED = ("attn_q", "attn_k")
"""What llama.cpp keeps with the two values of a rotated pair side by side, for `llama` alone."""


class GgufTensors:
    """A TensorSource over a GGUF file; every tensor comes as float32.

    Raises:
        NotLean: an architecture without a table of names.
    """

    def __init__(self, path: Path, config: LeanConfig) -> None:
        reader = gguf.GGUFReader(path)
        field = reader.fields.get(gguf.Keys.General.ARCHITECTURE)
        self._architecture = "?" if field is None else str(field.contents())
        kinds = {name: kind for kind, name in gguf.MODEL_ARCH_NAMES.items()}
        if self._architecture not in kinds:
            raise NotLean(f"GGUF architecture {self._architecture}")
        self._names = gguf.get_tensor_name_map(kinds[self._architecture], config.num_layers)
        self._tensors = {tensor.name: tensor for tensor in reader.tensors}
        # What the factors say is in the configuration.
        self._unread = set(self._tensors) - {ROPE_FACTORS}
        self._config = config

    def get(self, name: str) -> torch.Tensor:
        """A tensor that must be there."""
        tensor = self.find(name)
        if tensor is None:
            raise NotLean(f"tensor {name} is missing")
        return tensor

    def find(self, name: str) -> torch.Tensor | None:
        """A tensor that may be there."""
        own_name = self._names.get_name(name, try_suffixes=_SUFFIXES)
        tensor = None if own_name is None else self._tensors.get(own_name)
        if own_name is None or tensor is None:
            return None
        self._unread.discard(own_name)
        try:
            values = gguf.dequantize(tensor.data, tensor.tensor_type)
        except NotImplementedError as exc:
            raise NotLean(f"{own_name} in {tensor.tensor_type.name}") from exc
        if self._architecture == "llama" and any(part in own_name for part in _INTERLEAVED):
            num_heads = (
                self._config.num_heads if "attn_q" in own_name else self._config.num_kv_heads
            )
            values = _apart(values, num_heads)
        if self._architecture == "gemma3" and own_name.endswith("norm.weight"):
            # llama.cpp stores Gemma's norms with the one that the model adds.
            values = values - 1
        # A copy: what is mapped cannot be written to, as torch expects of its memory.
        return torch.from_numpy(np.array(values, dtype=np.float32))

    def check_all_read(self) -> None:
        """What nobody asked for would change the answers: such a model is not ours to run."""
        if self._unread:
            raise NotLean(f"{len(self._unread)} unknown tensors, {min(self._unread)} among them")


def _apart(values: np.ndarray, num_heads: int) -> np.ndarray:
    """From (value, partner) pairs side by side to a head's first halves before its second ones."""
    pairs = values.reshape(num_heads, values.shape[0] // num_heads // 2, 2, *values.shape[1:])
    return pairs.swapaxes(1, 2).reshape(values.shape)
