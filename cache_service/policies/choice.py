"""Policies by name."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

from cache_service.policies.hybrid import HybridPolicy
from cache_service.policies.port import EvictionPolicy
from cache_service.policies.simple import LfuPolicy, LruPolicy, TtlPolicy
from services.core.errors import InvalidRequest


class PolicyName(enum.StrEnum):
    """What an operator may choose."""

    LRU = "lru"
    LFU = "lfu"
    TTL = "ttl"
    HYBRID = "hybrid"


@dataclass(frozen=True, slots=True)
class PolicySettings:
    """What policies need to know.

    Attributes:
        ttl_s: a block's life after its last use.
        lfu_half_life_s: after it a use counts half.
    """

    ttl_s: float = 86_400.0
    lfu_half_life_s: float = 900.0


PolicyFactory = Callable[[], EvictionPolicy]


class PolicyChoice:
    """The policy in use. Its name may change while the service runs."""

    def __init__(self, name: PolicyName, settings: PolicySettings) -> None:
        self.name = name
        self._settings = settings

    def choose(self, name: str) -> PolicyFactory:
        """Takes another; returns what makes it.

        Raises:
            InvalidRequest: there is none of that name.
        """
        if name not in set(PolicyName):
            raise InvalidRequest(
                f"policy is {name[:32]!r}; allowed: {', '.join(PolicyName)}", field="policy"
            )
        self.name = PolicyName(name)
        return self.factory()

    def factory(self) -> PolicyFactory:
        """Makes fresh policies of the chosen kind."""
        settings = self._settings
        factories: dict[PolicyName, PolicyFactory] = {
            PolicyName.LRU: LruPolicy,
            PolicyName.LFU: lambda: LfuPolicy(settings.lfu_half_life_s),
            PolicyName.TTL: lambda: TtlPolicy(settings.ttl_s),
            PolicyName.HYBRID: lambda: HybridPolicy(settings.lfu_half_life_s),
        }
        return factories[self.name]
