"""One pulled message, and the four things that can be said of it to the broker."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import nats.errors
from nats.aio.msg import Msg

from services.runtime import names
from services.runtime.bus import timed_operation
from services.runtime.logs import get_logger
from services.wire.subjects import lane_of_subject

log = get_logger(__name__)

SAY_TIMEOUT_S = 1.0


class QueueMessage:
    """A message of the work queue, unsettled until one of ack, nak or term was called.

    None of them raises when the broker is away. The message then comes again, and that is safe: a
    request that runs is answered Gone by its owner.

    Attributes:
        lane: the lane that it waited in.
        position: in the stream; rises with arrival.
        num_deliveries: how often it was pulled, this time included.
        published_s: when the stream took it, Unix seconds.
    """

    def __init__(self, message: Msg) -> None:
        self._message = message
        self.lane = lane_of_subject(message.subject)
        self.subject = message.subject
        self.payload = message.data
        self.headers: Mapping[str, str] = message.headers or {}
        metadata = message.metadata
        self.position = metadata.sequence.stream
        self.num_deliveries = metadata.num_delivered
        self.published_s = metadata.timestamp.timestamp()
        self.consumer = metadata.consumer

    async def ack(self) -> bool:
        """Settles it: it leaves the queue. Returns whether the broker could be told."""
        return await self._say(b"+ACK")

    async def term(self) -> bool:
        """Gives it up: it leaves the queue. Returns whether the broker could be told."""
        return await self._say(b"+TERM")

    async def nak(self, delay_s: float = 0.0) -> bool:
        """Gives it back, to be pulled again after delay_s. Returns whether the broker was told."""
        delay = f' {{"delay": {round(delay_s * 1e9)}}}' if delay_s > 0 else ""
        return await self._say(f"-NAK{delay}".encode())

    async def keep(self) -> bool:
        """Asks the broker for another ack_wait. Returns whether the broker could be told."""
        return await self._say(b"+WPI")

    async def _say(self, word: bytes) -> bool:
        try:
            with timed_operation("settle", names.REQUESTS_TEMPLATE):
                async with asyncio.timeout(SAY_TIMEOUT_S):
                    # Not Msg.ack and its like: they refuse a second word, which a redelivery needs.
                    await self._message._client.publish(self._message.reply, word)
        except (nats.errors.Error, TimeoutError, OSError) as exc:
            log.warning("queue.word_lost", word=word.decode(), error=repr(exc))
            return False
        return True
