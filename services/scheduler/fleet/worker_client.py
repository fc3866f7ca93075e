"""gRPC out: batches to workers, and their lists of blocks."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from tokenmill.v1.worker_pb2_grpc import WorkerServiceStub

from services.core.kv_events import KvSnapshot
from services.core.load import WorkerLoad
from services.core.request import Submission, SubmissionResult
from services.runtime.rpc_client import TracedCall, open_channel, peer_errors
from services.wire.kv_events import list_blocks_request, snapshot_from_pb
from services.wire.worker import submit_request_to_pb, submit_response_from_pb


@dataclass(frozen=True, slots=True)
class _Peer:
    channel: grpc.aio.Channel
    stub: Any
    submit: TracedCall


class WorkerClient:
    """A channel per worker address, kept while the worker is remembered."""

    def __init__(self) -> None:
        self._peers: dict[str, _Peer] = {}
        self._num_calls: dict[str, int] = {}

    def connect(self, address: str) -> None:
        """Begins to connect, so that the first submission finds a connection. Twice is safe."""
        self._peer(address).channel.get_state(try_to_connect=True)

    async def submit(
        self, address: str, submissions: Sequence[Submission], *, timeout_s: float
    ) -> tuple[list[SubmissionResult], WorkerLoad]:
        """Hands a batch over. Not idempotent, but safe to repeat elsewhere: the owner picks one.

        Raises:
            TokenmillError: the worker did not answer; what it did with the batch is unknown.
        """
        peer = self._peer(address)
        with self._calling(address), peer_errors("worker"):
            response = await peer.submit(submit_request_to_pb(submissions), timeout_s=timeout_s)
        return submit_response_from_pb(response)

    async def list_blocks(self, worker_id: str, address: str, *, timeout_s: float) -> KvSnapshot:
        """All blocks that a prefix can hit at a worker.

        Raises:
            TokenmillError: the worker did not answer, or not with a list.
        """
        stub = self._peer(address).stub
        with self._calling(address), peer_errors("worker"):
            call = stub.ListBlocks(list_blocks_request(), timeout=timeout_s)
            parts = [part async for part in call]
        return snapshot_from_pb(worker_id, parts)

    @contextmanager
    def _calling(self, address: str) -> Iterator[None]:
        """Keeps the channel open meanwhile."""
        self._num_calls[address] = self._num_calls.get(address, 0) + 1
        try:
            yield
        finally:
            self._num_calls[address] -= 1

    async def retain(self, addresses: Collection[str]) -> None:
        """Closes the channels to all other addresses, except those with a call under way."""
        for address in [address for address in self._peers if address not in addresses]:
            if not self._num_calls.get(address):
                self._num_calls.pop(address, None)
                await self._peers.pop(address).channel.close()

    async def close(self) -> None:
        """Closes all channels; calls under way fail."""
        while self._peers:
            _, peer = self._peers.popitem()
            await peer.channel.close()

    def _peer(self, address: str) -> _Peer:
        peer = self._peers.get(address)
        if peer is None:
            channel = open_channel(address, traces_unary=False)
            stub = WorkerServiceStub(channel)
            submit = TracedCall(address, "tokenmill.v1.WorkerService/Submit", stub.Submit)
            peer = self._peers[address] = _Peer(channel, stub, submit)
        return peer
