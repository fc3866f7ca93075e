"""A kept choice, given out as if a worker delivered it."""

from __future__ import annotations

import asyncio

from gateway.requests.live_request import LiveRequest
from gateway.results.entry import KeptChoice
from services.core.request import QueuedRequest, TraceContext

_TOKENS_A_TURN = 16


class ReplayedRequest(LiveRequest):
    """Nobody works on it and no gateway owns it; a stream gets its tokens one by one.

    Args:
        request: as it would have been queued.
        trace: of the ask.
        kept: what it was answered with before.
        stream: whether the caller sees pieces.
    """

    def __init__(
        self, request: QueuedRequest, trace: TraceContext, kept: KeptChoice, *, stream: bool
    ) -> None:
        super().__init__(request, trace)
        self.is_settled = True
        self.is_replayed = True
        self.cached_tokens = len(request.prompt_token_ids)
        self.logprobs = list(kept.logprobs)
        self.prompt_logprobs = kept.prompt_logprobs
        self._kept = kept
        self._step = 1 if stream else max(1, len(kept.token_ids))

    async def next_token_ids(self) -> tuple[int, ...]:
        """The next tokens; others get their turn now and then."""
        kept, begin = self._kept, len(self.token_ids)
        if begin % _TOKENS_A_TURN == 0:
            await asyncio.sleep(0)
        if not self.is_over:
            self.token_ids.extend(kept.token_ids[begin : begin + self._step])
            if len(self.token_ids) == len(kept.token_ids):
                self.finish(kept.finish_reason)
        return self.take()
