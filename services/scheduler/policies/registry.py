"""All policies by name."""

from __future__ import annotations

from typing import Literal, get_args

from services.scheduler.fleet.kv_index import KvIndex
from services.scheduler.placement import LeastLoaded, PlacementPolicy
from services.scheduler.policies.plain import Random, RoundRobin
from services.scheduler.policies.published import DynamoCost, LlmdScorer, PrefixAffinity
from services.scheduler.policies.tokenmill import TokenmillPolicy

PolicyName = Literal[
    "random",
    "round-robin",
    "least-loaded",
    "prefix-affinity",
    "dynamo-cost",
    "llmd-scorer",
    "tokenmill",
]

POLICIES: tuple[PolicyName, ...] = get_args(PolicyName)


def make_policy(name: str, index: KvIndex, seed: int = 0) -> PlacementPolicy:
    """A fresh policy.

    Args:
        name: one of POLICIES.
        index: where blocks are; those that do not care ignore it.
        seed: of those that draw.

    Raises:
        KeyError: no policy of that name.
    """
    match name:
        case "random":
            return Random(seed)
        case "round-robin":
            return RoundRobin()
        case "least-loaded":
            return LeastLoaded()
        case "prefix-affinity":
            return PrefixAffinity(index)
        case "dynamo-cost":
            return DynamoCost(index, seed)
        case "llmd-scorer":
            return LlmdScorer(index, seed)
        case "tokenmill":
            return TokenmillPolicy(index)
        case _:
            raise KeyError(name)
