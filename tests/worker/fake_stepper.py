from __future__ import annotations

from collections.abc import Sequence

from services.core.block_names import BlockNames
from services.core.blocks import BlockHash, BlockLayout, BlockPayload
from services.core.load import WorkerLoad
from services.core.request import FinishReason
from worker.engine.block_pool import PoolListener
from worker.engine.port import EngineListener, SequenceOutput, SequenceSpec, StepReport


class FakeStepper:
    """An engine that steps when the test says so."""

    def __init__(self) -> None:
        self.layout = BlockLayout("uint8", 1, 1, 1, block_size=4)
        self.model_revision = "fake"
        self.names = BlockNames("fake", self.layout.text(), self.layout.block_size)
        self.max_model_len = 1024
        self.specs: dict[str, SequenceSpec] = {}
        self.cancelled: list[str] = []
        self.imported: list[BlockPayload] = []
        self.held_hashes: set[BlockHash] = set()
        self._num_steps = 0
        self._positions: dict[str, int] = {}
        self._listener: EngineListener | None = None

    def watch_blocks(self, listener: PoolListener) -> None:
        pass

    def start(self, listener: EngineListener) -> None:
        self._listener = listener

    def submit(self, spec: SequenceSpec) -> None:
        self.specs[spec.seq_id] = spec
        self._positions[spec.seq_id] = len(spec.delivered_token_ids)

    def cancel(self, seq_id: str) -> None:
        self.cancelled.append(seq_id)
        if seq_id in self.specs:
            self._report([self._end(seq_id, (), FinishReason.CANCELLED)])

    def load(self) -> WorkerLoad:
        return WorkerLoad(
            max_requests=8,
            num_running=len(self.specs),
            num_waiting=0,
            num_free_blocks=100,
            num_blocks=100,
            block_size=4,
            num_pending_prefill_tokens=0,
        )

    def num_missing_blocks(self, hashes: Sequence[BlockHash]) -> int:
        for num_held, block_hash in enumerate(hashes):
            if block_hash not in self.held_hashes:
                return len(hashes) - num_held
        return 0

    def import_blocks(self, blocks: Sequence[BlockPayload]) -> None:
        self.imported += blocks

    def seconds_since_progress(self) -> float:
        return 0.0

    def stop(self) -> None:
        return

    def step(self, *token_ids: int, finish: FinishReason | None = None) -> None:
        """One step that gives every sequence these tokens."""
        outputs: list[SequenceOutput] = []
        for seq_id in list(self.specs):
            if finish is not None:
                outputs.append(self._end(seq_id, token_ids, finish))
            else:
                position = self._positions[seq_id]
                self._positions[seq_id] += len(token_ids)
                outputs.append(SequenceOutput(seq_id, position, token_ids))
        self._report(outputs)

    def _end(self, seq_id: str, token_ids: tuple[int, ...], reason: FinishReason) -> SequenceOutput:
        del self.specs[seq_id]
        return SequenceOutput(seq_id, self._positions.pop(seq_id), token_ids, reason)

    def _report(self, outputs: Sequence[SequenceOutput]) -> None:
        assert self._listener is not None
        self._num_steps += 1
        self._listener.on_step(
            StepReport(
                step_idx=self._num_steps,
                started_ns=self._num_steps,
                ended_ns=self._num_steps + 1,
                outputs=outputs,
                decode_seq_ids=[output.seq_id for output in outputs],
            )
        )
