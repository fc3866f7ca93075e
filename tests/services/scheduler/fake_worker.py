"""A worker that speaks the real protocols and computes nothing."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence

from tokenmill.v1.worker_pb2_grpc import WorkerServiceServicer, add_WorkerServiceServicer_to_server

from services.core.block_names import BlockNames, BlockNaming
from services.core.errors import InvalidRequest
from services.core.kv_events import KvState
from services.core.load import TenantOutput, WorkerHeartbeat, WorkerLoad, WorkerState
from services.core.request import Submission, SubmissionOutcome, SubmissionResult
from services.runtime.bus import Bus
from services.runtime.naming_watch import naming_bucket
from services.runtime.rpc_server import RpcServer
from services.wire.block_naming import SECRET_BYTES, SECRET_ENTRY
from services.wire.heartbeat import encode_heartbeat
from services.wire.kv_events import encode_kv_event, snapshot_to_pb
from services.wire.subjects import heartbeat_subject, kv_events_subject
from services.wire.worker import submit_request_from_pb, submit_response_to_pb
from tests.services.scheduler.requests import MODEL, TENANT
from worker.reports.kv_events import KvEventLog

REVISION, LAYOUT, BLOCK_SIZE = "digest", "layout", 16
SECRET = b"s" * SECRET_BYTES
NAMES = BlockNames(REVISION, LAYOUT, BLOCK_SIZE, BlockNaming(SECRET))


class FakeWorker(WorkerServiceServicer):
    """Accepts everything, unless told otherwise; `batches` holds what came in.

    Attributes:
        outcomes: for the next submissions; then accepted.
        gate: a submission is answered only while this is set.
        poison: requests that make a submission fail as a whole.
        num_beats: heartbeats sent.
        kv_log: what it holds; told by announce_blocks, and listed on demand.
        num_lists: how often its list was asked for.
    """

    def __init__(self, worker_id: str, bus: Bus, *, max_requests: int = 8) -> None:
        self.worker_id = worker_id
        self.state = WorkerState.READY
        self.max_requests = max_requests
        self.num_running = 0
        self.num_pending_tokens = 0
        self.keeps_requests = False
        self.batches: list[list[Submission]] = []
        self.received_s: list[float] = []
        self.outcomes: deque[SubmissionOutcome] = deque()
        self.gate = asyncio.Event()
        self.gate.set()
        self.poison: set[str] = set()
        self.accepted_ids: list[str] = []
        self.num_beats = 0
        self.kv_log = KvEventLog(worker_id, epoch=1)
        self.num_lists = 0
        self.outputs: tuple[TenantOutput, ...] = ()
        self._bus = bus
        self._server = RpcServer()
        self._address = ""
        self._beat: asyncio.Task[None] | None = None
        self._changed = asyncio.Condition()

    async def start(self) -> FakeWorker:
        self._server.add(add_WorkerServiceServicer_to_server, self, "tokenmill.v1.WorkerService")
        port = await self._server.start("127.0.0.1", 0)
        self._address = f"127.0.0.1:{port}"
        await naming_bucket(self._bus).put(SECRET_ENTRY, SECRET)
        self._beat = asyncio.create_task(self._beat_for_ever())
        return self

    async def stop(self) -> None:
        """Falls silent and closes its port, as a killed process does."""
        self.fall_silent()
        await self._server.grpc.stop(None)

    def fall_silent(self) -> None:
        if self._beat is not None:
            self._beat.cancel()

    async def close_port(self) -> None:
        """Goes on announcing itself, but no call comes through."""
        await self._server.grpc.stop(None)

    async def announce(self) -> None:
        self.num_beats += 1
        heartbeat = WorkerHeartbeat(
            self.worker_id,
            self._address,
            MODEL,
            self.state,
            self.num_beats,
            self._load(),
            kv=KvState(REVISION, LAYOUT, self.kv_log.epoch, self.kv_log.event_idx),
            outputs=self.outputs,
        )
        await self._bus.publish(
            heartbeat_subject(MODEL, self.worker_id), encode_heartbeat(heartbeat)
        )

    def hold(self, token_ids: Sequence[int], tenant: str = TENANT) -> None:
        """Holds the full blocks of a prompt from now on."""
        for block_hash in NAMES.hashes(tenant, token_ids):
            self.kv_log.on_remembered(block_hash)

    async def announce_blocks(self, *, is_lost: bool = False) -> None:
        """Tells of what changed; an event that is lost on the way counts as told."""
        event = self.kv_log.take()
        if event is not None and not is_lost:
            await self._bus.publish(
                kv_events_subject(MODEL, self.worker_id), encode_kv_event(event)
            )

    async def ListBlocks(self, request, context):
        self.num_lists += 1
        for part in snapshot_to_pb(self.kv_log.snapshot()):
            yield part

    @property
    def request_ids(self) -> list[str]:
        """All that came in, in order."""
        return [entry.request.request_id for batch in self.batches for entry in batch]

    async def wait_for_requests(self, count: int) -> list[str]:
        async with asyncio.timeout(20), self._changed:
            await self._changed.wait_for(lambda: len(self.request_ids) >= count)
        return self.request_ids

    async def Submit(self, request, context):
        submissions = submit_request_from_pb(request)
        self.received_s.append(time.time())
        self.batches.append(submissions)
        async with self._changed:
            self._changed.notify_all()
        await self.gate.wait()
        if any(entry.request.request_id in self.poison for entry in submissions):
            raise InvalidRequest("poisoned")
        results = []
        for entry in submissions:
            outcome = self.outcomes.popleft() if self.outcomes else SubmissionOutcome.ACCEPTED
            results.append(SubmissionResult(entry.request.request_id, outcome))
            if outcome is SubmissionOutcome.ACCEPTED:
                self.accepted_ids.append(entry.request.request_id)
                self.num_running += self.keeps_requests
        return submit_response_to_pb(results, self._load())

    def _load(self) -> WorkerLoad:
        return WorkerLoad(
            self.max_requests, self.num_running, 0, 100, 100, BLOCK_SIZE, self.num_pending_tokens
        )

    async def _beat_for_ever(self) -> None:
        while True:
            await self.announce()
            await asyncio.sleep(0.05)
