"""WorkerService: a batch of submissions in, one result each out."""

from __future__ import annotations

import asyncio
from typing import Any

from tokenmill.v1.worker_pb2_grpc import WorkerServiceServicer

from services.core.errors import Overloaded
from services.wire.worker import submit_request_from_pb, submit_response_to_pb
from worker.attempt_runner import AttemptRunner


class WorkerServicer(WorkerServiceServicer):
    """Over an AttemptRunner, which comes when the engine is loaded.

    Attributes:
        runner: None while the engine is loading.
    """

    def __init__(self, runner: AttemptRunner | None = None) -> None:
        self.runner = runner

    async def Submit(self, request: Any, context: Any) -> Any:
        """Answers when every submission is attached, gone or refused.

        Raises:
            Overloaded: the engine is still loading.
        """
        runner = self.runner
        if runner is None:
            raise Overloaded("the worker is loading its model", reason="WORKER_LOADING")
        submissions = submit_request_from_pb(request)
        results = await asyncio.gather(*(runner.submit(entry) for entry in submissions))
        return submit_response_to_pb(results, runner.load())
