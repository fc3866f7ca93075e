"""The memory of the K/V blocks."""

from __future__ import annotations

import numpy as np
import torch

from services.core.blocks import BlockLayout

TORCH_DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "int8": torch.int8,
}


def block_bytes(layout: BlockLayout) -> int:
    """Bytes of one block, K and V of all layers."""
    num_heads = layout.num_layers * layout.block_size * layout.num_kv_heads
    num_bytes = 2 * num_heads * layout.head_dim * TORCH_DTYPES[layout.dtype].itemsize
    # int8 has a float32 scale for each token and head.
    return num_bytes + 2 * num_heads * 4 if layout.dtype == "int8" else num_bytes


def check_size(content: bytes | memoryview, expected: int) -> None:
    """Raises ValueError if a block's content is not of the expected size."""
    if len(content) != expected:
        raise ValueError(f"block has {len(content)} bytes; expected {expected}")


class KvPool:
    """K and V of all blocks and layers.

    keys, values: (num_layers, num_blocks, block_size, num_kv_heads, head_dim). Layer first, because
    a step reads many blocks of one layer; only a block's way out gathers it over the layers.
    Spare blocks follow the others and are not counted: no sequence gets them.
    """

    def __init__(
        self, layout: BlockLayout, num_blocks: int, device: torch.device, *, num_spare: int = 0
    ) -> None:
        self.layout = layout
        self.num_blocks = num_blocks
        shape = (
            layout.num_layers,
            num_blocks + num_spare,
            layout.block_size,
            layout.num_kv_heads,
            layout.head_dim,
        )
        dtype = TORCH_DTYPES[layout.dtype]
        self.compute_dtype = dtype
        """Type of what `gather` gives and `write` takes."""
        # Ordinary tensors, also if made under inference mode: imports write to them outside of it.
        with torch.inference_mode(False):
            self.keys = torch.zeros(shape, dtype=dtype, device=device)
            self.values = torch.zeros(shape, dtype=dtype, device=device)
            self._planes = [
                tensor.view(torch.uint8).flatten(2).numpy()
                for tensor in (self.keys, self.values)
                if device.type == "cpu"
            ]

    def write(
        self, layer_idx: int, slots: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
    ) -> None:
        """Stores new tokens' K and V.

        Args:
            layer_idx: which layer.
            slots: (num_tokens,) int64; block id * block_size + offset.
            keys: (num_tokens, num_kv_heads, head_dim).
            values: like keys.
        """
        self.keys[layer_idx].flatten(0, 1).index_copy_(0, slots, keys)
        self.values[layer_idx].flatten(0, 1).index_copy_(0, slots, values)

    def gather(self, layer_idx: int, block_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """K and V of some blocks of one layer, copied: (num_tokens, num_kv_heads, head_dim)."""
        keys = self.keys[layer_idx].index_select(0, block_ids).flatten(0, 1)
        values = self.values[layer_idx].index_select(0, block_ids).flatten(0, 1)
        return keys, values

    def export_block(self, block_id: int) -> bytes:
        """One block's bytes: K then V, each (num_layers, block_size, num_kv_heads, head_dim)."""
        block = torch.stack((self.keys[:, block_id], self.values[:, block_id]))
        return block.contiguous().view(torch.uint8).cpu().numpy().tobytes()

    def import_block(self, block_id: int, content: bytes | memoryview) -> None:
        """Overwrites one block.

        Raises:
            ValueError: not the size of a block.
        """
        check_size(content, block_bytes(self.layout))
        self._set_values(block_id, content)

    def _set_values(self, block_id: int, content: bytes | memoryview) -> None:
        if self._planes:
            halves = np.frombuffer(content, np.uint8).reshape(2, self.layout.num_layers, -1)
            for plane, half in zip(self._planes, halves, strict=True):
                plane[:, block_id] = half
            return
        # A copy, since torch cannot own memory that is read-only.
        block = torch.frombuffer(bytearray(content), dtype=self.keys.dtype)
        keys, values = block.view(2, *self.keys[:, block_id].shape).to(self.keys.device)
        self.keys[:, block_id] = keys
        self.values[:, block_id] = values
