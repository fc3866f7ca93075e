"""Workers in: attaches and frames. Cancels out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from tokenmill.v1.delivery_pb2_grpc import DeliveryServiceServicer

from gateway.live_view.recent import RECENT
from gateway.metrics import ATTEMPTS_LOST, ATTEMPTS_PAUSED, WORKERS_CONNECTED
from gateway.queue.dispatch import Dispatcher
from gateway.requests.live_request import Attachment, LiveRequest, Verdict
from gateway.requests.live_requests import LiveRequests
from gateway.workers.worker_stream import WorkerStream
from services.core.delivery import Attach, Attached, Cancel, Gone, StepFrame, WorkerHello
from services.core.errors import DeadlineExceeded, InvalidRequest, Overloaded
from services.runtime.logs import get_logger
from services.wire.delivery import gateway_message_to_pb, worker_message_from_pb

log = get_logger(__name__)

HELLO_TIMEOUT_S = 10.0


class DeliveryServicer(DeliveryServiceServicer):
    """One stream per worker; when it breaks, each of its requests is queued again."""

    def __init__(
        self, live_requests: LiveRequests, dispatcher: Dispatcher, *, max_worker_messages: int
    ) -> None:
        self._live = live_requests
        self._dispatcher = dispatcher
        self._max_messages = max_worker_messages

    async def Deliver(
        self, request_iterator: AsyncIterator[Any], context: Any
    ) -> AsyncIterator[Any]:
        """Lives as long as the worker's interest in this gateway."""
        worker_id = await self._hello(request_iterator)
        stream = WorkerStream(worker_id, max_messages=self._max_messages)
        log.info("worker.connected", worker_id=worker_id)
        WORKERS_CONNECTED.inc()
        reader = asyncio.ensure_future(self._read(request_iterator, stream))

        def lose(_: object) -> None:
            stream.close()
            reader.cancel()
            self._lose_all(stream)

        # By callback, not in a finally: a worker that does not read leaves this generator waiting
        # in a write. Its requests go elsewhere at once; it is told so when it reads again.
        stream.on_close = lose
        reader.add_done_callback(lose)
        context.add_done_callback(lose)
        context.add_done_callback(lambda _: WORKERS_CONNECTED.dec())
        while (message := await stream.next_message()) is not None:
            yield gateway_message_to_pb(message)
        if stream.has_overflown:
            raise Overloaded(f"worker {worker_id} does not read", reason="WORKER_DOES_NOT_READ")
        await reader

    async def _hello(self, requests: AsyncIterator[Any]) -> str:
        try:
            async with asyncio.timeout(HELLO_TIMEOUT_S):
                first = await anext(requests, None)
        except TimeoutError as exc:
            raise DeadlineExceeded(f"no hello within {HELLO_TIMEOUT_S:g} s") from exc
        message = None if first is None else worker_message_from_pb(first)
        if not isinstance(message, WorkerHello) or not message.worker_id:
            raise InvalidRequest("the first message must be a hello with worker_id", field="hello")
        return message.worker_id

    async def _read(self, requests: AsyncIterator[Any], stream: WorkerStream) -> None:
        async for request in requests:
            match worker_message_from_pb(request):
                case Attach() as attach:
                    self._attach(stream, attach)
                case StepFrame() as frame:
                    self._take_frame(stream, frame)
                case WorkerHello():
                    raise InvalidRequest("a second hello on one stream", field="hello")

    def _attach(self, stream: WorkerStream, attach: Attach) -> None:
        live = self._live.get(attach.request_id)
        reply: Attached | Gone
        if live is None:
            reply = Gone(attach.handle, "no such request is live here")
        else:
            reply = live.attach(attach.attempt, stream, attach.handle)
            if live.attachment is not None and isinstance(reply, Attached):
                stream.remember(live, live.attachment)
        log.info(
            "attempt.attached" if isinstance(reply, Attached) else "attempt.refused",
            request_id=attach.request_id,
            attempt=attach.attempt,
            worker_id=stream.worker_id,
            reason=reply.reason if isinstance(reply, Gone) else "",
        )
        stream.send(reply)

    def _take_frame(self, stream: WorkerStream, frame: StepFrame) -> None:
        arrived_ns, num_pushed = time.time_ns(), 0
        nexts = frame.nexts
        for handle, position, token_id in zip(
            nexts.handles, nexts.positions, nexts.token_ids, strict=True
        ):
            found = stream.find(handle)
            if found is not None:
                live, attachment = found
                verdict = live.accept_next(attachment, position, token_id, arrived_ns)
                if verdict is Verdict.PUSHED:
                    num_pushed += 1
                else:
                    self._judge(verdict, stream, live, attachment)
        for delta in frame.deltas:
            found = stream.find(delta.handle)
            if found is not None:
                live, attachment = found
                self._judge(live.accept(attachment, delta), stream, live, attachment)
        if num_pushed:
            RECENT.tokens_came(num_pushed, time.monotonic())

    def _judge(
        self, verdict: Verdict, stream: WorkerStream, live: LiveRequest, attachment: Attachment
    ) -> None:
        match verdict:
            case Verdict.TAKEN | Verdict.PUSHED:
                pass
            case Verdict.BEHIND:
                self._pause(stream, live, attachment)
            case Verdict.OVER | Verdict.IGNORED:
                stream.forget(attachment.handle)
            case Verdict.LOST:
                stream.send(Cancel(attachment.handle))
                self._lose(stream, live, attachment)

    def _pause(self, stream: WorkerStream, live: LiveRequest, attachment: Attachment) -> None:
        """Its client does not read: that sequence alone stops, the stream's others go on."""
        stream.send(Cancel(attachment.handle))
        live.pause(attachment)
        live.on_resume = partial(self._dispatcher.publish_later, live)
        ATTEMPTS_PAUSED.inc()
        log.info(
            "attempt.paused",
            request_id=live.request.request_id,
            worker_id=stream.worker_id,
            num_tokens=len(live.token_ids),
        )

    def _lose_all(self, stream: WorkerStream) -> None:
        requests = stream.take_all()
        if not stream.is_lost:
            stream.is_lost = True
            log.info("worker.disconnected", worker_id=stream.worker_id, num_requests=len(requests))
        for live, attachment in requests:
            self._lose(stream, live, attachment, is_abrupt=True)

    def _lose(
        self,
        stream: WorkerStream,
        live: LiveRequest,
        attachment: Attachment,
        *,
        is_abrupt: bool = False,
    ) -> None:
        lost_attempt = live.request.attempt
        following = live.lose(attachment, is_abrupt=is_abrupt)
        ATTEMPTS_LOST.inc()
        log.warning(
            "attempt.lost",
            request_id=live.request.request_id,
            attempt=lost_attempt,
            worker_id=stream.worker_id,
            num_tokens=len(live.token_ids),
            will_retry=following is not None,
        )
        if following is not None:
            self._dispatcher.publish_later(live, following)
        elif live.has_killed_workers:
            self._dispatcher.bury_later(live)
