"""Which of the blocks that a cache service sent may be used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.core.blocks import BlockHash, BlockLayout, BlockPayload
from services.runtime.checksum import is_intact

_ITEM_BYTES = {"uint8": 1, "float16": 2, "bfloat16": 2, "float32": 4}


@dataclass(frozen=True, slots=True)
class CheckedBlocks:
    """Blocks up to the first that is not what was asked for.

    Attributes:
        fault: what is wrong with that one; empty if all are good.
    """

    blocks: Sequence[BlockPayload]
    fault: str = ""


def check_blocks(
    blocks: Sequence[BlockPayload], hashes: Sequence[BlockHash], layout: BlockLayout
) -> CheckedBlocks:
    """Checks hash, layout, size and checksum of each block.

    Reads every byte: not for the event loop.

    Args:
        blocks: as received, in order; may be fewer than asked for.
        hashes: as asked for.
        layout: of this engine.
    """
    layout_text, size_bytes = layout.text(), _block_bytes(layout)
    for num_good, block in enumerate(blocks):
        if num_good >= len(hashes):
            return CheckedBlocks(blocks[:num_good], "more blocks than asked for")
        fault = ""
        if block.block_hash != hashes[num_good]:
            fault = "another block than asked for"
        elif block.layout != layout_text:
            fault = f"layout {block.layout}, not {layout_text}"
        elif size_bytes is not None and len(block.data) != size_bytes:
            fault = f"{len(block.data)} bytes, not {size_bytes}"
        elif not is_intact(block):
            fault = "checksum does not match"
        if fault:
            return CheckedBlocks(blocks[:num_good], fault)
    return CheckedBlocks(blocks)


def _block_bytes(layout: BlockLayout) -> int | None:
    """None for a dtype that is unknown here: the engine then checks the size itself."""
    item_bytes = _ITEM_BYTES.get(layout.dtype)
    if item_bytes is None:
        return None
    values = layout.num_layers * layout.block_size * layout.num_kv_heads * layout.head_dim
    return 2 * values * item_bytes
