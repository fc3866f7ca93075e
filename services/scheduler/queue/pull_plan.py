"""How many requests to pull from which lane of the queue."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from services.wire.subjects import BANDS, band_of_lane

MAX_LINGERING = 8
"""Requests that one pull at an empty lane waits for. More than one: each pull that ends costs two
new ones, and at hundreds of requests/s that was half of what the broker and a scheduler did."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What a scheduler can take now.

    Attributes:
        num_room: free places on workers, and the look-ahead.
        num_left: most that may be held beyond what is held now.
        num_waiting: per lane, requests that are held and wait for a worker.
    """

    num_room: int
    num_left: int
    num_waiting: Mapping[str, int]


@dataclass(slots=True)
class LaneState:
    """What is known of a lane.

    Attributes:
        num_asked: requests that a pull under way may yet bring.
        lingers: that pull waits at an empty lane.
        has_more: the lane is worth asking at once: not known to be empty.
    """

    name: str
    num_asked: int = 0
    lingers: bool = False
    has_more: bool = True


L = TypeVar("L", bound=LaneState)


def plan_pulls(lanes: Iterable[L], demand: Demand) -> list[tuple[L, int]]:
    """Lanes without a pull under way, and how much to ask of each.

    The room is divided among the lanes of a band that have something, after what more urgent bands
    hold already. Every lane may have at least one request held, even when there is no room: else a
    freed place would always go to whoever floods the queue, for only what is held can be ordered.
    Pulls that wait at empty lanes take no room from others, so together they are for half of it at
    most, apart from the one of each.
    """
    by_band: dict[str, list[L]] = {band: [] for band in BANDS}
    num_lanes = 0
    for lane in lanes:
        by_band[band_of_lane(lane.name)].append(lane)
        num_lanes += 1
    num_lingering = max(1, min(MAX_LINGERING, demand.num_room // (2 * max(1, num_lanes))))
    num_room, num_left = demand.num_room, demand.num_left
    waiting = Counter(dict(demand.num_waiting))
    planned: list[tuple[L, int]] = []
    for of_band in by_band.values():
        coming = {lane.name: 0 if lane.lingers else lane.num_asked for lane in of_band}
        num_active = sum(
            lane.has_more or waiting[lane.name] + coming[lane.name] > 0 for lane in of_band
        )
        share = max(1, -(-num_room // max(1, num_active)))
        # Those that hold least come first, in case that not all may be asked.
        for lane in sorted(of_band, key=lambda lane: waiting[lane.name]):
            num_wanted = min(share - waiting[lane.name] - coming[lane.name], num_left)
            if lane.num_asked == 0 and num_wanted > 0:
                if lane.has_more:
                    planned.append((lane, num_wanted))
                    num_left -= num_wanted
                    num_room -= num_wanted
                else:
                    # Likely to bring nothing: it keeps no room from others.
                    planned.append((lane, min(num_wanted, num_lingering)))
            num_room -= waiting[lane.name] + coming[lane.name]
    return planned
