"""One look at the cluster, as JSON shows it."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from gateway.live_view.recent import RecentAnswers
from gateway.live_view.worker_board import SeenWorker, WorkerBoard
from gateway.queue.queue_watch import QueueWatch
from gateway.readiness import Readiness
from gateway.requests.live_requests import LiveRequests
from services.runtime.logs import get_logger
from services.wire.heartbeat import decode_heartbeat
from services.wire.queue import BadPayload

log = get_logger(__name__)


class LiveView:
    """What this gateway knows of itself and of the workers."""

    def __init__(
        self,
        instance_id: str,
        live_requests: LiveRequests,
        readiness: Readiness,
        recent: RecentAnswers,
        queue: QueueWatch,
        board: WorkerBoard,
    ) -> None:
        self._instance_id = instance_id
        self._live = live_requests
        self._readiness = readiness
        self._recent = recent
        self._queue = queue
        self._board = board

    def hear(self, payload: bytes) -> None:
        """Takes a heartbeat off the bus; one that cannot be read is left out."""
        try:
            heartbeat = decode_heartbeat(payload)
        except BadPayload as exc:
            log.warning("heartbeat.unreadable", error=str(exc))
            return
        self._board.hear(heartbeat, time.monotonic())

    def snapshot(self) -> dict[str, Any]:
        """Figures of the last half minute, and the state of now."""
        now_s = time.monotonic()
        figures = self._recent.figures(now_s)
        waiting = Counter(
            live.request.request_class.value
            for live in self._live.all()
            if live.attachment is None and not live.is_over
        )
        return {
            "gateway": self._instance_id,
            "unix_s": time.time(),
            "reasons_against": self._readiness.reasons_against(),
            "processes": self._processes(),
            "requests_per_s": figures.requests_per_s,
            "failed_per_s": figures.failed_per_s,
            "tokens_per_s": figures.tokens_per_s,
            "ttft_ms": figures.ttft_ms,
            "itl_ms": figures.itl_ms,
            "hit_share": figures.hit_share,
            "running": self._live.num_running,
            "waiting": dict(waiting),
            "workers": [_worker(seen) for seen in self._board.workers(now_s)],
        }

    def _processes(self) -> list[dict[str, str]]:
        """Who is well, as far as this gateway can tell; workers tell of themselves."""
        states = {self._instance_id: not self._readiness.reasons_against()}
        states |= self._readiness.neighbours()
        schedulers = self._queue.schedulers()
        states |= dict.fromkeys(schedulers or ["scheduler"], bool(schedulers))
        return [
            {"name": name, "state": "ready" if is_well else "silent"}
            for name, is_well in states.items()
        ]


def _worker(seen: SeenWorker) -> dict[str, Any]:
    load = seen.heartbeat.load
    return {
        "worker_id": seen.heartbeat.worker_id,
        "model": seen.heartbeat.model,
        "state": seen.state,
        "running": load.num_running,
        "waiting": load.num_waiting,
        "max_requests": load.max_requests,
        "kv_blocks": load.num_blocks,
        "kv_blocks_used": load.num_blocks - load.num_free_blocks,
        "pending_prefill_tokens": load.num_pending_prefill_tokens,
    }
