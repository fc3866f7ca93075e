"""gRPC out to the tokenizer service."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import grpc
from tokenizers import Tokenizer
from tokenmill.v1.tokenizer_pb2_grpc import TokenizerServiceStub

from gateway.text.detokenizer import TokenVocabulary
from services.core.errors import DeadlineExceeded, DependencyLost
from services.core.model import ModelDescription
from services.core.request import ChatMessage
from services.runtime import faults
from services.runtime.rpc_client import TracedCall, peer_errors
from services.wire.tokenizer import (
    ArtefactAssembler,
    TokenizeQuery,
    TokenizerArtefact,
    get_tokenizer_request_to_pb,
    tokenize_request_to_pb,
    tokenize_response_from_pb,
)

PEER = "tokenizer"
RETRY_PAUSE_S = 0.05
RETRY_AFTER_S = 1.0
SHORT_CHARS = 1024
"""Text whose ids are sooner worked out than asked for."""


@dataclass(frozen=True, slots=True)
class LoadedTokenizer:
    """What a gateway knows of a model, and what turns its ids into text."""

    description: ModelDescription
    vocabulary: TokenVocabulary


class TokenizerClient:
    """Asks any replica of the tokenizer service; a restart of one costs time, not a request.

    Args:
        channel: from open_channel, which leaves calls of one message for one to us; stays the
            caller's to close.
        target: of the channel.
        patience_s: how long a call goes on trying while nobody answers.
    """

    def __init__(self, channel: grpc.aio.Channel, target: str, *, patience_s: float) -> None:
        self._stub = TokenizerServiceStub(channel)
        self._call = TracedCall(
            target, "tokenmill.v1.TokenizerService/Tokenize", self._stub.Tokenize
        )
        self._patience_s = patience_s
        self._loaded: LoadedTokenizer | None = None

    async def tokenize_text(
        self, text: str, *, model: str = "", timeout_s: float | None = None
    ) -> tuple[int, ...]:
        """Ids of plain text; of a short one for the model that was loaded, by its own tokenizer.

        Args:
            text: what to tokenize; errors name it `prompt`.
            model: empty: the served model.
            timeout_s: what is left of the request's own time.

        Raises:
            InvalidRequest: not Unicode, or too long.
            NotFound: no such model.
            Overloaded: the service is full.
            DeadlineExceeded: timeout_s passed.
            DependencyLost: nobody answered for patience_s.
        """
        loaded = self._loaded
        if loaded is None or model != loaded.description.name or not _is_short(text):
            return await self._tokenize(TokenizeQuery(model, text), timeout_s)
        await faults.pause(faults.TOKENIZE)
        return tuple(loaded.vocabulary.encode(text))

    async def tokenize_conversation(
        self, messages: Sequence[ChatMessage], *, model: str = "", timeout_s: float | None = None
    ) -> tuple[int, ...]:
        """Ids of a conversation by the model's chat template; ends in the assistant's turn.

        Raises:
            InvalidRequest: the template refuses it; field `messages`. And as tokenize_text.
        """
        return await self._tokenize(TokenizeQuery(model, tuple(messages)), timeout_s)

    async def load_tokenizer(
        self, model: str = "", *, timeout_s: float | None = None
    ) -> LoadedTokenizer:
        """Fetches the artefact and loads it, off the event loop.

        Raises:
            NotFound: no such model.
            DependencyLost: nobody answered, or with a damaged artefact.
        """
        clock = _Clock(self._patience_s, timeout_s)
        while True:
            try:
                artefact = await self._fetch(model, clock.remaining_s())
                break
            except (DependencyLost, DeadlineExceeded) as exc:
                await clock.pause(exc)
        self._loaded = await asyncio.to_thread(_load, artefact)
        return self._loaded

    async def _tokenize(self, query: TokenizeQuery, timeout_s: float | None) -> tuple[int, ...]:
        message = tokenize_request_to_pb(query)
        clock = _Clock(self._patience_s, timeout_s)
        while True:
            try:
                with peer_errors(PEER):
                    # Ready: a service that is just starting again is waited for.
                    response = await self._call(
                        message, timeout_s=clock.remaining_s(), wait_for_ready=True
                    )
                return tokenize_response_from_pb(response)
            except (DependencyLost, DeadlineExceeded) as exc:
                # Tokenizing twice is the same as once, so a call lost half-way is made again.
                await clock.pause(exc)

    async def _fetch(self, model: str, timeout_s: float) -> TokenizerArtefact:
        assembler = ArtefactAssembler()
        with peer_errors(PEER):
            call = self._stub.GetTokenizer(
                get_tokenizer_request_to_pb(model), timeout=timeout_s, wait_for_ready=True
            )
            try:
                async for message in call:
                    assembler.feed(message)
                return assembler.finish()
            except ValueError as exc:
                call.cancel()
                raise DependencyLost(f"{PEER}: damaged artefact: {exc}") from exc


class _Clock:
    """How long a call may go on trying, and which error says that it was too long."""

    def __init__(self, patience_s: float, timeout_s: float | None) -> None:
        self._is_callers_time = timeout_s is not None and timeout_s <= patience_s
        self._allowed_s = (
            timeout_s if timeout_s is not None and self._is_callers_time else patience_s
        )
        self._ends_at = time.monotonic() + self._allowed_s

    def remaining_s(self) -> float:
        return max(0.001, self._ends_at - time.monotonic())

    async def pause(self, exc: DependencyLost | DeadlineExceeded) -> None:
        """Waits before the next try.

        Raises:
            DeadlineExceeded: the caller's time is over.
            DependencyLost: our patience is.
        """
        if time.monotonic() + RETRY_PAUSE_S < self._ends_at:
            await asyncio.sleep(RETRY_PAUSE_S)
            return
        if self._is_callers_time:
            raise DeadlineExceeded(
                f"{PEER} did not answer in the {self._allowed_s:.3g} s that were left"
            ) from exc
        raise DependencyLost(
            f"{PEER} did not answer for {self._allowed_s:.3g} s", retry_after_s=RETRY_AFTER_S
        ) from exc


def _is_short(text: str) -> bool:
    if len(text) > SHORT_CHARS:
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        # The long way says what is wrong with it.
        return False
    return True


def _load(artefact: TokenizerArtefact) -> LoadedTokenizer:
    try:
        tokenizer = Tokenizer.from_buffer(artefact.tokenizer_json)
    except Exception as exc:
        # The library raises plain Exception for a file that it cannot read.
        raise DependencyLost(f"{PEER}: tokenizer.json cannot be read: {exc}") from exc
    # Some files keep the settings of their training: texts would be cut or filled up.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return LoadedTokenizer(artefact.description, TokenVocabulary(tokenizer))
