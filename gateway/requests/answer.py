"""An answer as its client reads it: one choice, or several side by side."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace

from gateway.ask import Piece
from gateway.requests.choice import Choice, PieceSink
from gateway.requests.live_request import LiveRequest
from gateway.requests.record import AnswerRecord
from gateway.results.result_cache import NOT_ASKED, Lookup
from services.core.quota import QuotaStatus
from services.core.request import FinishReason, Usage


class Answer:
    """Joins choices; read once.

    Args:
        choices: at least one, in order: all of a prompt, then all of the next.
        record: told of the end.
        num_choices: of each prompt.
        quota: what is left of the caller's limits.
        lookup: what the result cache did.
        on_whole: awaited with all choices before the last piece is given out, so that a client that
            has seen the end can rely on it.
    """

    def __init__(
        self,
        choices: Sequence[Choice],
        record: AnswerRecord,
        *,
        num_choices: int = 1,
        quota: QuotaStatus,
        lookup: Lookup = NOT_ASKED,
        on_whole: Callable[[Sequence[Choice]], Awaitable[None]] | None = None,
    ) -> None:
        self.quota = quota
        self.lookup = lookup
        self._choices = choices
        self._num_choices = num_choices
        self._record = record
        self._on_whole = on_whole

    @property
    def request_id(self) -> str:
        """The request's id."""
        return self._choices[0].live.request.request_id

    @property
    def model(self) -> str:
        """Name of the model that answers."""
        return self._choices[0].live.request.model

    @property
    def num_prompt_tokens(self) -> int:
        """Length of the prompt; of several, together."""
        firsts = self._choices[:: self._num_choices]
        return sum(len(choice.live.request.prompt_token_ids) for choice in firsts)

    def abandon(self) -> None:
        """Nobody reads any more: stops what still runs. Twice is safe, and so is after the end."""
        for choice in self._choices:
            choice.abandon()

    def divert(self, sink: PieceSink) -> None:
        """Pieces of the only choice may go to the sink instead; see Choice.divert."""
        if len(self._choices) == 1:
            self._choices[0].divert(sink)

    async def pieces(self) -> AsyncGenerator[Piece, None]:
        """News of all choices as it comes; the last piece has usage.

        Raises:
            TokenmillError: the answer broke off; what came before was given out.
        """
        num_running = len(self._choices)
        # One choice needs no merging, and each layer costs every token.
        source = self._choices[0].pieces() if num_running == 1 else self._merged()
        async with aclosing(source) as merged:
            async for piece in merged:
                if piece.finish_reason is not None:
                    num_running -= 1
                    if num_running == 0:
                        usage = await self._end(piece.finish_reason)
                        yield replace(piece, usage=usage)
                        continue
                yield piece

    async def _merged(self) -> AsyncGenerator[Piece, None]:
        streams = [choice.pieces() for choice in self._choices]
        waiting = {asyncio.ensure_future(anext(stream)): stream for stream in streams}
        try:
            while waiting:
                done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in [task for task in waiting if task in done]:
                    stream = waiting.pop(task)
                    try:
                        piece = task.result()
                    except StopAsyncIteration:
                        continue
                    yield piece
                    waiting[asyncio.ensure_future(anext(stream))] = stream
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            for stream in streams:
                await stream.aclose()

    async def _end(self, reason: FinishReason) -> Usage:
        usage = usage_so_far(
            [(choice.live, choice.num_tokens) for choice in self._choices],
            num_choices=self._num_choices,
        )
        if self._on_whole is not None:
            await self._on_whole(self._choices)
        self._record.finished(usage, reason)
        return usage


def usage_so_far(requests: Sequence[tuple[LiveRequest, int]], *, num_choices: int) -> Usage:
    """What choices have used, each with its number of tokens; a prompt counts once."""
    firsts = [live for live, _ in requests[::num_choices]]
    return Usage(
        prompt_tokens=sum(len(live.request.prompt_token_ids) for live in firsts),
        completion_tokens=sum(num_tokens for _, num_tokens in requests),
        cached_tokens=sum(live.cached_tokens for live in firsts),
        is_result_cached=any(live.is_replayed for live in firsts),
    )
