"""One choice of an answer, from tokens to text."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from typing import Protocol

from gateway.ask import Piece
from gateway.requests.live_request import LiveRequest
from gateway.requests.record import AnswerRecord
from gateway.text.text_stream import TextStream
from services.core.errors import RequestCancelled, TokenmillError
from services.core.request import FinishReason
from services.runtime.logs import get_logger

log = get_logger(__name__)


class PieceSink(Protocol):
    """Takes pieces without waiting."""

    def is_ready(self) -> bool:
        """Whether the next piece can be taken at once."""
        ...

    def take(self, piece: Piece) -> None:
        """Takes a piece; only when ready."""
        ...

    def text_taker(self, choice_idx: int) -> Callable[[bytes], None] | None:
        """Takes a piece of which only the text matters, as JSON; only when ready.

        None if pieces of this choice say more.
        """
        ...


class Choice:
    """Turns a live request's tokens into pieces; read once.

    Args:
        live: the request.
        text: its detokenizer, with the stop strings.
        record: told of each token.
        choice_idx: its place among the choices of the answer.
        stop: called when a stop string ends the choice before the worker does.

    Attributes:
        num_tokens: given out so far.
        texts: the same as text, piece by piece.
    """

    def __init__(
        self,
        live: LiveRequest,
        text: TextStream,
        record: AnswerRecord,
        *,
        choice_idx: int,
        stop: Callable[[LiveRequest], None],
    ) -> None:
        self.num_tokens = 0
        self.texts: list[str] = []
        self._live = live
        self._text = text
        self._record = record
        self._choice_idx = choice_idx
        self._stop = stop
        self._has_given = False

    @property
    def live(self) -> LiveRequest:
        """The request that it comes from."""
        return self._live

    def abandon(self) -> None:
        """Nobody reads any more: stops what still runs. Twice is safe, and so is after the end."""
        self._live.fail(RequestCancelled("the caller left"))
        self._stop(self._live)

    async def pieces(self) -> AsyncGenerator[Piece, None]:
        """News as it comes, one piece per engine step; the last has finish_reason.

        Raises:
            TokenmillError: the choice broke off; what came before was given out.
        """
        live = self._live
        while True:
            token_ids = await live.next_token_ids()
            arrived_ns = live.arrived_ns
            has_tokens = bool(token_ids)
            if has_tokens:
                self._record.tokens_came(len(token_ids))
            delta = self._text.feed(token_ids)
            text, stopped, num_tokens = delta.text, delta.stopped, delta.num_tokens
            if not stopped and live.is_over:
                tail = self._text.finish()
                text, stopped, num_tokens = text + tail.text, tail.stopped, tail.num_tokens
            token_ids = token_ids[: num_tokens - self.num_tokens]
            reason = FinishReason.STOP if stopped else live.finish_reason
            ready_ns = time.time_ns()
            if reason is not None and stopped:
                self._stop(live)
            if text or token_ids or reason is not None:
                yield self._piece(text, token_ids, reason)
            if has_tokens or reason is not None:
                # Whoever reads the pieces asks for the next one once this one is written.
                self._record.times.add(arrived_ns, ready_ns, time.time_ns())
            if reason is not None:
                return
            if live.error is not None:
                raise live.error

    def divert(self, sink: PieceSink) -> None:
        """From now on pieces in the middle go to the sink as they come, while it is ready.

        Waking a task for each token of a thousand streams costs more than writing it. `pieces`
        gives out what the sink was not ready for, and the end.
        """
        if self._live.request.sampling.stop:
            # A text may be held back, or be the end: for `pieces` to decide.
            return

        def push() -> bool:
            if not sink.is_ready():
                return False
            try:
                self._push(sink)
            except Exception as exc:
                self._break_off(exc)
            return True

        self._live.push = push
        take_text = sink.text_taker(self._choice_idx)
        if take_text is not None and self._live.request.sampling.logprobs is None:
            self._live.push_next = self._shortcut(sink, take_text)

    def _shortcut(
        self, sink: PieceSink, take_text: Callable[[bytes], None]
    ) -> Callable[[int, int], bool]:
        """A single token's way to the client, without an object of its own on it."""
        is_ready, known, times = sink.is_ready, self._text.known, self._record.times

        def push_next(token_id: int, arrived_ns: int) -> bool:
            if not is_ready():
                return False
            found = known(token_id)
            if found is None:
                return False
            ready_ns = time.time_ns()
            self.num_tokens += 1
            self.texts.append(found.text)
            try:
                take_text(found.json)
            except Exception as exc:
                self._break_off(exc)
            times.add(arrived_ns, ready_ns, time.time_ns())
            return True

        return push_next

    def _break_off(self, error: Exception) -> None:
        # Raised it would break the worker's stream, which carries many requests.
        log.error("answer.failed", exc_info=error)
        self._live.fail(TokenmillError("the answer could not be written"))

    def _push(self, sink: PieceSink) -> None:
        live = self._live
        token_ids = live.take()
        self._record.tokens_came(len(token_ids))
        text = self._text.feed(token_ids).text
        ready_ns = time.time_ns()
        sink.take(self._piece(text, token_ids, None))
        self._record.times.add(live.arrived_ns, ready_ns, time.time_ns())

    def _piece(self, text: str, token_ids: tuple[int, ...], reason: FinishReason | None) -> Piece:
        live = self._live
        first, self.num_tokens = self.num_tokens, self.num_tokens + len(token_ids)
        is_first, self._has_given = not self._has_given, True
        tells_prompt = is_first and live.request.sampling.prompt_logprobs is not None
        self.texts.append(text)
        return Piece(
            text,
            token_ids,
            reason,
            choice_idx=self._choice_idx,
            logprobs=tuple(live.logprobs[first : self.num_tokens]),
            prompt_token_ids=live.request.prompt_token_ids if tells_prompt else (),
            prompt_logprobs=live.prompt_logprobs if tells_prompt else (),
            stop_string=self._text.stop_string,
        )
