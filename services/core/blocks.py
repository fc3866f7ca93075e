"""K/V blocks under chained hashes.

A block's hash names its tokens and all tokens before it, the model, the precision, the layout
and the tenant. So equal hashes mean equal K/V, and strangers share nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from struct import pack

BLOCK_HASH_BYTES = 16
BlockHash = bytes


@dataclass(frozen=True, slots=True)
class BlockLayout:
    """Meaning of a block's bytes.

    One block is K then V, each (num_layers, block_size, num_kv_heads, head_dim), C order.
    """

    dtype: str
    num_layers: int
    num_kv_heads: int
    head_dim: int
    block_size: int

    def text(self) -> str:
        """Canonical text; equal texts mean exchangeable bytes."""
        return (
            f"kv1:{self.dtype}:layers={self.num_layers}:kv_heads={self.num_kv_heads}"
            f":head_dim={self.head_dim}:block={self.block_size}"
        )


@dataclass(frozen=True, slots=True)
class BlockPayload:
    """A block's bytes with what a reader checks before use.

    Attributes:
        head: first block of its chain, for who chooses where it is kept; not sent along.
    """

    block_hash: BlockHash
    parent_hash: BlockHash
    layout: str
    tenant: str
    data: bytes | memoryview
    crc32: int
    head: BlockHash = field(default=b"", compare=False)


def chain_root(*, model_revision: str, layout: str, adapter: str, tenant: str) -> BlockHash:
    """Start of a chain: two chains meet only if all four are equal.

    Args:
        model_revision: digest of the weights, not a name.
        layout: BlockLayout.text().
        adapter: LoRA name; empty if none.
        tenant: whose tokens these are.
    """
    digest = blake2b(digest_size=BLOCK_HASH_BYTES, person=b"tokenmill-kv")
    for part in (model_revision, layout, adapter, tenant):
        encoded = part.encode()
        # Length first: ("ab", "c") must not meet ("a", "bc").
        digest.update(pack("<I", len(encoded)))
        digest.update(encoded)
    return digest.digest()


def next_block_hash(parent: BlockHash, token_ids: Sequence[int]) -> BlockHash:
    """Hash of the full block that follows `parent`."""
    return blake2b(
        pack(f"<{len(token_ids)}I", *token_ids), digest_size=BLOCK_HASH_BYTES, key=parent
    ).digest()


def block_hashes(root: BlockHash, token_ids: Sequence[int], block_size: int) -> list[BlockHash]:
    """Hashes of all full blocks of a prompt, first block first."""
    hashes: list[BlockHash] = []
    parent = root
    for start in range(0, len(token_ids) - block_size + 1, block_size):
        parent = next_block_hash(parent, token_ids[start : start + block_size])
        hashes.append(parent)
    return hashes
