"""The last word of each worker. Time comes in as an argument."""

from __future__ import annotations

from dataclasses import dataclass

from services.core.load import WorkerHeartbeat

SILENT_AFTER_S = 2.0
FORGOTTEN_AFTER_S = 30.0
MAX_WORKERS = 4096


@dataclass(frozen=True, slots=True)
class SeenWorker:
    """A worker, and how it is: its own word, or `silent`."""

    heartbeat: WorkerHeartbeat
    state: str


class WorkerBoard:
    """Heartbeats by worker; silent ones are shown for a while, then forgotten."""

    def __init__(self) -> None:
        self._heard: dict[str, tuple[float, WorkerHeartbeat]] = {}

    def hear(self, heartbeat: WorkerHeartbeat, now_s: float) -> None:
        """Takes a worker's word; of more than MAX_WORKERS no new ones are taken."""
        known = self._heard.get(heartbeat.worker_id)
        if known is not None or len(self._heard) < MAX_WORKERS:
            self._heard[heartbeat.worker_id] = (now_s, heartbeat)

    def identity_of(self, model: str, now_s: float) -> str:
        """What names the weights and numerics of a model's workers.

        Empty if they differ, or none was heard of lately.
        """
        found = {
            (kv.model_revision, kv.layout)
            for heard_s, heartbeat in self._heard.values()
            if heartbeat.model == model and now_s - heard_s <= FORGOTTEN_AFTER_S
            if (kv := heartbeat.kv) is not None
        }
        return "\n".join(next(iter(found))) if len(found) == 1 else ""

    def workers(self, now_s: float) -> list[SeenWorker]:
        """All that were heard of lately, by name."""
        for worker_id, (heard_s, _) in list(self._heard.items()):
            if now_s - heard_s > FORGOTTEN_AFTER_S:
                del self._heard[worker_id]
        return [
            SeenWorker(
                heartbeat,
                heartbeat.state.value if now_s - heard_s <= SILENT_AFTER_S else "silent",
            )
            for _, (heard_s, heartbeat) in sorted(self._heard.items())
        ]
