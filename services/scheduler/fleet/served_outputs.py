"""What tenants got of the workers since the last heartbeat."""

from __future__ import annotations

from collections.abc import Iterator

from services.core.load import TenantOutput, WorkerHeartbeat
from services.core.request import RequestClass


class ServedOutputs:
    """Remembers each worker's counts, and tells how much they grew."""

    def __init__(self) -> None:
        self._counts: dict[str, dict[tuple[str, RequestClass], int]] = {}

    def growth(self, heartbeat: WorkerHeartbeat) -> Iterator[TenantOutput]:
        """Output tokens since this worker's heartbeat before; none at its first.

        A count that fell began anew, so all of it is growth.
        """
        counts = self._counts.get(heartbeat.worker_id)
        is_first = counts is None
        if counts is None:
            counts = self._counts[heartbeat.worker_id] = {}
        for output in heartbeat.outputs:
            key = (output.tenant, output.request_class)
            before = counts.get(key, 0)
            counts[key] = output.num_tokens
            num_new = output.num_tokens - (before if before <= output.num_tokens else 0)
            if num_new and not is_first:
                yield TenantOutput(output.tenant, output.request_class, num_new)

    def forget(self, worker_id: str) -> None:
        """The worker is gone."""
        self._counts.pop(worker_id, None)
