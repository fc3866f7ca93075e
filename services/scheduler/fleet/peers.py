"""The schedulers of one model, and which workers each looks after first. Pure."""

from __future__ import annotations

from collections.abc import Iterable

LOST_AFTER_S = 3.5
"""Schedulers tell of the queue every second; one that missed three is not counted."""


class Peers:
    """Divides the fleet among those who place on it, by the order of their names.

    What schedulers give out at the same moment none of them sees of the others; what several bring
    at once would all go to the worker that looked best to each.

    Args:
        own_id: of this scheduler.
    """

    def __init__(self, own_id: str) -> None:
        self._own_id = own_id
        self._heard_s: dict[str, float] = {}

    def hear(self, scheduler_id: str, now_s: float) -> None:
        """A scheduler of this model told of the queue; itself too."""
        self._heard_s[scheduler_id] = now_s
        for other, heard_s in list(self._heard_s.items()):
            if now_s - heard_s > LOST_AFTER_S:
                del self._heard_s[other]

    def foreign(self, worker_ids: Iterable[str]) -> frozenset[str]:
        """Workers that others look after first; none while this scheduler is alone."""
        ids = sorted(self._heard_s.keys() | {self._own_id})
        own_idx = ids.index(self._own_id)
        return frozenset(
            worker_id
            for idx, worker_id in enumerate(sorted(worker_ids))
            if idx % len(ids) != own_idx
        )
