"""K/V blocks that lie in memory shared by the processes of one host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.core.blocks import BlockHash


@dataclass(frozen=True, slots=True)
class SharedName:
    """Which file: what its owner says to others.

    Attributes:
        nonce: 16 random bytes that its header has.
    """

    name: str
    nonce: bytes


@dataclass(frozen=True, slots=True)
class BlockHandle:
    """Where a block lies.

    Attributes:
        offset_bytes: of its bytes, in the file.
        generation: number at generation_offset_bytes as long as the bytes are this block's.
    """

    block_hash: BlockHash
    offset_bytes: int
    size_bytes: int
    generation: int
    generation_offset_bytes: int
    crc32: int


@dataclass(frozen=True, slots=True)
class StagedBlock:
    """A block that its sender has put into a file of its own."""

    block_hash: BlockHash
    parent_hash: BlockHash
    offset_bytes: int
    size_bytes: int
    crc32: int
    tenant: str


@dataclass(frozen=True, slots=True)
class StagedOffer:
    """Blocks of one layout in a sender's file."""

    memory: SharedName
    layout: str
    blocks: Sequence[StagedBlock]
