"""WorkerService: batches of submissions, and the list of blocks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from tokenmill.v1.worker_pb2_grpc import WorkerServiceServicer

from services.core.errors import Overloaded
from services.wire.kv_events import snapshot_to_pb
from services.wire.worker import submit_request_from_pb, submit_response_to_pb
from worker.delivery.attempt_runner import AttemptRunner
from worker.reports.kv_events import KvEventLog


class WorkerServicer(WorkerServiceServicer):
    """Over an AttemptRunner, which comes when the engine is loaded.

    Attributes:
        runner: None while the engine is loading.
        kv_log: what the engine's pool holds; None while the engine is loading.
    """

    def __init__(
        self, runner: AttemptRunner | None = None, kv_log: KvEventLog | None = None
    ) -> None:
        self.runner = runner
        self.kv_log = kv_log

    async def Submit(self, request: Any, context: Any) -> Any:
        """Answers when every submission is attached, gone or refused.

        Raises:
            Overloaded: the engine is still loading.
        """
        runner = self.runner
        if runner is None:
            raise _loading()
        submissions = submit_request_from_pb(request)
        results = await asyncio.gather(*(runner.submit(entry) for entry in submissions))
        return submit_response_to_pb(results, runner.load())

    async def ListBlocks(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """All blocks that a prefix can hit, in parts of one moment's list.

        Raises:
            Overloaded: the engine is still loading.
        """
        if self.kv_log is None:
            raise _loading()
        for part in snapshot_to_pb(self.kv_log.snapshot()):
            yield part


def _loading() -> Overloaded:
    return Overloaded("the worker is loading its model", reason="WORKER_LOADING")
