from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest

from services.core.kv_events import KvEvent
from services.core.step_time import StepTimeModel
from services.scheduler.fleet.kv_index import KvIndex
from services.scheduler.order import HeldRequest
from services.scheduler.placement import Candidate, PlacementPolicy
from services.scheduler.policies.registry import POLICIES, make_policy
from services.scheduler.policies.tokenmill import CostWeights
from tests.services.scheduler.requests import held

BLOCK = 16
HASHES = tuple(idx.to_bytes(16, "little") for idx in range(10))
AWARE = ("prefix-affinity", "dynamo-cost", "llmd-scorer", "tokenmill")


def worker(worker_id: str, *, num_requests: int = 0, num_prefill: int = 0) -> Candidate:
    return Candidate(
        worker_id,
        max_requests=64,
        num_requests=num_requests,
        num_prefill_tokens=num_prefill,
        placed_idx=0,
        num_running=num_requests,
        num_free_blocks=1000,
        num_blocks=1000,
        block_size=BLOCK,
    )


def prompt(num_blocks: int = 10) -> HeldRequest:
    entry = held("r", num_prompt_tokens=num_blocks * BLOCK + 1)
    return replace(entry, block_hashes=HASHES[:num_blocks])


def index_of(**num_blocks_by_worker: int) -> KvIndex:
    index = KvIndex()
    for worker_id, num_blocks in num_blocks_by_worker.items():
        index.apply(KvEvent(worker_id, 1, 1, HASHES[:num_blocks]))
    return index


def choose(policy: PlacementPolicy, candidates: Sequence[Candidate]) -> str | None:
    placement = policy.choose(prompt(), candidates, 0.0)
    return None if placement is None else placement.candidate.worker_id


@pytest.mark.parametrize("name", POLICIES)
def test_a_full_worker_is_given_nothing(name: str):
    policy = make_policy(name, index_of(full=10))
    assert choose(policy, [worker("full", num_requests=64)]) is None
    assert choose(policy, [worker("full", num_requests=64), worker("free")]) == "free"


@pytest.mark.parametrize("name", AWARE)
def test_a_worker_that_holds_the_prompt_is_preferred_and_only_the_rest_counts(name: str):
    policy = make_policy(name, index_of(b=8))
    placement = policy.choose(prompt(), [worker("a"), worker("b"), worker("c")], 0.0)
    assert placement is not None
    assert placement.candidate.worker_id == "b"
    assert placement.num_missing_tokens == 2 * BLOCK + 1


def test_locality_does_not_overload_a_worker():
    policy = make_policy("tokenmill", index_of(b=10))
    busy = worker("b", num_requests=20, num_prefill=50_000)
    assert choose(policy, [worker("a"), busy]) == "a"


def test_a_worker_whose_running_batch_is_full_is_spared():
    policy = make_policy("tokenmill", KvIndex())
    crowded, roomy = worker("crowded", num_requests=8), worker("roomy", num_requests=7)
    crowded.max_running, roomy.max_running = 8, 8
    # Its prompts alone would make it the worse one.
    roomy.num_prefill_tokens = 2_000
    assert choose(policy, [crowded, roomy]) == "roomy"


def test_where_queues_stand_the_holder_is_worth_waiting_for():
    def chosen(num_waiting: int) -> str | None:
        policy = make_policy("tokenmill", index_of(holder=10))
        holder, other = worker("holder", num_prefill=2_000), worker("other")
        holder.num_waiting = other.num_waiting = num_waiting
        return choose(policy, [holder, other])

    assert (chosen(0), chosen(40)) == ("other", "holder")


def test_a_slow_worker_is_given_less():
    policy = make_policy("tokenmill", KvIndex())
    slow, fast = worker("slow"), worker("fast", num_prefill=100)
    slow.step_time = replace(StepTimeModel(), prefill_s=1e-2)
    assert choose(policy, [slow, fast]) == "fast"


