"""The engine alone: what the overhead benchmark compares with.

`python -m worker.bench.inprocess` takes the order `{"prompts": [...], "max_tokens": N}`, one batch,
submitted at once, and answers `{"timings": [...]}`.
"""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from services.core.errors import TokenmillError
from services.core.request import FinishReason
from services.core.sampling import SamplingParams
from worker.bench.orders import CarryOut, take_orders
from worker.engine.full_block import FullBlock
from worker.engine.port import Engine, SequenceSpec, StepReport
from worker.settings import WorkerSettings

_BATCH_TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True)
class _Timing:
    ttft_s: float
    total_s: float
    prompt_tokens: int
    output_tokens: int


class _Clock:
    """Hears the engine and notes when each sequence began and ended."""

    def __init__(self) -> None:
        self._first: dict[str, float] = {}
        self._last: dict[str, float] = {}
        self._num_tokens: dict[str, int] = {}
        self._errors: list[str] = []
        self._num_running = 0
        self._all_done = threading.Event()

    def expect(self, num_sequences: int) -> None:
        self._num_running = num_sequences
        self._all_done.clear()

    def wait(self) -> None:
        if not self._all_done.wait(_BATCH_TIMEOUT_S):
            raise TokenmillError(f"a batch was not done within {_BATCH_TIMEOUT_S:g} s")
        if self._errors:
            raise TokenmillError(self._errors[0])

    def timing(self, spec: SequenceSpec, began: float) -> _Timing:
        return _Timing(
            ttft_s=self._first[spec.seq_id] - began,
            total_s=self._last[spec.seq_id] - began,
            prompt_tokens=len(spec.prompt_token_ids),
            output_tokens=self._num_tokens[spec.seq_id],
        )

    def on_step(self, report: StepReport) -> None:
        now = time.perf_counter()
        for output in report.outputs:
            if output.token_ids:
                self._first.setdefault(output.seq_id, now)
                known = self._num_tokens.get(output.seq_id, 0)
                self._num_tokens[output.seq_id] = known + len(output.token_ids)
            if output.finish_reason is None:
                continue
            self._last[output.seq_id] = now
            if output.finish_reason is FinishReason.ERROR:
                self._errors.append(output.error_message)
            self._num_running -= 1
            if self._num_running == 0:
                self._all_done.set()

    def on_blocks_full(self, blocks: Sequence[FullBlock]) -> None:
        """There is no cache service here."""

    def has_room(self, num_bytes: int) -> bool:
        """Nobody takes blocks."""
        return False


def run_batch(
    engine: Engine, clock: _Clock, prompts: Sequence[Sequence[int]], prefix: str, max_tokens: int
) -> list[_Timing]:
    """Submits prompts at once and waits for all.

    Args:
        engine: started.
        clock: its listener.
        prompts: token ids.
        prefix: makes the sequence ids of this batch its own.
        max_tokens: length of every answer.
    """
    sampling = SamplingParams(max_tokens=max_tokens, temperature=0.0, seed=0, ignore_eos=True)
    specs = [SequenceSpec(f"{prefix}-{idx}", ids, sampling) for idx, ids in enumerate(prompts)]
    clock.expect(len(specs))
    began = time.perf_counter()
    for spec in specs:
        engine.submit(spec)
    clock.wait()
    return [clock.timing(spec, began) for spec in specs]


def load_chat_tokenizer(model_dir: Path) -> Callable[[str], list[int]]:
    """From one user message to token ids, with the model's chat template."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(model_dir)

    def tokenize(text: str) -> list[int]:
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True
        )
        return tokenizer(prompt, add_special_tokens=False)["input_ids"]

    return tokenize


def main() -> int:
    """The program; returns its exit status."""
    clock = _Clock()

    def begin(engine: Engine, settings: WorkerSettings) -> CarryOut:
        tokenize = load_chat_tokenizer(settings.model_dir)
        numbers = itertools.count()

        def carry_out(batch: Mapping[str, Any]) -> dict[str, Any]:
            # Before the clock: what the stack spends on this is part of what is measured.
            prompts = [tokenize(text) for text in batch["prompts"]]
            prefix = str(next(numbers))
            timings = run_batch(engine, clock, prompts, prefix, batch["max_tokens"])
            return {"timings": [asdict(timing) for timing in timings]}

        return carry_out

    return take_orders(clock, begin)


if __name__ == "__main__":
    sys.exit(main())
