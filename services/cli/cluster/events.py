"""What a supervisor has to say, to a terminal or through a pipe."""

from __future__ import annotations

import enum
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass


class EventKind(enum.StrEnum):
    """What happened."""

    PROCESS_READY = "process.ready"
    PROCESS_DIED = "process.died"
    PROCESS_STOPPED = "process.stopped"
    PROCESS_KILLED = "process.killed"
    CLUSTER_READY = "cluster.ready"
    CLUSTER_DRAINING = "cluster.draining"
    CLUSTER_STOPPED = "cluster.stopped"
    CLUSTER_FAILED = "cluster.failed"


@dataclass(frozen=True, slots=True)
class ClusterEvent:
    """One thing that happened.

    Attributes:
        name: of the process; empty for the cluster as a whole.
        seconds: how long it took, or will take.
        detail: for people: where it listens, why it died.
    """

    kind: EventKind
    name: str = ""
    seconds: float = 0.0
    detail: str = ""


Report = Callable[[ClusterEvent], None]


def encode_event(event: ClusterEvent) -> str:
    """One line of JSON."""
    return json.dumps(asdict(event))


def decode_event(line: str) -> ClusterEvent | None:
    """None for a line that is no event."""
    try:
        raw = json.loads(line)
        return ClusterEvent(EventKind(raw.pop("kind")), **raw)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
