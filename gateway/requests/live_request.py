"""The owner's view of one request: what was delivered, by which attempt, and how it ended."""

from __future__ import annotations

import asyncio
import enum
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from services.core.dead_letter import MAX_FRUITLESS_ATTEMPTS
from services.core.delivery import Attached, GatewayMessage, Gone, RequestDelta
from services.core.errors import DependencyLost, TokenmillError
from services.core.logprobs import TokenLogprobs
from services.core.request import MAX_ATTEMPTS, FinishReason, QueuedRequest, TraceContext


class WorkerLink(Protocol):
    """The way back to a worker."""

    worker_id: str

    def send(self, message: GatewayMessage) -> None:
        """Queues a message; never waits, never raises."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Attachment:
    """A worker that delivers for an attempt; compared by identity."""

    link: WorkerLink
    handle: int


class Verdict(enum.Enum):
    """What became of a delta.

    TAKEN: its tokens count. PUSHED: they count, and the client has them. BEHIND: they count, and
    the client takes none: the attempt is to be paused. OVER: its tokens count, the request has
    ended. LOST: it breaks the order, lacks what was asked for, or the worker gave up; the attempt
    is to be lost. IGNORED: not from the attached worker.
    """

    TAKEN = "taken"
    PUSHED = "pushed"
    BEHIND = "behind"
    OVER = "over"
    LOST = "lost"
    IGNORED = "ignored"


class LiveRequest:
    """State machine of one request; not thread-safe, one event loop.

    Two workers never both deliver: tokens count only from the one attachment, in order, without
    gap or repeat. Delivered ids are kept until the end, for the client to read at its pace and for
    the next attempt to go on after; there are never more of them than max_tokens.

    Attributes:
        request: the attempt that is queued or runs; its `attempt` rises with each worker lost.
        trace: span that later attempts are published under.
        on_let_go: called when the owner lets go of it; the owner's to set.
        max_untaken: tokens that may wait for the client; the owner's to set.
        push: called when tokens came and the reader waits for them; true: they were taken without
            waking it. The reader's to set.
        push_next: the same for a single token and the time at which it came, Unix time in ns;
            called before it counts.
        on_resume: takes the attempt after a pause; the owner's to set.
        is_settled: the worker itself ended it; nobody needs to be told to stop.
        token_ids: delivered so far.
        logprobs: one per token, if the request asks for them.
        prompt_logprobs: of the prompt from its second token on, if the request asks for them.
        cached_tokens: prompt tokens reused by the first attempt that delivered.
        has_killed_workers: it is a dead letter.
        is_replayed: no worker delivers it; it was kept from an earlier request.
        arrived_ns: Unix time at which the oldest of the tokens not yet taken came.
    """

    def __init__(self, request: QueuedRequest, trace: TraceContext) -> None:
        self.request = request
        self.trace = trace
        self.token_ids: list[int] = []
        self.logprobs: list[TokenLogprobs] = []
        self.prompt_logprobs: tuple[TokenLogprobs, ...] = ()
        self.cached_tokens = 0
        self.arrived_ns = 0
        self.finish_reason: FinishReason | None = None
        self.error: TokenmillError | None = None
        self.attachment: Attachment | None = None
        self.is_settled = False
        self.on_let_go: Callable[[], object] | None = None
        self.max_untaken = request.sampling.max_tokens or 1
        self.on_resume: Callable[[QueuedRequest], object] = _nobody
        self._max_tokens = request.sampling.max_tokens or 1
        self._news = asyncio.Event()
        self._num_taken = 0
        self._num_at_attach = 0
        self._num_fruitless = 0
        self._num_lost = 0
        self._is_paused = False
        self._is_awaited = False
        self.push: Callable[[], bool] = _never
        self.push_next: Callable[[int, int], bool] = _never
        self.has_killed_workers = False
        self.is_replayed = False

    @property
    def is_over(self) -> bool:
        """Whether no more tokens come."""
        return self.finish_reason is not None or self.error is not None

    def attach(self, attempt: int, link: WorkerLink, handle: int) -> Attached | Gone:
        """A worker asks to deliver for an attempt.

        An attempt is given away once: the queue may hand the same attempt to a second worker when
        a scheduler dies, and the first one may still be at work.
        """
        if self.is_over:
            return Gone(handle, "the request has ended")
        if attempt != self.request.attempt:
            return Gone(handle, f"attempt is {attempt}; live is {self.request.attempt}")
        if self.attachment is not None:
            return Gone(handle, f"worker {self.attachment.link.worker_id} delivers this attempt")
        self.attachment = Attachment(link, handle)
        self._num_at_attach = len(self.token_ids)
        return Attached(handle, tuple(self.token_ids))

    def accept(self, attachment: Attachment, delta: RequestDelta) -> Verdict:
        """Takes news from a worker."""
        if self.is_over or attachment is not self.attachment:
            return Verdict.IGNORED
        num_after = len(self.token_ids) + len(delta.token_ids)
        in_order = delta.first_position == len(self.token_ids) or not delta.token_ids
        wants_logprobs = self.request.sampling.logprobs is not None
        is_told = not wants_logprobs or len(delta.logprobs) == len(delta.token_ids)
        if not in_order or num_after > self._max_tokens or not is_told:
            return Verdict.LOST
        if not self.token_ids and delta.cached_tokens:
            self.cached_tokens = delta.cached_tokens
        if delta.token_ids and self._num_taken == len(self.token_ids):
            self.arrived_ns = time.time_ns()
        if delta.prompt_logprobs:
            self.prompt_logprobs = tuple(delta.prompt_logprobs)
        self.logprobs.extend(delta.logprobs)
        self.token_ids.extend(delta.token_ids)
        if delta.token_ids and not (delta.finish_reason is None and self._is_pushed()):
            self._wake()
        match delta.finish_reason:
            case None:
                is_behind = num_after - self._num_taken > self.max_untaken
                return (
                    Verdict.BEHIND if is_behind and num_after < self._max_tokens else Verdict.TAKEN
                )
            case FinishReason.CANCELLED:
                # Nobody here asked for it: the worker drains, or fears for its deadline.
                return Verdict.LOST
            case FinishReason.ERROR:
                self.fail(TokenmillError(delta.error_message or "the engine failed"))
            case FinishReason.STOP | FinishReason.LENGTH as reason:
                self.finish(reason)
        self.attachment = None
        self.is_settled = True
        return Verdict.OVER

    def accept_next(
        self, attachment: Attachment, position: int, token_id: int, arrived_ns: int
    ) -> Verdict:
        """As `accept`, of one token without other news: nearly all are such."""
        if (
            # A reader that waits has taken all there is, and the request is not over.
            self._is_awaited
            and attachment is self.attachment
            and position == self._num_taken < self._max_tokens
            and self.push_next(token_id, arrived_ns)
        ):
            self.token_ids.append(token_id)
            self._num_taken += 1
            return Verdict.PUSHED
        return self.accept(attachment, RequestDelta(attachment.handle, position, (token_id,)))

    def lose(self, attachment: Attachment, *, is_abrupt: bool = False) -> QueuedRequest | None:
        """The attached worker is gone. Returns the next attempt to queue, if there is one.

        Args:
            attachment: what was lost.
            is_abrupt: the worker did not say goodbye; it may have been this request's fault.
        """
        if self.is_over or attachment is not self.attachment:
            return None
        self.attachment = None
        if len(self.token_ids) >= self._max_tokens:
            # Only the word that it ended was lost; no token remains for a next attempt.
            self.finish(FinishReason.LENGTH)
            return None
        self._num_lost += 1
        if self._num_lost >= MAX_ATTEMPTS:
            self.fail(
                DependencyLost(
                    f"{MAX_ATTEMPTS} workers were lost one after the other", reason="WORKERS_LOST"
                )
            )
            return None
        if is_abrupt and len(self.token_ids) == self._num_at_attach:
            self._num_fruitless += 1
        if self._num_fruitless >= MAX_FRUITLESS_ATTEMPTS:
            self.has_killed_workers = True
            self.fail(
                TokenmillError(
                    f"{self._num_fruitless} workers were lost before this request brought a token;"
                    " it is not tried again",
                    reason="KILLED_WORKERS",
                )
            )
            return None
        self.request = replace(self.request, attempt=self.request.attempt + 1)
        return self.request

    def pause(self, attachment: Attachment) -> None:
        """The attached attempt ends; on_resume gets the next one when the client has caught up."""
        if self.is_over or attachment is not self.attachment:
            return
        self.attachment = None
        self._is_paused = True
        self.request = replace(self.request, attempt=self.request.attempt + 1)

    def finish(self, reason: FinishReason) -> None:
        """The answer is whole. Nothing happens if it ended before."""
        if not self.is_over:
            self.finish_reason = reason
            self._wake()

    def fail(self, error: TokenmillError) -> None:
        """The answer will not be whole. Nothing happens if it ended before."""
        if not self.is_over:
            self.error = error
            self._wake()

    async def next_token_ids(self) -> tuple[int, ...]:
        """Waits for news and takes all tokens not yet taken; empty only when the request is over.

        What a slow client did not take in time comes at once: one write per read, not per token.
        """
        if self._num_taken == len(self.token_ids) and not self.is_over:
            if self._is_paused:
                # Whoever asks for more has written what it took before.
                self._is_paused = False
                self.on_resume(self.request)
            self._news.clear()
            self._is_awaited = True
            try:
                await self._news.wait()
            finally:
                self._is_awaited = False
        return self.take()

    def take(self) -> tuple[int, ...]:
        """All tokens not yet taken."""
        token_ids = tuple(self.token_ids[self._num_taken :])
        self._num_taken += len(token_ids)
        return token_ids

    def _is_pushed(self) -> bool:
        return self._is_awaited and self.push()

    def _wake(self) -> None:
        # Until it has run, the reader is where order is kept: nothing is pushed past it.
        self._is_awaited = False
        self._news.set()


def _nobody(request: QueuedRequest) -> None:
    """Where nothing is ever paused."""


def _never(*_: int) -> bool:
    """Where every token wakes its reader."""
    return False
