"""What a worker says of itself."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from services.core.kv_events import KvState
from services.core.request import RequestClass
from services.core.step_time import StepTimeModel


class WorkerState(enum.Enum):
    """What a worker may be given: READY takes requests, the others do not."""

    READY = "ready"
    DRAINING = "draining"
    STALLED = "stalled"


@dataclass(frozen=True, slots=True)
class WorkerLoad:
    """How busy a worker is.

    Attributes:
        max_requests: requests that may be on the worker at once, running and waiting.
        num_waiting: accepted but not yet in the running batch.
        num_free_blocks: K/V blocks not held by a running sequence.
        num_pending_prefill_tokens: prompt tokens accepted but not yet computed.
        max_running: requests that the running batch can hold; 0 if not told.
    """

    max_requests: int
    num_running: int
    num_waiting: int
    num_free_blocks: int
    num_blocks: int
    block_size: int
    num_pending_prefill_tokens: int
    max_running: int = 0

    @property
    def num_free_requests(self) -> int:
        """Requests that the worker can still take."""
        return max(0, self.max_requests - self.num_running - self.num_waiting)


@dataclass(frozen=True, slots=True)
class TenantOutput:
    """Output tokens that a tenant got of a worker, counted from the worker's start."""

    tenant: str
    request_class: RequestClass
    num_tokens: int


@dataclass(frozen=True, slots=True)
class WorkerHeartbeat:
    """A worker's word on itself; heartbeat_idx rises, so that a late one is seen to be old.

    Attributes:
        kv: where its blocks stand; None if it does not tell of them.
        step_time: how long its steps take; None until it has measured.
        outputs: of tenants that got tokens lately.
        cache_block_s: time to bring one block from the K/V cache service; 0 until it has measured.
        itl_target_s: how long its steps may take while prompts are computed beside decodes; 0: as
            long as they take.
    """

    worker_id: str
    address: str
    model: str
    state: WorkerState
    heartbeat_idx: int
    load: WorkerLoad
    kv: KvState | None = None
    step_time: StepTimeModel | None = None
    outputs: tuple[TenantOutput, ...] = ()
    cache_block_s: float = 0.0
    itl_target_s: float = 0.0
