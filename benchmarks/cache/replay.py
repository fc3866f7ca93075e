"""A trace under eviction policies, each at several sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.cache.references import OptimalPolicy
from benchmarks.simulator.trace import TraceRequest
from cache_service.policies.choice import PolicyChoice, PolicyFactory, PolicyName, PolicySettings
from cache_service.policies.queues import S3FifoPolicy, SievePolicy
from cache_service.policies.shadow import Shadow
from services.core.blocks import BLOCK_HASH_BYTES, BlockHash

SIZES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)


@dataclass(frozen=True, slots=True)
class Access:
    """One request: when, and the chain that it uses."""

    arrival_s: float
    chain: tuple[BlockHash, ...]
    num_prompt: int


@dataclass(frozen=True, slots=True)
class Replay:
    """What a policy did at one size.

    Attributes:
        hit_share: blocks hit inside the leading run of present ones, of all blocks asked for.
        block_s: blocks held, times seconds.
        tokens_saved: prompt tokens that were not computed again.
    """

    hit_share: float
    block_s: float
    tokens_saved: int


def accesses_of(requests: Sequence[TraceRequest]) -> list[Access]:
    """The trace as chains; a last block that is partly filled counts as one."""
    return [
        Access(
            request.arrival_s,
            tuple(hash_id.to_bytes(BLOCK_HASH_BYTES, "little") for hash_id in request.hash_ids),
            request.num_prompt,
        )
        for request in requests
        if request.hash_ids
    ]


def working_set(accesses: Sequence[Access]) -> int:
    """Different blocks in it."""
    return len({block_hash for access in accesses for block_hash in access.chain})


def factories(
    accesses: Sequence[Access], settings: PolicySettings, only: str | None = None
) -> dict[str, Callable[[], Any]]:
    """Every policy that is compared, by name; or one."""
    made: dict[str, Callable[[], Any]] = {
        name.value: PolicyChoice(name, settings).factory() for name in PolicyName
    }
    made |= {"s3fifo": S3FifoPolicy, "sieve": SievePolicy}
    made["optimal"] = lambda: OptimalPolicy([access.chain for access in accesses])
    return made if only is None else {only: made[only]}


def replay(accesses: Sequence[Access], new_policy: PolicyFactory, capacity: int) -> Replay:
    """Runs the trace through a store of so many blocks."""
    shadow = Shadow(new_policy(), max(1, capacity))
    num_hits = num_asked = tokens_saved = 0
    block_s, last_s = 0.0, accesses[0].arrival_s
    for access in accesses:
        block_s += len(shadow.held) * (access.arrival_s - last_s)
        last_s = access.arrival_s
        hits = shadow.access(access.chain, access.arrival_s).num_hits
        num_hits += hits
        num_asked += len(access.chain)
        tokens_saved += access.num_prompt * hits // len(access.chain)
    return Replay(num_hits / num_asked, block_s, tokens_saved)


def gap_closed(shares: dict[str, float]) -> float | None:
    """How much of the way from the best other online policy to the optimum the hybrid goes."""
    others = [share for name, share in shares.items() if name not in ("hybrid", "optimal")]
    gap = shares["optimal"] - max(others)
    return (shares["hybrid"] - max(others)) / gap if gap > 0 else None
