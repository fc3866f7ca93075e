"""Output tokens by tenant and class, for the schedulers' accounts."""

from __future__ import annotations

from services.core.load import TenantOutput
from services.core.request import RequestClass

MAX_REMEMBERED = 1_024
"""Counts kept. One that was forgotten and comes back begins at 0, which schedulers understand."""

MAX_TOLD = 64
"""Counts in a heartbeat: those that changed last."""


class TenantOutputs:
    """Counts from the worker's start; lives on the event loop."""

    def __init__(self) -> None:
        # In order of change, the latest last.
        self._counts: dict[tuple[str, RequestClass], int] = {}

    def add(self, tenant: str, request_class: RequestClass, num_tokens: int) -> None:
        """Requests of a tenant and class got so many tokens."""
        if num_tokens <= 0:
            return
        key = (tenant, request_class)
        self._counts[key] = self._counts.pop(key, 0) + num_tokens
        if len(self._counts) > MAX_REMEMBERED:
            del self._counts[next(iter(self._counts))]

    def latest(self) -> tuple[TenantOutput, ...]:
        """Those that changed last."""
        return tuple(
            TenantOutput(tenant, request_class, count)
            for (tenant, request_class), count in list(self._counts.items())[-MAX_TOLD:]
        )
