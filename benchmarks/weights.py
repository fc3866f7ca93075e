"""What a model's weights weigh, read from the headers of its files."""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class WeightCount:
    """Parameters of a model.

    Attributes:
        num_total: each once; tied ones are one.
        num_embedding: of the input embedding, which is also the output layer when tied.
        is_tied: the output layer is the embedding.
    """

    num_total: int
    num_embedding: int
    is_tied: bool

    @property
    def num_read_per_step(self) -> int:
        """Parameters that a decode step must read: all but an untied embedding's."""
        return self.num_total - (0 if self.is_tied else self.num_embedding)

    @property
    def num_per_prompt_token(self) -> int:
        """Parameters that a prompt token is multiplied with: the output layer is for the last."""
        return self.num_total - self.num_embedding * (1 if self.is_tied else 2)


def count_weights(model_dir: Path) -> WeightCount:
    """Counts the parameters of a directory of safetensors."""
    num_total = num_embedding = 0
    has_output = False
    for path in sorted(model_dir.glob("*.safetensors")):
        with path.open("rb") as file:
            (header_size,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(header_size))
        for name, tensor in header.items():
            if name == "__metadata__":
                continue
            count = math.prod(tensor["shape"])
            num_total += count
            if name.endswith("embed_tokens.weight"):
                num_embedding = count
            has_output |= name.startswith("lm_head")
    return WeightCount(num_total, num_embedding, is_tied=not has_output)
