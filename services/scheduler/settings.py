"""Settings of the scheduler."""

from __future__ import annotations

from pydantic import Field

from services.runtime.settings import QueueSettings
from services.scheduler.batching import BatchLimits
from services.scheduler.fairness import FairnessRules
from services.scheduler.policies.registry import PolicyName


class SchedulerSettings(QueueSettings):
    """Beside the common ones."""

    model_name: str = Field(default="SmolLM2-135M-Instruct", min_length=1)
    """The model whose queue is served. Several schedulers may serve the same one."""

    max_batch_size: int = Field(default=8, ge=1)
    """Most requests in one submission. The engine batches by itself what comes in several; this
    bounds what one lost call puts at risk."""

    max_prefill_tokens: int = Field(default=2_048, ge=1)
    """Most prompt tokens to compute in one submission, a few engine steps; a longer prompt goes
    alone. What a worker holds already does not count."""

    placement_policy: PolicyName = "tokenmill"
    """How workers are chosen. `tokenmill` weighs, in each worker's own measured time, the prompt
    tokens that it does not hold against what it has to do; the others are here to compare with."""

    kv_index_blocks: int = Field(default=2_000_000, ge=1)
    """Most K/V blocks of all workers together of which the place is remembered; bounds memory, some
    150 bytes a block. A quarter as many that no worker holds any more are remembered by name."""

    max_wait_ms: float = Field(default=0.0, ge=0)
    """How long a request may be held back so that a batch fills, ms. 0: never; the engine adds
    late-comers at its next step anyway, so waiting pays only where submissions are dear."""

    wait_while_idle: bool = False
    """Hold back even while a worker has nothing to do."""

    min_class_share: float = Field(default=0.05, ge=0, le=0.5)
    """Share of the prompt tokens that go out which a lower class has for sure while it waits. Above
    0, so that nothing starves; small, so that a person hardly notices."""

    fair_output_weight: float = Field(default=2.0, ge=0)
    """What an output token counts against a computed prompt token when tenants of a class take
    turns. Above 1: it takes a step of its own, a prompt token shares one."""

    fair_half_life_s: float = Field(default=60.0, gt=0)
    """After so long, half of what a tenant was served is forgotten, seconds."""

    num_look_ahead: int = Field(default=4, ge=0)
    """Requests pulled beyond the free capacity, so that a freed place is taken at once. Small: what
    is held here cannot be taken by another scheduler."""

    max_held: int = Field(default=256, ge=1)
    """Most requests held at once, being submitted included. Bounds memory."""

    heartbeat_timeout_s: float = Field(default=2.0, gt=0)
    """A worker silent for longer is given nothing, seconds. Four heartbeats."""

    submit_timeout_s: float = Field(default=10.0, gt=0)
    """How long a worker may take to answer a submission, seconds. Above the time in which it gives
    up on an owner that does not answer."""

    ack_wait_s: float = Field(default=5.0, gt=0)
    """A pulled message of which the broker hears nothing for so long goes to another scheduler,
    seconds. While a message is held, the broker hears of it three times in that time."""

    max_ack_pending: int = Field(default=4_096, ge=1)
    """Most messages pulled and not settled, of all schedulers together, per lane."""

    max_deliveries: int = Field(default=8, ge=1)
    """A request that was pulled more often without success is given up."""

    max_failures: int = Field(default=4, ge=1)
    """A request whose submissions failed so often inside a worker is given up."""

    owner_retry_s: float = Field(default=0.5, gt=0)
    """After an owner could not be reached, the first retry comes so much later, seconds; each
    further one doubles that."""

    def fairness_rules(self) -> FairnessRules:
        """What is fair."""
        return FairnessRules(self.fair_output_weight, self.fair_half_life_s, self.min_class_share)

    def batch_limits(self) -> BatchLimits:
        """Bounds of a batch."""
        return BatchLimits(
            max_batch_size=self.max_batch_size,
            max_prefill_tokens=self.max_prefill_tokens,
            max_wait_s=self.max_wait_ms / 1000,
            waits_while_idle=self.wait_while_idle,
        )
