"""How full the request queue is, how fast it drains, and what that means for one more request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

SILENT_AFTER_S = 5.0
"""A scheduler that said nothing for so long is taken to be gone."""


@dataclass(frozen=True, slots=True)
class BandStatus:
    """One scheduler's part in one band.

    Attributes:
        num_per_s: requests that left the queue for a worker, over the last seconds.
        num_held: pulled and not settled.
    """

    num_per_s: float
    num_held: int


@dataclass(frozen=True, slots=True)
class QueueStatus:
    """What a scheduler says of its model's queue.

    Attributes:
        bands: by name.
        depths: messages in the stream by lane, those that are held included; lanes in use only.
        num_workers: workers that may be given requests.
        desired_workers: how many it would like to have.
    """

    model: str
    scheduler_id: str
    bands: Mapping[str, BandStatus]
    depths: Mapping[str, int]
    num_workers: int = 0
    desired_workers: int = 0


@dataclass(slots=True)
class QueueView:
    """The words of all schedulers of a model, put together."""

    _heard: dict[str, tuple[QueueStatus, float]] = field(
        default_factory=dict[str, tuple[QueueStatus, float]]
    )

    def hear(self, status: QueueStatus, now_s: float) -> None:
        """Takes a scheduler's word."""
        self._heard[status.scheduler_id] = (status, now_s)
        for name, (_, heard_s) in list(self._heard.items()):
            if now_s - heard_s > SILENT_AFTER_S:
                del self._heard[name]

    def statuses(self, now_s: float) -> list[QueueStatus]:
        """The last word of each scheduler that still speaks, the latest word last."""
        fresh = [
            (heard_s, status)
            for status, heard_s in self._heard.values()
            if now_s - heard_s <= SILENT_AFTER_S
        ]
        return [status for _, status in sorted(fresh, key=lambda entry: entry[0])]

    def wait_s(self, lane: str, bands: tuple[str, ...], now_s: float) -> float | None:
        """How long one more request in this lane will wait for a worker; None if not known.

        Bands that are more urgent go first. In its own band lanes take turns: before a request that
        is the nth of its lane, the others send n each at most.

        Args:
            lane: where the request would wait.
            bands: all bands, the most urgent first.
            now_s: on the clock that `hear` was given.
        """
        statuses = self.statuses(now_s)
        if not statuses:
            return None
        depths = statuses[-1].depths
        num_own = depths.get(lane, 0) + 1
        own_rank = bands.index(lane.partition(".")[0])
        num_ahead = 0
        for other, depth in depths.items():
            rank = bands.index(other.partition(".")[0])
            if rank < own_rank:
                num_ahead += depth
            elif rank == own_rank:
                num_ahead += min(depth, num_own)
        if num_ahead == 0:
            return 0.0
        per_s = sum(band.num_per_s for status in statuses for band in status.bands.values())
        return num_ahead / per_s if per_s > 0 else None
