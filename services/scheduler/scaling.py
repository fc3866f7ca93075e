"""How many workers a model should have."""

from __future__ import annotations

import math
from dataclasses import dataclass

TARGET_UTILISATION = 0.8
"""Of the workers' places. Above, a burst finds no room; far below, workers idle."""

TARGET_WAIT_S = 5.0
"""What waits should be on a worker within so long."""


@dataclass(frozen=True, slots=True)
class FleetLoad:
    """What the decision is made of.

    Attributes:
        num_workers: that may be given requests.
        num_places: requests that these may have at once.
        num_running: requests that are there.
        num_waiting: requests in the queue.
        num_per_s: requests that left the queue for a worker, lately.
    """

    num_workers: int
    num_places: int
    num_running: int
    num_waiting: int
    num_per_s: float


def desired_workers(load: FleetLoad) -> int:
    """Enough for what runs at the target utilisation, and for what waits at the target wait.

    With nothing to do, one: starting from none is the autoscaler's decision, by the queue's depth.
    """
    if load.num_workers == 0:
        return 1
    places_each = max(1.0, load.num_places / load.num_workers)
    for_running = load.num_running / (places_each * TARGET_UTILISATION)
    per_worker_s = load.num_per_s / load.num_workers
    if load.num_waiting == 0:
        for_waiting = 0.0
    elif per_worker_s > 0:
        for_waiting = load.num_waiting / (per_worker_s * TARGET_WAIT_S)
    else:
        # Nothing leaves the queue: places are all that is known.
        for_waiting = load.num_waiting / places_each
    # What waits comes on top only as far as those that run do not make room for it in time.
    wanted = max(for_running, for_waiting)
    # Rounding errors must not cost a machine.
    return max(1, math.ceil(wanted - 1e-9))
