"""How long a miss takes when another tenant has the text, and when nobody has."""

from __future__ import annotations

import gc
import statistics
import time
from dataclasses import dataclass
from typing import Any

from cache_service.block_store import BlockStore
from cache_service.policies.choice import PolicyChoice, PolicyName, PolicySettings
from cache_service.store_rules import StoreLimits
from services.core.block_names import BlockNames, BlockNaming
from services.core.blocks import BlockPayload

_LAYOUT, _BLOCK_SIZE = "layout", 32
_BLOCK = bytes(64)


@dataclass(frozen=True, slots=True)
class MissPlan:
    """What is looked up.

    Attributes:
        num_pairs: of stores: in one the other tenant has all texts that are asked for, in its twin
            as many others. Many, since where things lie in memory makes stores differ too.
        num_lookups: in each store, in turn with its twin.
        num_prompts: texts that are asked for.
        prompt_tokens: of each.
    """

    num_pairs: int = 30
    num_lookups: int = 2_000
    num_prompts: int = 50
    prompt_tokens: int = 1_024


def measure_misses(plan: MissPlan) -> dict[str, Any]:
    """Time of both kinds, and how far apart they are in standard errors over the pairs."""
    gc.disable()
    try:
        pairs = [_times_us(plan, idx) for idx in range(plan.num_pairs)]
    finally:
        gc.enable()
    differences = [there - nowhere for there, nowhere in pairs]
    error = statistics.stdev(differences) / len(differences) ** 0.5
    mean = statistics.mean(differences)
    return {
        "there_us": round(statistics.median(there for there, _ in pairs), 4),
        "nowhere_us": round(statistics.median(nowhere for _, nowhere in pairs), 4),
        "mean_difference_us": round(mean, 5),
        "standard_errors": round(mean / error, 2) if error else 0.0,
        "num_pairs": plan.num_pairs,
        "num_lookups": plan.num_lookups,
    }


def _times_us(plan: MissPlan, pair_idx: int) -> tuple[float, float]:
    """Mean of the faster half, of one pair of stores: with the texts, and with others."""
    # Names of its own, so that each pair lies elsewhere in memory.
    naming = BlockNaming(f"secret {pair_idx}".encode())
    names = BlockNames("revision", _LAYOUT, _BLOCK_SIZE, naming)
    texts = [_text(idx, plan) for idx in range(2 * plan.num_prompts)]
    asked, unasked = texts[: plan.num_prompts], texts[plan.num_prompts :]
    # Which is made and asked first must not matter: both change.
    kinds = [("there", asked), ("nowhere", unasked)][:: 1 if pair_idx % 2 else -1]
    stores = [(kind, _store(names, held), list[int]()) for kind, held in kinds]
    chains = [tuple(names.hashes("mine", text)) for text in asked]
    for idx in range(plan.num_lookups):
        chain = chains[idx // 2 % len(chains)]
        for _, store, taken_ns in stores[:: 1 if idx % 2 else -1]:
            began = time.perf_counter_ns()
            found = store.lookup(chain, _LAYOUT, "mine")
            taken_ns.append(time.perf_counter_ns() - began)
            assert not found, "another tenant's block was found"
    means = {
        kind: statistics.mean(sorted(taken_ns)[: plan.num_lookups // 2]) / 1000
        for kind, _, taken_ns in stores
    }
    return means["there"], means["nowhere"]


def _text(idx: int, plan: MissPlan) -> list[int]:
    return [idx, *range(plan.prompt_tokens - 1)]


def _store(names: BlockNames, texts: list[list[int]]) -> BlockStore:
    factory = PolicyChoice(PolicyName.LRU, PolicySettings()).factory()
    store = BlockStore(StoreLimits(1 << 30), factory, time.monotonic)
    for text in texts:
        parent = b""
        for block_hash in names.hashes("other", text):
            store.put(BlockPayload(block_hash, parent, _LAYOUT, "other", _BLOCK, 0))
            parent = block_hash
    return store
