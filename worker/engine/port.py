"""What the rest of the worker needs of an engine.

An engine owns one thread that steps for as long as it has work. All methods may be called from any
thread and return at once; results come through the listener, on the engine's thread, in step order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from services.core.block_names import BlockNames
from services.core.blocks import BlockHash, BlockLayout, BlockPayload
from services.core.load import WorkerLoad
from services.core.logprobs import TokenLogprobs
from services.core.request import FinishReason, RequestClass
from services.core.sampling import SamplingParams
from services.core.step_time import StepWork
from worker.engine.block_pool import PoolListener
from worker.engine.full_block import FullBlock


@dataclass(frozen=True, slots=True)
class SequenceSpec:
    """One generation to run.

    Attributes:
        seq_id: unique among live sequences.
        sampling: with max_tokens and seed set. `stop` strings are the owner's business.
        delivered_token_ids: output of earlier attempts: fed, neither sampled nor reported.
        tenant: salts the block hashes.
        request_class: more urgent ones are served first and may take the place of others.
    """

    seq_id: str
    prompt_token_ids: Sequence[int]
    sampling: SamplingParams
    tenant: str = ""
    delivered_token_ids: Sequence[int] = ()
    request_class: RequestClass = RequestClass.INTERACTIVE


class SequenceOutput(msgspec.Struct, frozen=True):
    """News of one sequence after a step.

    Attributes:
        first_position: output position of token_ids[0]; delivered tokens count.
        finish_reason: set in the last output of a sequence.
        cached_tokens: prompt tokens whose K/V was reused; set in the first output.
        logprobs: one per token, if sampling asks for them.
        prompt_logprobs: of the prompt from its second token on, if sampling asks for them and
            nothing was delivered before; set in the first output.
    """

    seq_id: str
    first_position: int
    token_ids: Sequence[int]
    finish_reason: FinishReason | None = None
    error_message: str = ""
    cached_tokens: int = 0
    logprobs: Sequence[TokenLogprobs] = ()
    prompt_logprobs: Sequence[TokenLogprobs] = ()

    @property
    def is_next_token(self) -> bool:
        """Whether one new token is all the news."""
        return (
            len(self.token_ids) == 1
            and self.finish_reason is None
            and not (self.cached_tokens or self.logprobs or self.prompt_logprobs)
        )


@dataclass(frozen=True, slots=True)
class StepReport:
    """What one step did.

    Attributes:
        started_ns, ended_ns: time.time_ns().
        outputs: sequences with news.
        prefill_tokens_by_seq: prompt tokens computed in this step, by sequence.
        decode_seq_ids: sequences that computed output tokens in this step.
        preempted_seq_ids: sequences that gave up their blocks and will recompute.
        work: all of it, for estimates of step times.
    """

    step_idx: int
    started_ns: int
    ended_ns: int
    outputs: Sequence[SequenceOutput]
    prefill_tokens_by_seq: dict[str, int] = field(default_factory=dict[str, int])
    decode_seq_ids: Sequence[str] = ()
    preempted_seq_ids: Sequence[str] = ()
    work: StepWork = field(default_factory=StepWork)


class EngineListener(Protocol):
    """Hears the engine, on the engine's thread; must return quickly and never raise."""

    def on_step(self, report: StepReport) -> None:
        """After every step, outputs included; also after a cancel took effect."""
        ...

    def on_blocks_full(self, blocks: Sequence[FullBlock]) -> None:
        """Full blocks for the cache service, a chain or a part of one.

        Of a sequence that ended or was preempted, or evicted from the pool. To be settled, whether
        they were read or not.
        """
        ...

    def has_room(self, num_bytes: int) -> bool:
        """Whether so many bytes of blocks would be taken now: else they are not even copied."""
        ...


class Engine(Protocol):
    """Continuous batching over one model.

    Attributes:
        names: of its blocks; sequences submitted after it was replaced are named by the new.
    """

    names: BlockNames

    @property
    def layout(self) -> BlockLayout:
        """Layout of the K/V blocks."""
        ...

    @property
    def model_revision(self) -> str:
        """Digest of the weights; part of the root of every block hash."""
        ...

    def watch_blocks(self, listener: PoolListener) -> None:
        """Tells a listener which blocks a prefix can hit. Once, before start."""
        ...

    def start(self, listener: EngineListener) -> None:
        """Starts the thread. Once."""
        ...

    def submit(self, spec: SequenceSpec) -> None:
        """Queues a sequence. An impossible one ends with FinishReason.ERROR."""
        ...

    def cancel(self, seq_id: str) -> None:
        """Frees its blocks before the next step; reports CANCELLED. Unknown ids are ignored."""
        ...

    def load(self) -> WorkerLoad:
        """How busy the engine is now."""
        ...

    def num_missing_blocks(self, hashes: Sequence[BlockHash]) -> int:
        """len(hashes) minus the leading blocks that the pool holds."""
        ...

    def import_blocks(self, blocks: Sequence[BlockPayload]) -> None:
        """Adds verified blocks to the pool as reusable; sequences submitted later see them."""
        ...

    def seconds_since_progress(self) -> float:
        """Seconds since the last step ended while work was waiting; 0 when idle."""
        ...

    def stop(self) -> None:
        """Ends the thread after the current step. Twice is safe."""
        ...
