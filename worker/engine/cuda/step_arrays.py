"""A step as lists of numbers, before any of it is on the device. Pure.

Output tokens attend one by one, prompt tokens by slice, never both in one call: so a token's K/V
and logits come from the same kernel, in the same shapes, whatever else is in the step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from worker.engine.step_plan import SequenceSlice


@dataclass(slots=True)
class DecodeRows:
    """Output tokens, one row each.

    Attributes:
        token_ids, positions: of each row.
        slots: block id * block_size + offset, where its K/V goes.
        tables: its sequence's blocks up to and including that of its position.
    """

    token_ids: list[int] = field(default_factory=list[int])
    positions: list[int] = field(default_factory=list[int])
    slots: list[int] = field(default_factory=list[int])
    tables: list[Sequence[int]] = field(default_factory=list[Sequence[int]])

    def __len__(self) -> int:
        return len(self.token_ids)


@dataclass(slots=True)
class PrefillRows:
    """Prompt tokens, slice after slice.

    Attributes:
        token_ids, positions, slots: of each row, as in DecodeRows.
        lengths: rows of each slice.
        ends: position after the last row of each slice: how many tokens it attends to.
        tables: blocks of each slice's sequence.
    """

    token_ids: list[int] = field(default_factory=list[int])
    positions: list[int] = field(default_factory=list[int])
    slots: list[int] = field(default_factory=list[int])
    lengths: list[int] = field(default_factory=list[int])
    ends: list[int] = field(default_factory=list[int])
    tables: list[Sequence[int]] = field(default_factory=list[Sequence[int]])

    def __len__(self) -> int:
        return len(self.token_ids)


@dataclass(slots=True)
class StepArrays:
    """A step: its decode rows come first."""

    decodes: DecodeRows
    prefills: PrefillRows

    @property
    def num_rows(self) -> int:
        """All rows."""
        return len(self.decodes) + len(self.prefills)


def arrays_of(slices: Sequence[SequenceSlice], block_size: int) -> StepArrays:
    """Lays slices out; decodes must come before prefills."""
    decodes, prefills = DecodeRows(), PrefillRows()
    for piece in slices:
        start, end = piece.start, piece.start + piece.num_tokens
        table = piece.seq.block_table
        rows = prefills if piece.is_prefill else decodes
        rows.token_ids.extend(piece.token_ids)
        rows.positions.extend(range(start, end))
        rows.slots.extend(slot_of(table, p, block_size) for p in range(start, end))
        if piece.is_prefill:
            prefills.lengths.append(piece.num_tokens)
            prefills.ends.append(end)
            prefills.tables.append(table[: num_blocks_for(end, block_size)])
        else:
            decodes.tables.extend(
                table[: num_blocks_for(p + 1, block_size)] for p in range(start, end)
            )
    return StepArrays(decodes, prefills)


def slot_of(block_table: Sequence[int], position: int, block_size: int) -> int:
    """Physical K/V slot of a position.

    Raises:
        IndexError: position beyond the table.
    """
    return block_table[position // block_size] * block_size + position % block_size


def num_blocks_for(num_tokens: int, block_size: int) -> int:
    """Blocks that hold so many tokens."""
    return -(-num_tokens // block_size)
