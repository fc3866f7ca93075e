"""From the engine's thread to the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from worker.engine.full_block import FullBlock
from worker.engine.port import StepReport


@dataclass(frozen=True, slots=True)
class StepNews:
    """What the event loop hears of a step.

    Attributes:
        full_blocks: chains, or parts of chains, that sequences gave up or the pool evicted.
    """

    report: StepReport
    full_blocks: Sequence[Sequence[FullBlock]] = ()


class EngineBridge:
    """EngineListener that wakes the event loop once per step, not once per sequence.

    Not bounded by itself: what waits is bounded by the tokens that the running sequences may make.

    Args:
        loop: where `hear` runs.
        hear: takes the news; must not raise.
        has_room: whether so many bytes of blocks would be taken now; called on any thread.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        hear: Callable[[StepNews], None],
        has_room: Callable[[int], bool],
    ) -> None:
        self._loop = loop
        self._hear = hear
        self._has_room = has_room
        self._full_blocks: list[Sequence[FullBlock]] = []

    def on_step(self, report: StepReport) -> None:
        """Passes a step on, with the blocks that were told of since the last."""
        full_blocks, self._full_blocks = self._full_blocks, []
        self._loop.call_soon_threadsafe(self._hear, StepNews(report, full_blocks))

    def on_blocks_full(self, blocks: Sequence[FullBlock]) -> None:
        """Keeps blocks for the step's report, which comes next."""
        self._full_blocks.append(blocks)

    def has_room(self, num_bytes: int) -> bool:
        """Whether so many bytes of blocks would be taken now."""
        return self._has_room(num_bytes)
