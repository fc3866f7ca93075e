from __future__ import annotations

import torch

from services.core.blocks import BlockLayout
from worker.engine.int8_kv_pool import Int8KvPool, new_pool
from worker.engine.kv_pool import block_bytes

LAYOUT = BlockLayout(dtype="int8", num_layers=2, num_kv_heads=3, head_dim=16, block_size=5)


def _written_pool(seed: int) -> Int8KvPool:
    pool = new_pool(LAYOUT, 4, torch.device("cpu"))
    assert isinstance(pool, Int8KvPool)
    generator = torch.Generator().manual_seed(seed)
    for layer_idx in range(2):
        keys, values = torch.randn(2, 20, 3, 16, generator=generator)
        pool.write(layer_idx, torch.arange(20), keys, values)
    return pool


def test_tokens_come_back_within_half_a_step():
    pool = new_pool(LAYOUT, 4, torch.device("cpu"))
    keys, values = torch.randn(2, 3, 3, 16, generator=torch.Generator().manual_seed(0))
    pool.write(1, torch.tensor([7, 5, 19]), keys, values)
    gathered_keys, gathered_values = pool.gather(1, torch.tensor([1, 3]))
    rows = [2, 0, 9]
    for gathered, expected in ((gathered_keys, keys), (gathered_values, values)):
        half_steps = expected.abs().amax(dim=-1, keepdim=True) / 254
        assert ((gathered[rows] - expected).abs() <= half_steps * 1.001).all()


def test_a_block_survives_the_way_out_and_in():
    pool, other = _written_pool(1), _written_pool(2)
    content = pool.export_block(3)
    assert len(content) == block_bytes(LAYOUT)
    before = other.gather(0, torch.tensor([0]))
    other.import_block(1, memoryview(content))
    for layer_idx in range(2):
        for gathered, expected in zip(
            other.gather(layer_idx, torch.tensor([1])),
            pool.gather(layer_idx, torch.tensor([3])),
            strict=True,
        ):
            assert torch.equal(gathered, expected)
    assert torch.equal(other.gather(0, torch.tensor([0]))[0], before[0])
