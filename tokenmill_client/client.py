"""The client for programs without asyncio."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Generator, Sequence
from types import TracebackType
from typing import Any, Unpack

import grpc
from tokenmill.v1.inference_pb2_grpc import InferenceServiceStub

from services.core.request import ChatMessage
from services.wire.inference import (
    AnswerPart,
    ListedModel,
    answer_part_from_pb,
    chat_request_to_pb,
    generate_request_to_pb,
    list_models_request_to_pb,
    list_models_response_from_pb,
)
from tokenmill_client.answer import Answer, joined
from tokenmill_client.calls import CallOptions, chat_call, generate_call, metadata_of
from tokenmill_client.connection import CHANNEL_OPTIONS, Tls, core_error, key_metadata
from tokenmill_client.retries import Patience, Retries


class Client:
    """Asks a gateway, or several in turn; safe to share between threads.

    All methods raise the errors of this package, `TokenmillError` and below. Calls that a gateway
    refuses for now are tried again, never after the first part of an answer.

    Args:
        target: "host:port", or "dns:///name:port" to take turns between all its addresses.
        api_key: where the gateway asks for one.
        tls: where the gateway speaks TLS.
        timeout_s: of calls that name none.
        retries: how patient to be.
    """

    def __init__(
        self,
        target: str = "localhost:50051",
        *,
        api_key: str | None = None,
        tls: Tls | None = None,
        timeout_s: float = 300.0,
        retries: Retries | None = None,
    ) -> None:
        if tls is None:
            self._channel = grpc.insecure_channel(target, CHANNEL_OPTIONS)
        else:
            self._channel = grpc.secure_channel(target, tls.credentials(), CHANNEL_OPTIONS)
        self._stub = InferenceServiceStub(self._channel)
        self._metadata = key_metadata(api_key)
        self._timeout_s = timeout_s
        self._retries = retries or Retries()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends what still runs. Twice is safe."""
        self._channel.close()

    def models(self) -> list[ListedModel]:
        """The models that the key may use."""
        patience = self._patience({})
        while True:
            try:
                reply = self._stub.ListModels(
                    list_models_request_to_pb(),
                    timeout=patience.left_s,
                    metadata=self._metadata,
                )
                return list_models_response_from_pb(reply)
            except grpc.RpcError as exc:
                error = core_error(exc)
                pause_s = patience.pause_s(error)
                if pause_s is None:
                    raise error from exc
            time.sleep(pause_s)

    def generate(self, prompt: str | Sequence[int], **options: Unpack[CallOptions]) -> Answer:
        """Completes a text, or token ids."""
        return joined(list(self.stream_generate(prompt, **options)))

    def stream_generate(
        self, prompt: str | Sequence[int], **options: Unpack[CallOptions]
    ) -> Generator[AnswerPart, None, None]:
        """The same, part by part; leaving or closing the iterator stops the request."""
        request = generate_request_to_pb(generate_call(prompt, options))
        return self._parts(self._stub.Generate, request, options)

    def chat(self, messages: str | Sequence[ChatMessage], **options: Unpack[CallOptions]) -> Answer:
        """Answers a conversation, or one message of the user."""
        return joined(list(self.stream_chat(messages, **options)))

    def stream_chat(
        self, messages: str | Sequence[ChatMessage], **options: Unpack[CallOptions]
    ) -> Generator[AnswerPart, None, None]:
        """The same, part by part; leaving or closing the iterator stops the request."""
        request = chat_request_to_pb(chat_call(messages, options))
        return self._parts(self._stub.Chat, request, options)

    def session(self, session_id: str | None = None) -> Session:
        """A conversation that the gateways keep: a new one, or the one of this id."""
        return Session(self, session_id or uuid.uuid4().hex)

    def stream_turn(
        self, session_id: str, text: str, **options: Unpack[CallOptions]
    ) -> Generator[AnswerPart, None, None]:
        """A session's answer to the next message of the user; see Session."""
        request = chat_request_to_pb(chat_call(text, options, session_id=session_id))
        return self._parts(self._stub.Chat, request, options, is_turn=True)

    def _patience(self, options: CallOptions, *, is_turn: bool = False) -> Patience:
        timeout_s = options.get("timeout_s", self._timeout_s)
        return Patience(self._retries, timeout_s=timeout_s, is_turn=is_turn)

    def _parts(
        self,
        method: Callable[..., Any],
        request: Any,
        options: CallOptions,
        *,
        is_turn: bool = False,
    ) -> Generator[AnswerPart, None, None]:
        patience = self._patience(options, is_turn=is_turn)
        metadata = (*self._metadata, *metadata_of(options))
        while True:
            call = method(request, timeout=patience.left_s, metadata=metadata)
            has_begun = False
            try:
                for message in call:
                    has_begun = True
                    yield answer_part_from_pb(message)
                return
            except grpc.RpcError as exc:
                error = core_error(exc)
                pause_s = None if has_begun else patience.pause_s(error)
                if pause_s is None:
                    raise error from exc
            finally:
                call.cancel()
            time.sleep(pause_s)


class Session:
    """One conversation; its history is kept by the gateways and goes before each message."""

    def __init__(self, client: Client, session_id: str) -> None:
        self.session_id = session_id
        self._client = client

    def ask(self, text: str, **options: Unpack[CallOptions]) -> Answer:
        """The answer to the user's next message."""
        return joined(list(self.stream(text, **options)))

    def stream(
        self, text: str, **options: Unpack[CallOptions]
    ) -> Generator[AnswerPart, None, None]:
        """The same, part by part; one that is left before its end is not kept."""
        return self._client.stream_turn(self.session_id, text, **options)
