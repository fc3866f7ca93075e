"""From an ask to an answer: validate, tokenize, own, queue; and let go at the end."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace

from opentelemetry import trace

from gateway.answer import Answer
from gateway.ask import Ask, ChatPrompt
from gateway.catalog import Catalog, ServedModel
from gateway.choice import Choice
from gateway.dispatch import Dispatcher
from gateway.drain_rate import DrainRate
from gateway.length import fit_answer
from gateway.live_request import LiveRequest
from gateway.live_requests import LiveRequests
from gateway.metrics import REQUESTS_REFUSED
from gateway.prompts import PromptReader, too_late
from gateway.queue_watch import QueueWatch
from gateway.quota.quotas import Grant, Quotas
from gateway.record import AnswerRecord
from gateway.request_ids import choice_request_id
from gateway.sessions import Sessions, Turn
from gateway.text_stream import TextStream
from gateway.trimming import trim
from gateway.usage_book import UsageBook
from services.core.caller import Scope
from services.core.errors import (
    Overloaded,
    RequestCancelled,
    TokenmillError,
)
from services.core.request import QueuedRequest, Usage
from services.core.sampling import check_sampling, seed_of_choice
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
        default_max_tokens: int | None,
    ) -> None:
        self.is_draining = False
        self.reply_to = ""
        self._catalog = catalog
        self._prompts = prompts
        self._live = live_requests
        self._dispatcher = dispatcher
        self._queue = queue
        self._sessions = sessions
        self._quotas = quotas
        self._usage = usage
        self._default_max_tokens = default_max_tokens
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
            self._check_open(ask.num_choices)
            model = self._authorize(ask)
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
                    ask = replace(ask, prompt=await self._trimmed(ask, turn, model))
                for request in await self._requests(ask, model, grant):
                    self._queue.check_deadline(request)
                    live = LiveRequest(request, current_trace())
                    self._live.add(live)
                    lives.append(live)
                    self._watch_deadline(live)
                record.admitted(lives)
                for live in lives:
                    await self._publish(live)
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
                quota=grant.status(),
                on_whole=turn.commit if turn is not None else None,
            )
        except BaseException as exc:
            record.failed(exc)
            raise
        finally:
            self._settle(ask, grant, lives, record)
            if turn is not None:
                turn.leave()
            record.end()

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

    def _check_open(self, num_choices: int) -> None:
        if self.is_draining:
            raise Overloaded(
                "this gateway is shutting down; another one takes requests",
                retry_after_s=_DRAIN_RETRY_AFTER_S,
                reason="DRAINING",
            )
        self._live.check_room(num_choices, retry_after_s=self._retry_after_s())

    def _authorize(self, ask: Ask) -> ServedModel:
        """The model, if the caller may use it; the one place where both doors are told."""
        ask.caller.require(Scope.INFERENCE)
        if ask.session_id:
            ask.caller.require(Scope.SESSIONS)
        model = self._catalog.find(ask.model)
        ask.caller.require_model(model.name)
        return model

    async def _trimmed(self, ask: Ask, turn: Turn, model: ServedModel) -> ChatPrompt:
        async def count(prompt: ChatPrompt) -> int:
            deadline = ask.deadline_unix_ms
            return len(await self._prompts.token_ids(prompt, model, deadline_unix_ms=deadline))

        return await trim(
            turn.prompt,
            num_new=turn.num_new_messages,
            max_tokens=ask.sampling.max_tokens,
            max_model_len=model.description.max_model_len,
            count=count,
        )

    async def _requests(self, ask: Ask, model: ServedModel, grant: Grant) -> list[QueuedRequest]:
        """Validates and tokenizes; one request for each choice.

        All have the same prompt, so the choices on a worker share its blocks.
        """
        accepted_unix_ms = int(time.time() * 1000)
        check_sampling(ask.sampling, vocab_size=model.description.vocab_size)
        token_ids = await self._prompts.token_ids(
            ask.prompt, model, deadline_unix_ms=ask.deadline_unix_ms
        )
        sampling = fit_answer(
            ask.sampling,
            num_prompt_tokens=len(token_ids),
            prompt_field=ask.prompt.field,
            max_model_len=model.description.max_model_len,
            default_max_tokens=ask.default_max_tokens or self._default_max_tokens,
            max_total_tokens=grant.max_tokens,
        )
        await grant.reserve_tokens(len(token_ids) + ask.num_choices * (sampling.max_tokens or 0))
        if sampling.top_k >= model.description.vocab_size:
            # All of them, which is 0; the wire's field is narrower than a caller's number.
            sampling = replace(sampling, top_k=0)
        seed = secrets.randbits(63) if sampling.seed is None else sampling.seed
        return [
            QueuedRequest(
                request_id=choice_request_id(ask.request_id, choice_idx),
                attempt=1,
                model=model.name,
                prompt_token_ids=token_ids,
                sampling=replace(sampling, seed=seed_of_choice(seed, choice_idx)),
                tenant=ask.tenant,
                session_id=ask.session_id,
                deadline_unix_ms=ask.deadline_unix_ms,
                reply_to=self.reply_to,
                request_class=ask.request_class,
                accepted_unix_ms=accepted_unix_ms,
            )
            for choice_idx in range(ask.num_choices)
        ]

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
            self._let_go(live)
        used = record.usage or Usage()
        if lives and record.usage is None:
            used = Usage(
                len(lives[0].request.prompt_token_ids),
                sum(len(live.token_ids) for live in lives),
                lives[0].cached_tokens,
            )
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
