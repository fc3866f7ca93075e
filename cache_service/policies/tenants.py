"""A policy for each tenant that has blocks: what one uses says nothing of another's."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from cache_service.policies.choice import PolicyFactory
from cache_service.policies.port import EvictionPolicy
from services.core.blocks import BlockHash

_MAX_RESTING = 16
"""Tenants without blocks whose policy is kept; one may have learned megabytes."""


class TenantPolicies:
    """Makes a policy with a tenant's first block."""

    def __init__(self, new_policy: PolicyFactory) -> None:
        self._new_policy = new_policy
        self._policies: dict[str, EvictionPolicy] = {}
        self._uses: list[tuple[str, Sequence[BlockHash], float]] = []

    def of(self, tenant: str) -> EvictionPolicy:
        """The tenant's policy, made if there is none."""
        self.settle()
        policy = self._policies.get(tenant)
        if policy is None:
            policy = self._policies[tenant] = self._new_policy()
        return policy

    def used(self, tenant: str, chain: Sequence[BlockHash], now_s: float) -> None:
        """As EvictionPolicy.used, by `settle`; nothing for a tenant that never had a block."""
        self._uses.append((tenant, chain, now_s))

    def settle(self) -> None:
        """Tells policies of uses; done before anything else is asked of them."""
        uses, self._uses = self._uses, []
        for tenant, chain, now_s in uses:
            policy = self._policies.get(tenant)
            if policy is not None and chain:
                policy.used(chain, now_s)

    def coldest_first(self, tenant: str, now_s: float) -> Iterator[BlockHash]:
        """As EvictionPolicy.coldest_first."""
        self.settle()
        policy = self._policies.get(tenant)
        return policy.coldest_first(now_s) if policy else iter(())

    def rest(self, tenant: str, holders: Collection[str]) -> None:
        """A tenant lost its last block: what was learned is kept for the latest such tenants.

        Args:
            tenant: whose it was.
            holders: tenants that have blocks.
        """
        self.settle()
        self._policies[tenant] = self._policies.pop(tenant)
        resting = [name for name in self._policies if name not in holders]
        for name in resting[:-_MAX_RESTING]:
            del self._policies[name]
