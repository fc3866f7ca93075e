"""One worker's Deliver stream: what waits to be sent, and which requests it delivers."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from gateway.requests.live_request import Attachment, LiveRequest
from services.core.delivery import Cancel, GatewayMessage


class WorkerStream:
    """The way back to a worker, bounded: one that does not read is dropped, not waited for.

    Args:
        worker_id: from its hello.
        max_messages: that may wait.

    Attributes:
        on_close: called when one more message would have had to wait; the owner's to set.
        has_overflown: that is why it was closed.
        is_lost: the loss of its requests was dealt with; the owner's to set.
    """

    def __init__(self, worker_id: str, *, max_messages: int) -> None:
        self.worker_id = worker_id
        self.on_close: Callable[[object], None] | None = None
        self.has_overflown = False
        self.is_lost = False
        self._max_messages = max_messages
        self._outbox: deque[GatewayMessage] = deque()
        self._wake = asyncio.Event()
        self._is_closed = False
        self._requests: dict[int, tuple[LiveRequest, Attachment]] = {}

    def send(self, message: GatewayMessage) -> None:
        """Queues a message; a Cancel also ends the handle's requests here."""
        if isinstance(message, Cancel):
            self.forget(message.handle)
        if self._is_closed:
            return
        if len(self._outbox) >= self._max_messages:
            self.has_overflown = True
            self.close()
            if self.on_close is not None:
                self.on_close(self)
            return
        self._outbox.append(message)
        self._wake.set()

    async def next_message(self) -> GatewayMessage | None:
        """Waits for the next message to send; None when the stream is closed."""
        while not self._outbox and not self._is_closed:
            self._wake.clear()
            await self._wake.wait()
        return None if self._is_closed else self._outbox.popleft()

    def close(self) -> None:
        """Nothing more is sent. Twice is safe."""
        self._is_closed = True
        self._outbox.clear()
        self._wake.set()

    def remember(self, live: LiveRequest, attachment: Attachment) -> None:
        """The worker delivers for this request from now on."""
        self._requests[attachment.handle] = (live, attachment)

    def forget(self, handle: int) -> None:
        """The worker's frames for this handle are late from now on. Twice is safe."""
        self._requests.pop(handle, None)

    def find(self, handle: int) -> tuple[LiveRequest, Attachment] | None:
        """The request that a handle names."""
        return self._requests.get(handle)

    def take_all(self) -> list[tuple[LiveRequest, Attachment]]:
        """Forgets and returns every request, when the stream is lost."""
        requests = list(self._requests.values())
        self._requests.clear()
        return requests