@pytest.mark.parametrize("name", ["round-robin", "least-loaded", "tokenmill"])
def test_equal_workers_take_turns(name: str):
    policy = make_policy(name, KvIndex())
    fleet = [worker(f"w{idx}") for idx in range(4)]
    chosen: Counter[str] = Counter()
    for placed_idx in range(1, 41):
        placement = policy.choose(prompt(), fleet, placed_idx * 10.0)
        assert placement is not None
        chosen[placement.candidate.worker_id] += 1
        # At once done with: no load tells the workers apart.
        placement.candidate.placed_idx = placed_idx
    assert set(chosen.values()) == {10}


def test_a_cold_fleet_is_spread_by_recent_misses():
    index = index_of(first=1)
    policy = make_policy("tokenmill", index)
    fleet = [worker("first"), worker("second")]
    chosen = Counter(choose(policy, fleet) for _ in range(400))
    assert min(chosen.values()) > 100


def test_a_beginning_that_is_being_computed_draws_what_shares_it():
    policy = make_policy("tokenmill", KvIndex())
    first = choose(policy, [worker("a"), worker("b")])
    busy = [
        worker(name, num_requests=int(name == first), num_prefill=161 * (name == first))
        for name in ("a", "b")
    ]
    again = policy.choose(prompt(), busy, 0.1)
    assert again is not None
    assert (again.candidate.worker_id, again.num_missing_tokens) == (first, 1)
    later = policy.choose(prompt(), busy, 100.0)
    assert later is not None
    assert later.num_missing_tokens == 161


def test_a_prompt_beside_decodes_costs_whole_steps_of_the_workers_pace():
    def cost_s(itl_target_s: float) -> float:
        busy = replace(worker("w", num_requests=10), itl_target_s=itl_target_s)
        placement = make_policy("tokenmill", KvIndex()).choose(prompt(), [busy], 0.0)
        assert placement is not None
        return placement.scores[0].cost_s

    model = StepTimeModel()
    decodes_s = model.base_s + 10 * model.decode_s
    own_s = 161 * (model.prefill_s + decodes_s / (model.max_batched_tokens - 10))
    own_s += 161 * model.prefill_pair_s * 161 / 2
    weight = CostWeights().own_prefill
    # 161 tokens are less than a step of 50 ms takes, and end when that step ends.
    assert cost_s(0.05) - cost_s(0.0) == pytest.approx(weight * (0.05 - own_s))
    assert decodes_s < 0.05


def test_a_worker_of_another_scheduler_is_second_choice_unless_it_holds_the_prompt():
    foreign = replace(worker("a"), is_foreign=True)
    own = worker("b")
    assert choose(make_policy("tokenmill", KvIndex()), [foreign, own]) == "b"
    assert choose(make_policy("tokenmill", index_of(a=8)), [foreign, own]) == "a"


def test_an_unknown_policy_is_an_error():
    with pytest.raises(KeyError):
        make_policy("best", KvIndex())


def test_what_the_cache_service_was_offered_costs_the_time_to_bring_it():
    index = index_of(holder=10)
    policy = make_policy("tokenmill", index)
    prefill_s = StepTimeModel().prefill_s
    cheap = replace(worker("cheap"), cache_block_s=0.1 * BLOCK * prefill_s)
    dear = replace(worker("dear"), cache_block_s=10 * BLOCK * prefill_s)
    placement = policy.choose(prompt(), [dear, cheap], 0.0)
    assert placement is not None
    assert placement.candidate is cheap
    assert placement.num_missing_tokens == 1
    # A worker where loading takes longer than computing computes.
    costs = {score.worker_id: score for score in placement.scores}
    assert costs["dear"].num_missing_tokens == 10 * BLOCK + 1
    # Without such a measure nothing is expected of a cache.
    placement = policy.choose(prompt(), [worker("none")], 0.0)
    assert placement is not None
    assert placement.num_missing_tokens == 10 * BLOCK + 1


def test_a_holder_goes_before_one_that_must_bring_the_blocks():
    policy = make_policy("tokenmill", index_of(holder=10))
    loader = replace(worker("loader"), cache_block_s=1e-4)
    assert choose(policy, [loader, worker("holder")]) == "holder"
    assert choose(policy, [loader, worker("holder", num_requests=63, num_prefill=40_000)]) == (
        "loader"
    )
