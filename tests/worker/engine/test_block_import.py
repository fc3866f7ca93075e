import hashlib
from dataclasses import replace

import pytest

from services.core.blocks import BlockPayload
from worker.engine.block_import import import_into_pool
from worker.engine.block_pool import BlockPool
from worker.engine.fake_engine import FakeModel, FakeRunner
from worker.engine.settings import EngineSettings

NUM_BLOCKS = 12
RUNNER = FakeRunner(FakeModel(vocab_size=1000), EngineSettings(num_blocks=NUM_BLOCKS))


def payload(number: int) -> BlockPayload:
    content = bytes([number]) * RUNNER.block_bytes
    name = hashlib.blake2b(bytes([number]), digest_size=16).digest()
    return BlockPayload(name, b"", RUNNER.layout.text(), "tenant", content, 0)


def found(pool: BlockPool, blocks: list[BlockPayload]) -> list[bytes]:
    """Contents of the blocks that are found, in order."""
    hit = pool.match([block.block_hash for block in blocks])
    return [RUNNER.export_block(block_id) for block_id in hit.block_ids]


@pytest.mark.parametrize("num_blocks", [1, 3, 4, 9, NUM_BLOCKS])
def test_blocks_are_found_with_their_own_bytes(num_blocks: int):
    pool, blocks = BlockPool(NUM_BLOCKS), [payload(number) for number in range(num_blocks)]
    import_into_pool(pool, RUNNER, blocks)
    assert found(pool, blocks) == [block.data for block in blocks]
    assert pool.num_free == NUM_BLOCKS


@pytest.mark.parametrize("bad", range(9))
@pytest.mark.parametrize("fault", ["overwritten", "wrong size", "another layout"])
def test_those_before_a_bad_one_are_found_and_no_other(bad: int, fault: str):
    pool, blocks = BlockPool(NUM_BLOCKS), [payload(number) for number in range(9)]
    good = list(blocks)
    match fault:
        case "overwritten":
            blocks[bad] = replace(blocks[bad], is_current=lambda: False)
        case "wrong size":
            blocks[bad] = replace(blocks[bad], data=b"short")
        case _:
            blocks[bad] = replace(blocks[bad], layout="another")
    import_into_pool(pool, RUNNER, blocks)
    assert found(pool, good) == [block.data for block in good[:bad]]
    assert pool.num_free == NUM_BLOCKS


def test_a_block_that_comes_twice_takes_one_place():
    pool, block = BlockPool(NUM_BLOCKS), payload(1)
    import_into_pool(pool, RUNNER, [block, payload(2), block])
    import_into_pool(pool, RUNNER, [block])
    assert pool.num_reusable == 2


def test_what_does_not_fit_is_left_out():
    pool = BlockPool(NUM_BLOCKS)
    blocks = [payload(number) for number in range(NUM_BLOCKS + 3)]
    import_into_pool(pool, RUNNER, blocks)
    assert len(found(pool, blocks)) == NUM_BLOCKS
