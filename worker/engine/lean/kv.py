"""The K/V pool of a Llama-like model, as its config and the settings want it."""

from __future__ import annotations

import torch

from services.core.blocks import BlockLayout
from worker.engine.int8_kv_pool import new_pool
from worker.engine.kv_pool import KvPool, block_bytes
from worker.engine.lean.load import LoadedWeights
from worker.engine.settings import EngineSettings


def pool_for(loaded: LoadedWeights, settings: EngineSettings) -> KvPool:
    """An empty pool in memory; at least one block, however little was allowed."""
    layout = layout_of(loaded, settings)
    return new_pool(layout, num_blocks_for(layout, settings), torch.device("cpu"))


def layout_of(loaded: LoadedWeights, settings: EngineSettings) -> BlockLayout:
    """Layout of the model's blocks."""
    config = loaded.config
    return BlockLayout(
        dtype=loaded.kv_dtype,
        num_layers=config.num_layers,
        num_kv_heads=config.num_kv_heads,
        head_dim=config.head_dim,
        block_size=settings.block_size,
    )


def num_blocks_for(layout: BlockLayout, settings: EngineSettings) -> int:
    """Blocks that the settings ask for; at least one."""
    return max(1, settings.num_blocks or settings.kv_bytes // block_bytes(layout))


def max_model_len_of(loaded: LoadedWeights, settings: EngineSettings) -> int:
    """Longest prompt plus answer: the model's, unless less was asked for."""
    most = loaded.config.max_model_len
    return min(most, settings.max_model_len or most)
