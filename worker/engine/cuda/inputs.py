"""A step on the device, and how its numbers get there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch

from worker.engine.cuda.attention import Queries
from worker.engine.cuda.staging import Staging
from worker.engine.cuda.step_arrays import DecodeRows, StepArrays


@dataclass(frozen=True, slots=True)
class DeviceStep:
    """What the model reads; decode rows come first.

    Attributes:
        token_ids, positions: (num_rows,) int32.
        slots: (num_rows,) int32, where each row's K/V goes.
        decodes, prefills: None where there are no such rows.
        num_decode_rows: how many come first.
    """

    token_ids: torch.Tensor
    positions: torch.Tensor
    slots: torch.Tensor
    decodes: Queries | None
    prefills: Queries | None
    num_decode_rows: int


@dataclass(frozen=True, slots=True)
class PoolShape:
    """What inputs need to know of the pool.

    Attributes:
        width: most blocks of a sequence.
        scratch_block: holds nobody's K/V: rows that only fill a bucket up write and read there.
    """

    block_size: int
    width: int
    scratch_block: int

    @property
    def max_keys(self) -> int:
        """Longest sequence."""
        return self.width * self.block_size


class StepInputs:
    """Any step, sent as it is."""

    def __init__(self, max_rows: int, max_seqs: int, pool: PoolShape, device: torch.device) -> None:
        self._pool = pool
        # Ids, positions and slots of each row; per sequence its rows, its keys and its table.
        capacity = 3 * max_rows + max_seqs * (2 + pool.width) + 2
        self._staging = Staging(capacity + max_rows * (2 + pool.width), device)

    def send(self, arrays: StepArrays) -> DeviceStep:
        """Lays a step out and starts its copy."""
        staging, decodes, prefills = self._staging, arrays.decodes, arrays.prefills
        staging.clear()
        token_ids = staging.add([*decodes.token_ids, *prefills.token_ids])
        positions = staging.add([*decodes.positions, *prefills.positions])
        slots = staging.add([*decodes.slots, *prefills.slots])
        decode_queries = prefill_queries = None
        if len(decodes):
            ends = [position + 1 for position in decodes.positions]
            decode_queries = self._queries([1] * len(decodes), ends, decodes.tables)
        if len(prefills):
            prefill_queries = self._queries(prefills.lengths, prefills.ends, prefills.tables)
        staging.send()
        return DeviceStep(
            token_ids, positions, slots, decode_queries, prefill_queries, len(decodes)
        )

    def _queries(
        self, lengths: Sequence[int], ends: Sequence[int], tables: Sequence[Sequence[int]]
    ) -> Queries:
        width = max(len(table) for table in tables)
        return Queries(
            cu_lengths=self._staging.add([0, *accumulate(lengths)]),
            num_keys=self._staging.add(ends),
            tables=self._staging.add_table(tables, width, self._pool.scratch_block),
            max_rows=max(lengths),
            max_keys=self._pool.max_keys,
        )


class DecodeInputs:
    """Decode steps of one bucket, always at the same addresses, filled up with scratch rows."""

    def __init__(self, bucket: int, pool: PoolShape, device: torch.device) -> None:
        self._bucket = bucket
        self._pool = pool
        self._staging = Staging(bucket * (4 + pool.width), device)
        cu_lengths = torch.arange(bucket + 1, dtype=torch.int32, device=device)
        token_ids, positions, slots, num_keys, tables = self._lay_out(DecodeRows())
        queries = Queries(cu_lengths, num_keys, tables, max_rows=1, max_keys=pool.max_keys)
        self.step = DeviceStep(token_ids, positions, slots, queries, None, bucket)

    def lay_out(self, rows: DecodeRows) -> None:
        """Puts down all but the token ids."""
        self._lay_out(rows)

    def send(self, token_ids: Sequence[int]) -> None:
        """Adds the token ids and starts the copy."""
        self._staging.overwrite(token_ids)
        self._staging.send()

    def _lay_out(self, rows: DecodeRows) -> tuple[torch.Tensor, ...]:
        num_scratch = self._bucket - len(rows.positions)
        zeros = [0] * num_scratch
        scratch = self._pool.scratch_block
        scratch_slot = scratch * self._pool.block_size
        staging = self._staging
        staging.clear()
        return (
            staging.add([0] * self._bucket),
            staging.add([*rows.positions, *zeros]),
            staging.add([*rows.slots, *([scratch_slot] * num_scratch)]),
            staging.add([*(position + 1 for position in rows.positions), *([1] * num_scratch)]),
            staging.add_table([*rows.tables, *([()] * num_scratch)], self._pool.width, scratch),
        )
