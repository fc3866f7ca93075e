"""Why held requests waited: who went before them, and how long there was no room. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from services.scheduler.order import HeldRequest, RequestKey
from services.wire.subjects import BANDS

_URGENCY = {band: idx for idx, band in enumerate(BANDS)}


@dataclass(slots=True)
class Wait:
    """Of one request, from its first round until it was placed.

    Attributes:
        num_before_by_class: requests of a more urgent class that were placed before it.
        num_before_by_turn: others that were: earlier, or of a tenant whose turn it was.
        no_room_s: time in which no worker had a free place.
    """

    num_before_by_class: int = 0
    num_before_by_turn: int = 0
    no_room_s: float = 0.0


class WaitBook:
    """Told of each round of placing. Forgets whom the round no longer names."""

    def __init__(self) -> None:
        self._waits: dict[RequestKey, Wait] = {}
        self._last_s: float | None = None
        self._was_full = False

    def clear(self) -> None:
        """Nobody waits."""
        self._waits, self._last_s, self._was_full = {}, None, False

    def round(
        self,
        ready: Iterable[HeldRequest],
        placed: Iterable[HeldRequest],
        *,
        has_room: bool,
        now_s: float,
    ) -> Mapping[RequestKey, Wait]:
        """One round: who could be placed, and who was.

        Args:
            ready: all that waited, those that were placed included.
            placed: those that a worker was found for.
            has_room: whether a worker has a free place after it.
            now_s: the scheduler's clock.

        Returns:
            How those that were placed had waited.
        """
        passed_s = 0.0 if self._last_s is None else now_s - self._last_s
        before = self._waits
        gone = {entry.key: entry for entry in placed}
        num_by_band = [0] * len(_URGENCY)
        for entry in gone.values():
            num_by_band[_URGENCY[entry.band]] += 1
        self._waits = {}
        for entry in ready:
            if entry.key in gone:
                continue
            wait = before.get(entry.key) or Wait()
            urgency = _URGENCY[entry.band]
            num_urgent = sum(num_by_band[:urgency])
            wait.num_before_by_class += num_urgent
            wait.num_before_by_turn += len(gone) - num_urgent
            if entry.key in before and self._was_full:
                wait.no_room_s += passed_s
            self._waits[entry.key] = wait
        waited = {key: before.get(key) or Wait() for key in gone}
        for key, wait in waited.items():
            if key in before and self._was_full:
                wait.no_room_s += passed_s
        self._was_full = not has_room
        self._last_s = now_s
        return waited
