"""Everything around a gateway, played: tokenizer, queue with workers, session store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import grpc
from tokenizers import Tokenizer, decoders, models
from tokenmill.v1.delivery_pb2_grpc import DeliveryServiceStub

from gateway.text.detokenizer import TokenVocabulary
from gateway.tokenizer_client import LoadedTokenizer
from services.core.api_key import ApiKey, draw_secret
from services.core.caller import Limits, Scope
from services.core.delivery import Attach, NextTokens, RequestDelta, StepFrame, WorkerHello
from services.core.errors import Conflict, InvalidRequest
from services.core.logprobs import TokenLogprobs
from services.core.model import ModelDescription
from services.core.request import ChatMessage, FinishReason, QueuedRequest, TraceContext
from services.runtime.key_value import Change
from services.runtime.telemetry import current_trace
from services.wire.access import encode_key, encode_tenant, key_entry, tenant_entry
from services.wire.delivery import gateway_message_from_pb, worker_message_to_pb
from services.wire.queue import decode_cancel, decode_queued_request
from services.wire.subjects import CANCELS, lane_notices_of

LETTERS = "abcdefghijklmnopqrstuvwxyz ."
MODEL = "fake-model"
MAX_MODEL_LEN = 256


def fake_loaded_tokenizer() -> LoadedTokenizer:
    """One token per letter; all ids join to text without spaces between."""
    tokenizer = Tokenizer(models.WordLevel({letter: i for i, letter in enumerate(LETTERS)}, "."))
    tokenizer.decoder = decoders.Fuse()
    description = ModelDescription(MODEL, MAX_MODEL_LEN, (27,), len(LETTERS), True)
    return LoadedTokenizer(description, TokenVocabulary(tokenizer))


def ids_of(text: str) -> tuple[int, ...]:
    return tuple(LETTERS.index(letter) if letter in LETTERS else 26 for letter in text)


class FakeTokenizer:
    def __init__(self) -> None:
        self.conversations: list[tuple[ChatMessage, ...]] = []

    async def load_tokenizer(self) -> LoadedTokenizer:
        return fake_loaded_tokenizer()

    async def tokenize_text(self, text: str, *, model: str, timeout_s: float) -> Sequence[int]:
        return ids_of(text)

    async def tokenize_conversation(
        self, messages: Sequence[ChatMessage], *, model: str, timeout_s: float
    ) -> Sequence[int]:
        if any(message.content == "unanswerable" for message in messages):
            raise InvalidRequest("the template refuses this", field="conversation")
        self.conversations.append(tuple(messages))
        return ids_of("".join(message.content for message in messages))


class FakeStore:
    def __init__(self) -> None:
        self.values: dict[str, tuple[bytes, int]] = {}

    async def read(self, key: str) -> tuple[bytes, int]:
        return self.values.get(key, (b"", 0))

    async def write(self, key: str, value: bytes, *, revision: int) -> int:
        if self.values.get(key, (b"", 0))[1] != revision:
            raise Conflict("changed meanwhile")
        self.values[key] = (value, revision + 1)
        return revision + 1

    async def put(self, key: str, value: bytes) -> None:
        self.values[key] = (value, self.values.get(key, (b"", 0))[1] + 1)

    async def delete(self, key: str, *, revision: int) -> None:
        if self.values[key][1] != revision:
            raise Conflict("changed meanwhile")
        del self.values[key]

    async def keys(self, pattern: str) -> list[str]:
        return list(await self.entries(pattern))

    async def entries(self, pattern: str = ">") -> dict[str, bytes]:
        return {key: value for key, (value, _) in self.values.items() if fnmatchcase(key, pattern)}


class FakeAccess:
    """The bucket of keys, in memory."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self._changes: list[asyncio.Queue[Change | None]] = []

    def add_key(self, **fields: Any) -> str:
        """Keeps a key; returns its secret."""
        drawn = draw_secret()
        key = ApiKey(
            **{
                "key_id": drawn.key_id,
                "sha256": drawn.sha256,
                "name": "test",
                "tenant": "default",
                "scopes": frozenset({Scope.INFERENCE, Scope.SESSIONS}),
                "models": frozenset(),
                "limits": Limits(),
                "created_unix_s": 0,
                **fields,
            }
        )
        self.put(key_entry(key.key_id), encode_key(key))
        return drawn.text

    def limit_tenant(self, tenant: str, limits: Limits) -> None:
        self.put(tenant_entry(tenant), encode_tenant(tenant, limits))

    def put(self, key: str, value: bytes | None) -> None:
        if value is None:
            self.values.pop(key, None)
        else:
            self.values[key] = value
        for queue in self._changes:
            queue.put_nowait(Change(key, value))

    @asynccontextmanager
    async def watch(self) -> AsyncIterator[AsyncIterator[Change | None]]:
        queue: asyncio.Queue[Change | None] = asyncio.Queue()
        for key, value in self.values.items():
            queue.put_nowait(Change(key, value))
        queue.put_nowait(None)
        self._changes.append(queue)

        async def changes() -> AsyncIterator[Change | None]:
            while True:
                yield await queue.get()

        yield changes()


