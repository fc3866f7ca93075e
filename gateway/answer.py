"""An answer as its client reads it."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable

from gateway.answer_times import PieceTimes
from gateway.ask import Piece
from gateway.live_request import LiveRequest
from gateway.record import AnswerRecord
from gateway.text_stream import TextStream
from services.core.errors import RequestCancelled
from services.core.request import FinishReason, Usage


class Answer:
    """Turns a live request's tokens into pieces; read once.

    Args:
        live: the request.
        text: its detokenizer, with the stop strings.
        record: told of the first token and of the end.
        stop: called when a stop string ends the answer before the worker does.
        on_whole: awaited with the whole text before the last piece is given out, so that a client
            that has seen the end can rely on it.
    """

    def __init__(
        self,
        live: LiveRequest,
        text: TextStream,
        record: AnswerRecord,
        *,
        stop: Callable[[LiveRequest], None],
        on_whole: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        self._live = live
        self._text = text
        self._record = record
        self._stop = stop
        self._on_whole = on_whole
        self._seen: list[str] = []

    @property
    def request_id(self) -> str:
        """The request's id."""
        return self._live.request.request_id

    @property
    def model(self) -> str:
        """Name of the model that answers."""
        return self._live.request.model

    def abandon(self) -> None:
        """Nobody reads any more: stops what still runs. Twice is safe, and so is after the end."""
        self._live.fail(RequestCancelled("the caller left"))
        self._stop(self._live)

    async def pieces(self) -> AsyncGenerator[Piece, None]:
        """News as it comes, one piece per engine step; the last has finish_reason and usage.

        Raises:
            TokenmillError: the answer broke off; what came before was given out.
        """
        live = self._live
        num_given = 0
        while True:
            token_ids = await live.next_token_ids()
            arrived_ns = live.arrived_ns
            has_tokens = bool(token_ids)
            if has_tokens:
                self._record.token_came()
            delta = self._text.feed(token_ids)
            text, stopped, num_tokens = delta.text, delta.stopped, delta.num_tokens
            if not stopped and live.is_over:
                tail = self._text.finish()
                text, stopped, num_tokens = text + tail.text, tail.stopped, tail.num_tokens
            token_ids = token_ids[: num_tokens - num_given]
            num_given = num_tokens
            reason = FinishReason.STOP if stopped else live.finish_reason
            ready_ns = time.time_ns()
            if reason is not None:
                if stopped:
                    self._stop(live)
                yield await self._last(text, token_ids, reason, num_tokens)
                self._note_taken(arrived_ns, ready_ns)
                return
            if text or token_ids:
                self._seen.append(text)
                yield Piece(text, token_ids)
            if has_tokens:
                self._note_taken(arrived_ns, ready_ns)
            if live.error is not None:
                raise live.error

    def _note_taken(self, arrived_ns: int, ready_ns: int) -> None:
        """Whoever reads the pieces asks for the next one once this one is written."""
        self._record.times.add(PieceTimes(arrived_ns, ready_ns, time.time_ns()))

    async def _last(
        self, text: str, token_ids: tuple[int, ...], reason: FinishReason, num_tokens: int
    ) -> Piece:
        usage = Usage(
            prompt_tokens=len(self._live.request.prompt_token_ids),
            completion_tokens=num_tokens,
            cached_tokens=self._live.cached_tokens,
        )
        if self._on_whole is not None:
            await self._on_whole("".join((*self._seen, text)))
        self._record.finished(usage, reason)
        return Piece(text, token_ids, reason, usage)
