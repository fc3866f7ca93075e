"""K/V blocks under chained hashes.

A block's hash names its tokens and all tokens before it, the model, the precision, the layout,
the tenant and a secret of the cluster. So equal hashes mean equal K/V, and strangers share nothing,
but for the beginnings of prompts that an operator declared public.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from struct import pack

BLOCK_HASH_BYTES = 16
BlockHash = bytes

PUBLIC_TENANT = "~public"
"""Whose the blocks that all share are; no tenant can be called so."""


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


def _always() -> bool:
    return True


@dataclass(frozen=True, slots=True)
class BlockPayload:
    """A block's bytes with what a reader checks before use.

    Attributes:
        head: first block of its chain, for who chooses where it is kept; not sent along.
        is_current: whether the bytes are still this block's, for those that lie in memory of
            another process. To be asked after they were copied.
    """

    block_hash: BlockHash
    parent_hash: BlockHash
    layout: str
    tenant: str
    data: bytes | memoryview
    crc32: int
    head: BlockHash = field(default=b"", compare=False)
    is_current: Callable[[], bool] = field(default=_always, compare=False)


@dataclass(frozen=True, slots=True)
class PublicBlocks:
    """Blocks that all tenants share: of prompts that an operator declared public.

    Attributes:
        root: where their chains start.
        hashes: all of them; who is not among them is not public, whatever its tokens.
    """

    root: BlockHash = b""
    hashes: frozenset[BlockHash] = frozenset()


NOTHING_PUBLIC = PublicBlocks()


def chain_root(
    *, model_revision: str, layout: str, adapter: str, tenant: str, secret: bytes = b""
) -> BlockHash:
    """Start of a chain: two chains meet only if all five are equal.

    Args:
        model_revision: digest of the weights, not a name.
        layout: BlockLayout.text().
        adapter: LoRA name; empty if none.
        tenant: whose tokens these are.
        secret: of the cluster, at most 64 bytes: without it nobody can tell a block's hash from its
            text.
    """
    digest = blake2b(digest_size=BLOCK_HASH_BYTES, key=secret, person=b"tokenmill-kv")
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


def extend_chain(
    hashes: list[BlockHash],
    token_ids: Sequence[int],
    num_blocks: int,
    block_size: int,
    *,
    root: BlockHash,
    public: PublicBlocks = NOTHING_PUBLIC,
) -> None:
    """Hashes more full blocks of a chain.

    Args:
        hashes: of its first blocks; grows to num_blocks.
        token_ids: from the first block on; at least num_blocks * block_size.
        num_blocks: full blocks to be named.
        block_size: tokens of each.
        root: the tenant's.
        public: a chain keeps to these for as long as its blocks are among them, and then goes on
            from there under the tenant's root.
    """
    while len(hashes) < num_blocks:
        start = len(hashes) * block_size
        tokens = token_ids[start : start + block_size]
        parent = hashes[-1] if hashes else root
        if public.hashes and (not hashes or parent in public.hashes):
            candidate = next_block_hash(hashes[-1] if hashes else public.root, tokens)
            if candidate in public.hashes:
                hashes.append(candidate)
                continue
            if hashes:
                parent = blake2b(parent, digest_size=BLOCK_HASH_BYTES, key=root).digest()
        hashes.append(next_block_hash(parent, tokens))


def block_hashes(
    root: BlockHash,
    token_ids: Sequence[int],
    block_size: int,
    public: PublicBlocks = NOTHING_PUBLIC,
) -> list[BlockHash]:
    """Hashes of all full blocks of a prompt, first block first."""
    hashes: list[BlockHash] = []
    extend_chain(
        hashes, token_ids, len(token_ids) // block_size, block_size, root=root, public=public
    )
    return hashes