class FakeQueue:
    """Keeps what is published; `error` is raised instead, if set."""

    def __init__(self) -> None:
        self.attempts: asyncio.Queue[QueuedRequest] = asyncio.Queue()
        self.message_ids: list[str] = []
        self.subjects: list[str] = []
        self.traces: list[TraceContext] = []
        self.notices: list[str] = []
        self.cancelled: asyncio.Queue[str] = asyncio.Queue()
        self.error: Exception | None = None

    async def publish(self, subject: str, payload: bytes) -> None:
        if subject.startswith(lane_notices_of(MODEL).removesuffix(">")):
            self.notices.append(subject)
            return
        assert subject == CANCELS
        self.cancelled.put_nowait(decode_cancel(payload))

    async def enqueue(
        self, subject: str, payload: bytes, *, message_id: str, template: str
    ) -> None:
        if self.error is not None:
            raise self.error
        self.subjects.append(subject)
        self.traces.append(current_trace())
        self.message_ids.append(message_id)
        self.attempts.put_nowait(decode_queued_request(payload))

    async def next_attempt(self) -> QueuedRequest:
        async with asyncio.timeout(5):
            return await self.attempts.get()


class FakeWorker:
    """A worker's side of one Deliver stream, step by step."""

    def __init__(self, call: Any, worker_id: str) -> None:
        self.worker_id = worker_id
        self._call = call
        self._num_handles = 0
        self._step_idx = 0

    async def attach(self, request_id: str, attempt: int) -> Any:
        self._num_handles += 1
        await self.write(Attach(self._num_handles, request_id, attempt))
        return await self.read()

    async def write(self, message: Any) -> None:
        await self._call.write(worker_message_to_pb(message))

    async def read(self) -> Any:
        async with asyncio.timeout(5):
            message = await self._call.read()
        end: Any = grpc.aio.EOF  # pyright: ignore[reportAttributeAccessIssue]
        return None if message is end else gateway_message_from_pb(message)

    async def deliver(
        self,
        handle: int,
        first_position: int,
        token_ids: Sequence[int],
        finish: FinishReason | None = None,
        **fields: Any,
    ) -> None:
        self._step_idx += 1
        if len(token_ids) == 1 and finish is None and not fields:
            nexts = NextTokens((handle,), (first_position,), tuple(token_ids))
            await self.write(StepFrame(self._step_idx, nexts=nexts))
            return
        delta = RequestDelta(handle, first_position, tuple(token_ids), finish, **fields)
        await self.write(StepFrame(self._step_idx, [delta]))

    def die(self) -> None:
        self._call.cancel()


@asynccontextmanager
async def fake_worker(address: str, worker_id: str = "w1") -> AsyncIterator[FakeWorker]:
    async with grpc.aio.insecure_channel(address) as channel:
        call = DeliveryServiceStub(channel).Deliver()
        worker = FakeWorker(call, worker_id)
        await worker.write(WorkerHello(worker_id))
        yield worker
        call.cancel()


Steps = Sequence[Sequence[int]]


def alphabet(request: QueuedRequest) -> Steps:
    """a, b, c ... up to max_tokens, one per step."""
    return [[position % 26] for position in range(request.sampling.max_tokens or 1)]


def fake_logprobs(token_ids: Sequence[int], num_top: int | None) -> list[TokenLogprobs]:
    """Each token with -1, and those before it in the alphabet with -2, -3, ..."""
    if num_top is None:
        return []
    return [
        TokenLogprobs(
            -1.0,
            tuple((token_id - i) % 26 for i in range(num_top)),
            tuple(-1.0 - i for i in range(num_top)),
        )
        for token_id in token_ids
    ]


@dataclass
class FakeCluster:
    """Queue, store, tokenizer, and a worker that answers whatever is queued by `script`."""

    queue: FakeQueue = field(default_factory=FakeQueue)
    store: FakeStore = field(default_factory=FakeStore)
    tokenizer: FakeTokenizer = field(default_factory=FakeTokenizer)
    access: FakeAccess = field(default_factory=FakeAccess)
    results: FakeStore = field(default_factory=FakeStore)
    script: Callable[[QueuedRequest], Steps] = alphabet
    finish: FinishReason = FinishReason.LENGTH
    cached_tokens: int = 0

    async def work(self, address: str) -> None:
        async with fake_worker(address) as worker:
            while True:
                request = await self.queue.attempts.get()
                reply = await worker.attach(request.request_id, request.attempt)
                steps = self.script(request)
                position = 0
                for idx, token_ids in enumerate(steps):
                    finish = self.finish if idx == len(steps) - 1 else None
                    cached_tokens = self.cached_tokens if idx == 0 else 0
                    params = request.sampling
                    prompt = request.prompt_token_ids[1:] if idx == 0 else ()
                    await worker.deliver(
                        reply.handle,
                        position,
                        token_ids,
                        finish,
                        cached_tokens=cached_tokens,
                        logprobs=fake_logprobs(token_ids, params.logprobs),
                        prompt_logprobs=fake_logprobs(prompt, params.prompt_logprobs),
                    )
                    position += len(token_ids)
