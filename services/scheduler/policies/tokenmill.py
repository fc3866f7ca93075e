"""Our policy: where does this request cost the fleet the least time?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from services.scheduler.kv_index import KvIndex
from services.scheduler.order import HeldRequest
from services.scheduler.placement import Candidate, Placement


@dataclass(frozen=True, slots=True)
class CostWeights:
    """What counts how much; all of it is time, in seconds.

    Attributes:
        own_prefill: of a second that the worker computes for this request. Above 1: it makes those
            behind it wait too, and takes room from what is cached.
        decode_steps: of a second that one step takes.
        miss: of a second that the worker lately computed because nothing was cached. Small: it
            spreads a cold fleet, and what is rarely seen over all memory.
        miss_half_life_s: how fast that is forgotten.
    """

    own_prefill: float = 4.0
    decode_steps: float = 4.0
    miss: float = 0.02
    miss_half_life_s: float = 30.0


class _Charge:
    """Seconds of recent misses of one worker, decaying."""

    __slots__ = ("seconds", "updated_s")

    def __init__(self, now_s: float) -> None:
        self.seconds = 0.0
        self.updated_s = now_s


class TokenmillPolicy:
    """Least cost in time; equals go to the one that was given something longest ago.

    The cost of a worker is the time until it gets to the request, the time that it then needs for
    the part of the prompt that it does not hold, and what its other work suffers.
    """

    def __init__(self, index: KvIndex, weights: CostWeights | None = None) -> None:
        self._index = index
        self._weights = weights or CostWeights()
        self._charges: dict[str, _Charge] = {}

    def choose(
        self, entry: HeldRequest, candidates: Sequence[Candidate], now_s: float
    ) -> Placement | None:
        """The cheapest with room, or None."""
        found = self._index.match(entry.block_hashes)
        num_prompt = entry.num_prompt_tokens
        best: Candidate | None = None
        best_rank = (math.inf, 0)
        best_missing, best_own_s = num_prompt, 0.0
        for candidate in candidates:
            if candidate.num_requests >= candidate.max_requests:
                continue
            num_found = found.get(candidate.worker_id, 0) * candidate.block_size
            missing = max(1, num_prompt - num_found)
            own_s, cost_s = self._cost(candidate, missing, num_prompt, now_s)
            rank = (cost_s, candidate.placed_idx)
            if rank < best_rank:
                best, best_rank = candidate, rank
                best_missing, best_own_s = missing, own_s
        if best is None:
            return None
        charge = self._charges.setdefault(best.worker_id, _Charge(now_s))
        charge.seconds = self._decayed(charge, now_s) + best_own_s
        charge.updated_s = now_s
        return Placement(best, best_missing)

    def _cost(
        self, candidate: Candidate, missing: int, num_prompt: int, now_s: float
    ) -> tuple[float, float]:
        weights, model = self._weights, candidate.step_time
        held = candidate.num_blocks - candidate.num_free_blocks
        pairs = held * candidate.block_size
        token_s = model.prefill_token_s(candidate.num_running, pairs)
        pairs_s = model.prefill_pair_s * missing * (num_prompt - missing / 2)
        own_s = token_s * missing + pairs_s
        wait_s = token_s * candidate.num_prefill_tokens
        decode_s = (
            model.base_s + model.decode_s * candidate.num_requests + model.decode_pair_s * pairs
        )
        cost_s = wait_s + weights.own_prefill * own_s + weights.decode_steps * decode_s
        cost_s += self._shortage_s(candidate, num_prompt)
        charge = self._charges.get(candidate.worker_id)
        if charge is not None:
            cost_s += weights.miss * self._decayed(charge, now_s)
        return own_s, cost_s

    def _shortage_s(self, candidate: Candidate, num_prompt: int) -> float:
        """How long until running sequences have given up enough blocks, roughly."""
        num_wanted = candidate.num_prefill_tokens + num_prompt
        num_short = num_wanted / candidate.block_size - candidate.num_free_blocks
        if num_short <= 0 or candidate.num_blocks == 0:
            return 0.0
        held = max(1, candidate.num_blocks - candidate.num_free_blocks)
        return 5.0 * num_short / held

    def _decayed(self, charge: _Charge, now_s: float) -> float:
        return charge.seconds * 0.5 ** ((now_s - charge.updated_s) / self._weights.miss_half_life_s)
