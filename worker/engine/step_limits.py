"""What one step may hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from services.core.step_time import StepWork

PrefillLimit = Callable[[StepWork], int]
"""Most prompt tokens of a step beside what it decodes, so that the decoders do not wait long."""


@dataclass(frozen=True, slots=True)
class SchedulerLimits:
    """What one step may hold.

    Attributes:
        watermark_blocks: blocks kept free at admission while others run, so that they can grow.
    """

    block_size: int
    max_num_seqs: int
    max_batched_tokens: int
    watermark_blocks: int = 1
