"""Hears an engine and keeps the time of its steps."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from services.core.errors import TokenmillError
from services.core.request import FinishReason
from services.core.step_time import StepWork
from worker.engine.full_block import FullBlock
from worker.engine.port import StepReport

BATCH_TIMEOUT_S = 600.0
NUM_SETTLING_STEPS = 2
"""Decode steps after the last prefill that do not count: caches and buffers find their size."""


@dataclass(frozen=True, slots=True)
class _Step:
    """One step, seconds on the clock of time.perf_counter()."""

    reported_at: float
    engine_s: float
    num_output_tokens: int
    is_whole_decode: bool
    work: StepWork


class StepClock:
    """An EngineListener for one batch after the other."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._running: set[str] = set()
        self._num_sequences = 0
        self._first_tokens: dict[str, float] = {}
        self._steps: list[_Step] = []
        self._errors: list[str] = []
        self._lengths: dict[str, int] = {}

    def expect(self, seq_ids: Sequence[str]) -> None:
        """A batch is about to be submitted; the one before it is done."""
        with self._lock:
            self._running = set(seq_ids)
            self._num_sequences = len(seq_ids)
            self._first_tokens, self._steps, self._errors = {}, [], []
            self._lengths = dict.fromkeys(seq_ids, 0)
            self._done.clear()

    def wait(self, began: float) -> dict[str, Any]:
        """Figures of the batch when its last sequence is done.

        Args:
            began: time.perf_counter() before the first was submitted.

        Raises:
            TokenmillError: a sequence failed, or the batch takes too long.
        """
        self._wait()
        with self._lock:
            firsts = sorted(at - began for at in self._first_tokens.values())
            return {
                "wall_s": self._steps[-1].reported_at - began,
                "first_token_s": firsts[0],
                "last_first_token_s": firsts[-1],
                "num_output_tokens": sum(step.num_output_tokens for step in self._steps),
                "num_steps": len(self._steps),
                "decode": self._decode(),
            }

    def wait_steps(self) -> list[tuple[StepWork, float]]:
        """What each step of the batch computed, and the seconds from the report before to its own.

        The first step has none before it and is left out.

        Raises:
            TokenmillError: a sequence failed, or the batch takes too long.
        """
        self._wait()
        with self._lock:
            return [
                (step.work, step.reported_at - before.reported_at)
                for before, step in itertools.pairwise(self._steps)
            ]

    def on_step(self, report: StepReport) -> None:
        """Notes one step."""
        now = time.perf_counter()
        with self._lock:
            num_tokens = 0
            for output in report.outputs:
                num_tokens += len(output.token_ids)
                if output.token_ids:
                    self._first_tokens.setdefault(output.seq_id, now)
                if output.finish_reason is FinishReason.ERROR:
                    self._errors.append(output.error_message)
                if output.finish_reason is not None:
                    self._running.discard(output.seq_id)
            is_whole_decode = (
                not report.prefill_tokens_by_seq
                and len(report.decode_seq_ids) == self._num_sequences
            )
            engine_s = (report.ended_ns - report.started_ns) / 1e9
            work = self._work(report)
            self._steps.append(_Step(now, engine_s, num_tokens, is_whole_decode, work))
            if not self._running:
                self._done.set()

    def on_blocks_full(self, blocks: Sequence[FullBlock]) -> None:
        """There is no cache service here."""

    def has_room(self, num_bytes: int) -> bool:
        """Nobody takes blocks."""
        return False

    def _wait(self) -> None:
        if not self._done.wait(BATCH_TIMEOUT_S):
            raise TokenmillError(f"a batch was not done within {BATCH_TIMEOUT_S:g} s")
        with self._lock:
            if self._errors:
                raise TokenmillError(self._errors[0])

    def _work(self, report: StepReport) -> StepWork:
        """Nothing is cached here, so a sequence's length is what was computed of it."""
        lengths, prefill_pairs = self._lengths, 0.0
        for seq_id, num_tokens in report.prefill_tokens_by_seq.items():
            prefill_pairs += num_tokens * (lengths[seq_id] + num_tokens / 2)
            lengths[seq_id] += num_tokens
        decode_pairs = 0
        for seq_id in report.decode_seq_ids:
            decode_pairs += lengths[seq_id]
            lengths[seq_id] += 1
        return StepWork(
            sum(report.prefill_tokens_by_seq.values()),
            prefill_pairs,
            len(report.decode_seq_ids),
            decode_pairs,
        )

    def _decode(self) -> dict[str, Any]:
        """Steps in which every sequence of the batch decoded and nothing else happened."""
        whole = [idx for idx, step in enumerate(self._steps) if step.is_whole_decode]
        counted = whole[NUM_SETTLING_STEPS:]
        # From report to report: what the loop does between two steps is part of the price.
        intervals = [
            self._steps[idx].reported_at - self._steps[idx - 1].reported_at for idx in counted
        ]
        return {
            "num_tokens": sum(self._steps[idx].num_output_tokens for idx in counted),
            "seconds": sum(intervals),
            "step_s": intervals,
            "engine_s": [self._steps[idx].engine_s for idx in counted],
        }
