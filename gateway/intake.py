"""From an ask to an answer: validate, tokenize, own, queue; and let go at the end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial

from opentelemetry import trace

from gateway.admission import Admission, num_tokens_of
from gateway.ask import Ask, ChatPrompt
from gateway.catalog import Catalog, ServedModel
from gateway.loss_order import Newcomer
from gateway.metrics import REQUESTS_REFUSED
from gateway.prompts import PromptReader, too_late
from gateway.queue.dispatch import Dispatcher
from gateway.queue.drain_rate import DrainRate
from gateway.queue.queue_watch import QueueWatch
from gateway.quota.quotas import Grant, Quotas
from gateway.quota.usage_book import UsageBook
from gateway.requests.answer import Answer, usage_so_far
from gateway.requests.choice import Choice
from gateway.requests.live_request import LiveRequest
from gateway.requests.live_requests import LiveRequests
from gateway.requests.record import AnswerRecord
from gateway.results.replay import ReplayedRequest
from gateway.results.result_cache import Lookup, ResultCache
from gateway.sessions.sessions import Sessions, Turn
from gateway.text.text_stream import TextStream
from services.core.caller import Scope
from services.core.errors import (
    Overloaded,
    RequestCancelled,
    TokenmillError,
)
from services.core.request import QueuedRequest, Usage
from services.runtime.telemetry import current_trace

_DRAIN_RETRY_AFTER_S = 2.0


class Intake:
    """Takes asks from both doors.

    Attributes:
        reply_to: where workers deliver; set before the first ask, once the port is known.
        is_draining: new asks are refused, running ones finish.
    """

    def __init__(
        self,
        *,
        catalog: Catalog,
        prompts: PromptReader,
        live_requests: LiveRequests,
        dispatcher: Dispatcher,
        queue: QueueWatch,
        sessions: Sessions,
        quotas: Quotas,
        usage: UsageBook,
        results: ResultCache,
        default_max_tokens: int | None,
    ) -> None:
        self.is_draining = False
        self.reply_to = ""
        self._catalog = catalog
        self._admission = Admission(prompts, default_max_tokens)
        self._live = live_requests
        self._dispatcher = dispatcher
        self._queue = queue
        self._sessions = sessions
        self._quotas = quotas
        self._usage = usage
        self._results = results
        self._drain_rate = DrainRate()
        self._num_open = 0
        self._is_idle = asyncio.Event()
        self._is_idle.set()

    @asynccontextmanager
    async def answer(self, ask: Ask) -> AsyncIterator[Answer]:
        """Takes a request and gives its answer; leaving the block stops what still runs.

        With a session_id the session's history goes before the new messages, and messages and
        answer are added to it when the answer is whole; one that breaks off or is left adds
        nothing, so that asking again never doubles a message.

        Raises:
            TokenmillError: refused, or broken off.
        """
        with self._opened():
            model, grant = await self._let_in(ask)
            async with self._answer(ask, model, grant) as answer:
                yield answer

    async def _let_in(self, ask: Ask) -> tuple[ServedModel, Grant]:
        try:
            self._check_open()
            model = self._authorize(ask)
            newcomer = Newcomer(ask.tenant, ask.request_class, ask.num_answers)
            self._live.make_room(newcomer, retry_after_s=self._retry_after_s())
            return model, await self._quotas.enter(ask.caller)
        except TokenmillError as exc:
            REQUESTS_REFUSED.labels(exc.reason).inc()
            raise

    @contextmanager
    def _opened(self) -> Iterator[None]:
        """Counts an ask that is being answered; a drain waits for it."""
        self._num_open += 1
        self._is_idle.clear()
        try:
            yield
        finally:
            self._num_open -= 1
            if self._num_open == 0:
                self._is_idle.set()

    @asynccontextmanager
    async def _answer(self, ask: Ask, model: ServedModel, grant: Grant) -> AsyncIterator[Answer]:
        record = AnswerRecord(ask, model=model.name)
        turn: Turn | None = None
        lives: list[LiveRequest] = []
        try:
            # Not around the yield: a door's generator may be closed from another task.
            with trace.use_span(record.span, record_exception=False, set_status_on_exception=False):
                if ask.session_id and isinstance(ask.prompt, ChatPrompt):
                    turn = await self._sessions.begin(ask, ask.prompt)
                    ask = replace(ask, prompt=await self._admission.trimmed(ask, turn, model))
                requests = await self._admission.requests(ask, model, grant, self.reply_to)
                lookup = await self._results.look_up(ask.cache, ask.sampling, requests)
                if lookup.kept is not None:
                    lives.extend(
                        ReplayedRequest(request, current_trace(), kept, stream=ask.stream)
                        for request, kept in zip(requests, lookup.kept.choices, strict=True)
                    )
                    record.admitted(lives)
                else:
                    units = num_tokens_of(requests, num_choices=ask.num_choices)
                    await grant.reserve_tokens(units)
                    await self._queue_all(requests, lives, record)
            choices = [
                Choice(
                    live,
                    _text_of(live.request, model),
                    record,
                    choice_idx=choice_idx,
                    stop=self._dispatcher.stop,
                )
                for choice_idx, live in enumerate(lives)
            ]
            yield Answer(
                choices,
                record,
                num_choices=ask.num_choices,
                quota=grant.status(),
                lookup=lookup,
                on_whole=partial(self._on_whole, turn, lookup),
            )
        except BaseException as exc:
            record.failed(exc)
            raise
        finally:
            self._settle(ask, grant, lives, record)
            if turn is not None:
                turn.leave()
            record.end()

    async def _queue_all(
        self, requests: Sequence[QueuedRequest], lives: list[LiveRequest], record: AnswerRecord
    ) -> None:
        """Owns and queues; `lives` holds what is owned, also when it breaks off."""
        for request in requests:
            self._queue.check_deadline(request)
            live = LiveRequest(request, current_trace())
            self._live.add(live)
            lives.append(live)
            self._watch_deadline(live)
        record.admitted(lives)
        for live in lives:
            await self._publish(live)

    async def _on_whole(self, turn: Turn | None, lookup: Lookup, choices: Sequence[Choice]) -> None:
        if turn is not None:
            await turn.commit("".join(choices[0].texts))
        await self._results.keep(lookup, choices)

    async def wait_idle(self, *, timeout_s: float) -> bool:
        """Waits until no ask is open, those that are not queued yet included; False if too long."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._is_idle.wait()
        except TimeoutError:
            return False
        return True

    def fail_all(self, error: TokenmillError) -> None:
        """Ends every live request, when the drain takes too long."""
        for live in self._live.all():
            live.fail(error)

    def _check_open(self) -> None:
        if self.is_draining:
            raise Overloaded(
                "this gateway is shutting down; another one takes requests",
                retry_after_s=_DRAIN_RETRY_AFTER_S,
                reason="DRAINING",
            )

    def _authorize(self, ask: Ask) -> ServedModel:
        """The model, if the caller may use it; the one place where both doors are told."""
        ask.caller.require(Scope.INFERENCE)
        if ask.session_id:
            ask.caller.require(Scope.SESSIONS)
        model = self._catalog.find(ask.model)
        ask.caller.require_model(model.name)
        return model

    def _watch_deadline(self, live: LiveRequest) -> None:
        def expire() -> None:
            live.fail(too_late())
            self._dispatcher.stop(live)

        left_s = live.request.deadline_unix_ms / 1000 - time.time()
        timer = asyncio.get_running_loop().call_later(max(0.0, left_s), expire)
        live.on_let_go = timer.cancel

    async def _publish(self, live: LiveRequest) -> None:
        try:
            await self._dispatcher.publish(live.request)
        except Overloaded as exc:
            retry_after_s = self._queue.retry_after_s(live.request) or self._retry_after_s()
            raise Overloaded(exc.message, retry_after_s=retry_after_s, reason=exc.reason) from exc

    def _settle(
        self, ask: Ask, grant: Grant, lives: Sequence[LiveRequest], record: AnswerRecord
    ) -> None:
        """Lets go, and charges what was used: all of an answer, or as far as it went."""
        for live in lives:
            if not live.is_replayed:
                self._let_go(live)
        used = record.usage or Usage()
        if lives and record.usage is None:
            used = usage_so_far(
                [(live, len(live.token_ids)) for live in lives], num_choices=ask.num_choices
            )
        if any(live.is_replayed for live in lives):
            # Nothing was computed: it is one request, and no tokens.
            used = Usage()
        if lives:
            self._usage.add(ask.caller, used)
        grant.leave(tokens_used=used.prompt_tokens + used.completion_tokens)

    def _let_go(self, live: LiveRequest) -> None:
        if live.on_let_go is not None:
            live.on_let_go()
        live.fail(RequestCancelled("the caller left"))
        self._dispatcher.stop(live)
        self._live.remove(live.request.request_id)
        self._drain_rate.add(time.monotonic())

    def _retry_after_s(self) -> float:
        return self._drain_rate.retry_after_s(time.monotonic(), num_waiting=len(self._live))


def _text_of(request: QueuedRequest, model: ServedModel) -> TextStream:
    return TextStream(
        model.loaded.vocabulary,
        stop=request.sampling.stop,
        prompt_token_ids=request.prompt_token_ids,
    )
