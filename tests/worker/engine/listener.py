"""An EngineListener that remembers, and waits for what it is told to wait for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from services.core.blocks import BlockPayload
from services.core.request import FinishReason
from services.core.sampling import SamplingParams
from worker.engine.full_block import BlockState, FullBlock
from worker.engine.port import SequenceOutput, SequenceSpec, StepReport

TIMEOUT_S = 150


class FakeListener:
    def __init__(self) -> None:
        self.reports: list[StepReport] = []
        self.blocks: list[BlockPayload] = []
        self.told: list[FullBlock] = []
        self.reads_at_once = True
        self.room_bytes = 1 << 30
        self._changed = threading.Condition(threading.RLock())

    def on_step(self, report: StepReport) -> None:
        with self._changed:
            self.reports.append(report)
            self._changed.notify_all()

    def on_blocks_full(self, blocks: Sequence[FullBlock]) -> None:
        with self._changed:
            self.told.extend(blocks)
            if self.reads_at_once:
                for block in blocks:
                    payload = block.payload()
                    assert payload is not None
                    self.blocks.append(payload)
                    block.settle(BlockState.SENT)

    def has_room(self, num_bytes: int) -> bool:
        return num_bytes <= self.room_bytes

    def outputs(self, seq_id: str) -> list[SequenceOutput]:
        with self._changed:
            return [o for r in self.reports for o in r.outputs if o.seq_id == seq_id]

    def token_ids(self, seq_id: str) -> list[int]:
        return [t for output in self.outputs(seq_id) for t in output.token_ids]

    def finish_reason(self, seq_id: str) -> FinishReason | None:
        outputs = self.outputs(seq_id)
        return outputs[-1].finish_reason if outputs else None

    def cached_tokens(self, seq_id: str) -> int:
        return self.outputs(seq_id)[0].cached_tokens

    def preempted(self) -> set[str]:
        with self._changed:
            return {seq_id for report in self.reports for seq_id in report.preempted_seq_ids}

    def wait_until(self, condition: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, TIMEOUT_S)

    def wait_finished(self, *seq_ids: str) -> None:
        self.wait_until(lambda: all(self.finish_reason(seq_id) for seq_id in seq_ids))


def greedy(seq_id: str, prompt: Sequence[int], max_tokens: int, **fields: object) -> SequenceSpec:
    sampling = SamplingParams(max_tokens=max_tokens, temperature=0, seed=0, ignore_eos=True)
    return SequenceSpec(seq_id, tuple(prompt), sampling, **fields)  # type: ignore[arg-type]
