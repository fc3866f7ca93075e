from hypothesis import given
from hypothesis import strategies as st

from services.core.blocks import BlockLayout, block_hashes, chain_root

LAYOUT = BlockLayout(dtype="bf16", num_layers=2, num_kv_heads=1, head_dim=4, block_size=4)
ROOT = chain_root(model_revision="rev", layout=LAYOUT.text(), adapter="", tenant="a")
TOKENS = st.lists(st.integers(0, 2**32 - 1), max_size=40)


def test_only_full_blocks_are_hashed():
    assert len(block_hashes(ROOT, range(11), 4)) == 2


@given(TOKENS, TOKENS)
def test_equal_prefixes_share_leading_hashes_and_nothing_else(left: list[int], right: list[int]):
    shared = 0
    for a, b in zip(left, right, strict=False):
        if a != b:
            break
        shared += 1
    left_hashes, right_hashes = block_hashes(ROOT, left, 4), block_hashes(ROOT, right, 4)
    assert left_hashes[: shared // 4] == right_hashes[: shared // 4]
    assert not set(left_hashes[shared // 4 :]) & set(right_hashes[shared // 4 :])


def test_tenants_share_no_block_even_for_equal_tokens():
    other = chain_root(model_revision="rev", layout=LAYOUT.text(), adapter="", tenant="b")
    assert not set(block_hashes(ROOT, range(16), 4)) & set(block_hashes(other, range(16), 4))


def test_borders_between_root_parts_cannot_be_shifted():
    left = chain_root(model_revision="ab", layout="c", adapter="", tenant="")
    right = chain_root(model_revision="a", layout="bc", adapter="", tenant="")
    assert left != right
