"""K/V blocks in int8: half the memory of bfloat16, a scale for each token and head."""

from __future__ import annotations

import torch

from services.core.blocks import BlockLayout
from worker.engine.kv_pool import KvPool, block_bytes, check_size


class Int8KvPool(KvPool):
    """A KvPool whose values are rounded as they are written.

    keys, values: as in KvPool, int8. key_scales, value_scales: (num_layers, num_blocks, block_size,
    num_kv_heads, 1) float32. A token is rounded by itself, so it has the same bits in any company.
    """

    def __init__(self, layout: BlockLayout, num_blocks: int, device: torch.device) -> None:
        super().__init__(layout, num_blocks, device)
        self.compute_dtype = torch.float32
        shape = (*self.keys.shape[:-1], 1)
        with torch.inference_mode(False):
            self.key_scales = torch.zeros(shape, device=device)
            self.value_scales = torch.zeros(shape, device=device)

    def write(
        self, layer_idx: int, slots: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
    ) -> None:
        """Stores new tokens' K and V, as KvPool does, rounded."""
        key_codes, key_scales = _round(keys)
        value_codes, value_scales = _round(values)
        super().write(layer_idx, slots, key_codes, value_codes)
        self.key_scales[layer_idx].flatten(0, 1).index_copy_(0, slots, key_scales)
        self.value_scales[layer_idx].flatten(0, 1).index_copy_(0, slots, value_scales)

    def gather(self, layer_idx: int, block_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """K and V of some blocks of one layer: (num_tokens, num_kv_heads, head_dim) float32."""
        keys, values = super().gather(layer_idx, block_ids)
        key_scales = self.key_scales[layer_idx].index_select(0, block_ids).flatten(0, 1)
        value_scales = self.value_scales[layer_idx].index_select(0, block_ids).flatten(0, 1)
        return keys * key_scales, values * value_scales

    def export_block(self, block_id: int) -> bytes:
        """One block's bytes: codes as in KvPool, then the scales of K and of V."""
        scales = torch.stack((self.key_scales[:, block_id], self.value_scales[:, block_id]))
        return super().export_block(block_id) + scales.cpu().numpy().tobytes()

    def import_block(self, block_id: int, content: bytes | memoryview) -> None:
        """Overwrites one block.

        Raises:
            ValueError: not the size of a block.
        """
        check_size(content, block_bytes(self.layout))
        num_codes = 2 * self.keys[:, block_id].numel()
        self._set_values(block_id, content[:num_codes])
        scales = torch.frombuffer(bytearray(content[num_codes:]), dtype=torch.float32)
        shape = self.key_scales[:, block_id].shape
        keys, values = scales.view(2, *shape).to(self.keys.device)
        self.key_scales[:, block_id] = keys
        self.value_scales[:, block_id] = values


def new_pool(layout: BlockLayout, num_blocks: int, device: torch.device) -> KvPool:
    """The pool for a layout."""
    return (Int8KvPool if layout.dtype == "int8" else KvPool)(layout, num_blocks, device)


def _round(heads: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    heads = heads.to(torch.float32)
    scales = heads.abs().amax(dim=-1, keepdim=True).div_(127).clamp_min_(1e-30)
    return (heads / scales).round_().to(torch.int8), scales
