"""Our policy: where does this request cost the fleet the least time?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from services.core.step_time import prefill_room_s
from services.scheduler.fleet.coming_blocks import ComingBlocks
from services.scheduler.fleet.kv_index import KvIndex
from services.scheduler.order import HeldRequest
from services.scheduler.placement import Candidate, Placement, Score

MAX_SCORES = 16
"""Of more workers than these no scores are told: at a thousand that would be half of a decision."""

COMING_SLACK, EVENT_S = 2.0, 0.5
"""A prompt counts as held by its worker for so many times as long as it should take to compute,
and until an event of it came: by then the index knows."""


@dataclass(frozen=True, slots=True)
class CostWeights:
    """What counts how much; all of it is time, in seconds.

    Attributes:
        own_prefill: of a second that the worker computes for this request, at least. Above 1: it
            makes those behind it wait too, and takes room from what is cached.
        behind: of such a second, for each request that waits on a worker of the fleet in the mean.
            Where queues stand, what is computed twice is time that all behind it lose.
        foreign: of a second that the worker computes for this request, if another scheduler looks
            after the worker first: it may be giving it as much at this moment.
        decode_steps: of a second that one step takes. As many as an answer has tokens would count
            all that it waits for; fewer, because running answers end meanwhile.
        miss: of a second that the worker lately computed because nothing was cached. Small: it
            spreads a cold fleet, and what is rarely seen over all memory.
        miss_half_life_s: how fast that is forgotten.
        shortage_s: until all that a full worker runs has ended; a request that finds too few free
            blocks waits for its share of that.
        answer_steps: of an answer. A request that finds the running batch full waits until one of
            those in it has ended: for its share of the steps of an answer.
        place_steps: what the places taken count before that, as steps when all are: workers that
            cost the same otherwise are kept equally full, however little a decode adds to a step.
    """

    own_prefill: float = 6.0
    behind: float = 2.0
    foreign: float = 1.0
    decode_steps: float = 90.0
    miss: float = 0.02
    miss_half_life_s: float = 30.0
    shortage_s: float = 5.0
    answer_steps: float = 250.0
    place_steps: float = 10.0


class _Charge:
    """Seconds of recent misses of one worker, decaying."""

    __slots__ = ("seconds", "updated_s")

    def __init__(self, now_s: float) -> None:
        self.seconds = 0.0
        self.updated_s = now_s


class TokenmillPolicy:
    """Least cost in time; equals go to the one that was given something longest ago.

    The cost of a worker is the time until it gets to the request, the time that it then needs for
    the part of the prompt that it does not hold, and what its other work suffers. What it was given
    a moment ago counts as held: an engine computes a shared beginning once. Blocks that the cache
    service was offered count for the time that the worker needs to bring them, by its own measure,
    where that is less than computing them.
    """

    def __init__(self, index: KvIndex, weights: CostWeights | None = None) -> None:
        self._index = index
        self._weights = weights or CostWeights()
        self._charges: dict[str, _Charge] = {}
        self._coming = ComingBlocks()

    def choose(
        self, entry: HeldRequest, candidates: Sequence[Candidate], now_s: float
    ) -> Placement | None:
        """The cheapest with room, or None."""
        weights, charges = self._weights, self._charges
        hashes = entry.block_hashes
        found = self._coming.extend(self._index.match(hashes), hashes, now_s)
        num_prompt = entry.num_prompt_tokens
        best: Candidate | None = None
        best_cost_s, best_placed_idx = math.inf, 0
        best_missing, best_own_s, best_wait_s = num_prompt, 0.0, 0.0
        num_offered: int | None = None
        scores: list[Score] | None = [] if len(candidates) <= MAX_SCORES else None
        num_waiting = sum(candidate.num_waiting for candidate in candidates)
        own_weight = max(
            weights.own_prefill, weights.behind * num_waiting / max(1, len(candidates))
        )
        # One flat loop: at a thousand workers a call per worker would be most of a decision.
        for candidate in candidates:
            num_requests = candidate.num_requests
            if num_requests >= candidate.max_requests:
                continue
            worker_id, block_size = candidate.worker_id, candidate.block_size
            num_here = found.get(worker_id, 0)
            missing = max(1, num_prompt - num_here * block_size)
            num_before = candidate.num_prefill_tokens
            model = candidate.step_time
            num_held = candidate.num_blocks - candidate.num_free_blocks
            pairs, num_running = num_held * block_size, candidate.num_running
            company_s = model.base_s + model.decode_pair_s * pairs
            decodes_s = company_s + model.decode_s * num_running
            num_step = max(1, model.max_batched_tokens - num_running)
            token_s = model.prefill_s + decodes_s / num_step
            own_s = missing * (token_s + model.prefill_pair_s * (num_prompt - missing / 2))
            if candidate.cache_block_s:
                if num_offered is None:
                    num_offered = self._index.num_offered(hashes)
                num_there = num_offered - num_here
                left = max(1, missing - num_there * block_size)
                fetched_s = num_there * candidate.cache_block_s + left * (
                    token_s + model.prefill_pair_s * (num_prompt - left / 2)
                )
                if num_there > 0 and fetched_s < own_s:
                    missing, own_s = left, fetched_s
            wait_s = token_s * num_before
            target_s = candidate.itl_target_s
            if target_s and num_running and model.prefill_s > 0:
                # Beside decodes a step takes only what its target leaves: whole steps count.
                left_s = prefill_room_s(target_s, decodes_s)
                num_step = min(num_step, max(block_size, left_s / model.prefill_s))
                step_s = decodes_s + num_step * model.prefill_s
                wait_s = num_before / num_step * step_s
                own_s = max(own_s, math.ceil(missing / num_step) * step_s)
            cost_s = (
                wait_s
                + own_weight * own_s
                + weights.decode_steps * (company_s + model.decode_s * num_requests)
            )
            num_left = candidate.num_free_blocks - (num_before + num_prompt) / block_size
            if num_left < 0 and candidate.num_blocks:
                cost_s -= weights.shortage_s * num_left / max(1, num_held)
            if candidate.max_running:
                step_s = company_s + model.decode_s * num_requests
                cost_s += weights.place_steps * step_s * num_requests / candidate.max_running
                num_over = num_requests + 1 - candidate.max_running
                if num_over > 0:
                    cost_s += weights.answer_steps * step_s * num_over / candidate.max_running
            if candidate.is_foreign:
                cost_s += weights.foreign * own_s
            charge = charges.get(worker_id)
            if charge is not None:
                cost_s += weights.miss * self._decayed(charge, now_s)
            if scores is not None:
                scores.append(Score(worker_id, cost_s, missing))
            if cost_s < best_cost_s or (
                cost_s == best_cost_s and candidate.placed_idx < best_placed_idx
            ):
                best, best_cost_s, best_placed_idx = candidate, cost_s, candidate.placed_idx
                best_missing, best_own_s, best_wait_s = missing, own_s, wait_s
        if best is None:
            return None
        ready_s = COMING_SLACK * (best_wait_s + best_own_s) + EVENT_S
        self._coming.add(best.worker_id, hashes[found.get(best.worker_id, 0) :], now_s + ready_s)
        charge = charges.setdefault(best.worker_id, _Charge(now_s))
        charge.seconds = self._decayed(charge, now_s) + best_own_s
        charge.updated_s = now_s
        return Placement(best, best_missing, scores or ())

    def _decayed(self, charge: _Charge, now_s: float) -> float:
        return charge.seconds * 0.5 ** ((now_s - charge.updated_s) / self._weights.miss_half_life_s)
