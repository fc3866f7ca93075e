"""From the engine's thread to the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.core.blocks import BlockPayload
from worker.engine.port import StepReport


@dataclass(frozen=True, slots=True)
class StepNews:
    """What the event loop hears of a step.

    Attributes:
        full_blocks: per sequence that ended in this step and computed full blocks, these.
    """

    report: StepReport
    full_blocks: Sequence[Sequence[BlockPayload]] = ()


class EngineBridge:
    """EngineListener that wakes the event loop once per step, not once per sequence.

    Not bounded by itself: what waits is bounded by the tokens that the running sequences may make.

    Args:
        loop: where `hear` runs.
        hear: takes the news; must not raise.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, hear: Callable[[StepNews], None]) -> None:
        self._loop = loop
        self._hear = hear
        self._full_blocks: list[Sequence[BlockPayload]] = []

    def on_step(self, report: StepReport) -> None:
        """Passes a step on, with the blocks of the sequences that ended in it."""
        full_blocks, self._full_blocks = self._full_blocks, []
        self._loop.call_soon_threadsafe(self._hear, StepNews(report, full_blocks))

    def on_blocks_full(self, blocks: Sequence[BlockPayload]) -> None:
        """Keeps blocks for the step's report, which comes next."""
        if blocks:
            self._full_blocks.append(blocks)
