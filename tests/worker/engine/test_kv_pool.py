import pytest
import torch

from services.core.blocks import BlockLayout
from worker.engine.kv_pool import KvPool, block_bytes


def _pool(dtype: str) -> KvPool:
    layout = BlockLayout(dtype=dtype, num_layers=2, num_kv_heads=3, head_dim=4, block_size=5)
    pool = KvPool(layout, 6, torch.device("cpu"))
    pool.keys.copy_(torch.randn(pool.keys.shape))
    pool.values.copy_(torch.randn(pool.values.shape))
    return pool


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_block_survives_the_way_out_and_in(dtype: str):
    pool, other = _pool(dtype), _pool(dtype)
    content = pool.export_block(3)
    assert len(content) == block_bytes(pool.layout)
    other.import_block(1, memoryview(content))
    assert torch.equal(other.keys[:, 1], pool.keys[:, 3])
    assert torch.equal(other.values[:, 1], pool.values[:, 3])


def test_the_bytes_are_k_then_v_by_layer():
    pool = _pool("float32")
    content = torch.frombuffer(bytearray(pool.export_block(2)), dtype=torch.float32)
    keys, values = content.view(2, 2, 5, 3, 4)
    assert torch.equal(keys, pool.keys[:, 2])
    assert torch.equal(values, pool.values[:, 2])


def test_an_import_touches_no_other_block():
    pool = _pool("float32")
    before = pool.keys.clone()
    pool.import_block(1, _pool("float32").export_block(0))
    assert torch.equal(pool.keys[:, [0, 2, 3, 4, 5]], before[:, [0, 2, 3, 4, 5]])


def test_a_block_of_another_size_is_refused():
    pool = _pool("float32")
    with pytest.raises(ValueError, match="block has 3 bytes"):
        pool.import_block(0, b"abc")


def test_tokens_are_gathered_as_they_were_written():
    pool = _pool("float32")
    keys, values = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    pool.write(1, torch.tensor([4 * 5 + 2, 2 * 5 + 0]), keys, values)
    gathered_keys, gathered_values = pool.gather(1, torch.tensor([2, 4]))
    assert torch.equal(gathered_keys[[7, 0]], keys)
    assert torch.equal(gathered_values[[7, 0]], values)
