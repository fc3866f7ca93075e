"""The next step, prepared while this one runs. Pure.

Nearly every step of a busy engine is followed by one that decodes the same sequences, each one
token further. All of that step but its token ids is known before this step's tokens are, so it is
laid out on the CPU while the device computes. If the scheduler then decides otherwise, nothing is
lost but that work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from worker.engine.cuda.step_arrays import DecodeRows, slot_of
from worker.engine.step_plan import SequenceSlice


@dataclass(frozen=True, slots=True)
class Prepared:
    """A decode step that may come next.

    Attributes:
        key: (sequence id, position) of each row, by which the step is recognised.
        rows: without token ids, which are this step's choices.
    """

    key: tuple[tuple[str, int], ...]
    rows: DecodeRows


def prepare_next(slices: Sequence[SequenceSlice], block_size: int) -> Prepared | None:
    """Lays out the step after a pure decode step; None if it cannot be known yet.

    It cannot where a sequence needs a block that it does not have: who gets one is the scheduler's
    decision.
    """
    rows = DecodeRows()
    key: list[tuple[str, int]] = []
    for piece in slices:
        position = piece.start + piece.num_tokens
        table = piece.seq.block_table
        is_single = not piece.is_prefill and piece.num_tokens == 1 and piece.samples
        if not is_single or position >= len(table) * block_size:
            return None
        key.append((piece.seq.seq_id, position))
        rows.positions.append(position)
        rows.slots.append(slot_of(table, position, block_size))
        rows.tables.append(table[: position // block_size + 1])
    return Prepared(tuple(key), rows) if key else None


def is_that(prepared: Prepared, slices: Sequence[SequenceSlice]) -> bool:
    """Whether a step is the prepared one.

    Blocks of a running sequence never move, so that sequence and position decide.
    """
    return len(slices) == len(prepared.key) and all(
        (piece.seq.seq_id, piece.start) == known
        and not piece.is_prefill
        and piece.num_tokens == 1
        and list(piece.seq.block_table[: len(table)]) == list(table)
        for piece, known, table in zip(slices, prepared.key, prepared.rows.tables, strict=True)
    )
