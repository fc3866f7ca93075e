"""TokenizerService messages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tokenmill.v1 import tokenizer_pb2 as pb

from services.core.errors import InvalidRequest
from services.core.model import ModelDescription
from services.core.request import ChatMessage
from services.wire.common import chat_message_from_pb

CHUNK_BYTES = 1 << 20
MAX_TOKENIZER_JSON_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class TokenizeQuery:
    """What to tokenize.

    Attributes:
        model: empty: the served model.
        content: plain text, or a conversation.
    """

    model: str
    content: str | tuple[ChatMessage, ...]


@dataclass(frozen=True, slots=True)
class TokenizerArtefact:
    """What a gateway loads."""

    description: ModelDescription
    tokenizer_json: bytes


def tokenize_request_to_pb(query: TokenizeQuery) -> pb.TokenizeRequest:
    """Query as sent.

    Raises:
        InvalidRequest: lone surrogates, which no UTF-8 can hold.
    """
    message = pb.TokenizeRequest(model=query.model)
    if isinstance(query.content, str):
        message.text = _checked(query.content, field="prompt")
        return message
    # SetInParent: a conversation without messages is still one, and is refused as such.
    message.conversation.SetInParent()
    for entry in query.content:
        message.conversation.messages.add(
            role=_checked(entry.role, field="messages"),
            content=_checked(entry.content, field="messages"),
        )
    return message


def tokenize_request_from_pb(message: pb.TokenizeRequest) -> TokenizeQuery:
    """Query as received.

    Raises:
        InvalidRequest: neither text nor conversation.
    """
    match message.WhichOneof("input"):
        case "text":
            return TokenizeQuery(message.model, message.text)
        case "conversation":
            messages = map(chat_message_from_pb, message.conversation.messages)
            return TokenizeQuery(message.model, tuple(messages))
        case _:
            raise InvalidRequest("input is missing; give text or conversation", field="input")


def tokenize_response_to_pb(token_ids: Sequence[int]) -> pb.TokenizeResponse:
    """Ids as sent."""
    return pb.TokenizeResponse(token_ids=token_ids)


def tokenize_response_from_pb(message: pb.TokenizeResponse) -> tuple[int, ...]:
    """Ids as received."""
    return tuple(message.token_ids)


def get_tokenizer_request_to_pb(model: str) -> pb.GetTokenizerRequest:
    """Request as sent; an empty name is the served model."""
    return pb.GetTokenizerRequest(model=model)


def get_tokenizer_request_from_pb(message: pb.GetTokenizerRequest) -> str:
    """The model's name."""
    return message.model


def artefact_to_pb(artefact: TokenizerArtefact) -> Iterator[pb.GetTokenizerResponse]:
    """An artefact as the messages of a GetTokenizer stream."""
    description, data = artefact.description, artefact.tokenizer_json
    yield pb.GetTokenizerResponse(
        description=pb.TokenizerDescription(
            model=description.name,
            max_model_len=description.max_model_len,
            eos_token_ids=description.eos_token_ids,
            vocab_size=description.vocab_size,
            has_chat_template=description.has_chat_template,
            tokenizer_json_size_bytes=len(data),
        )
    )
    for offset in range(0, len(data), CHUNK_BYTES):
        yield pb.GetTokenizerResponse(tokenizer_json=data[offset : offset + CHUNK_BYTES])


class ArtefactAssembler:
    """Puts the messages of a GetTokenizer stream together."""

    def __init__(self) -> None:
        self._head: pb.TokenizerDescription | None = None
        self._data = bytearray()

    def feed(self, message: pb.GetTokenizerResponse) -> None:
        """Takes the next message.

        Raises:
            ValueError: out of order, or more bytes than were said.
        """
        if message.WhichOneof("part") == "description":
            if self._head is not None:
                raise ValueError("a second description")
            if message.description.tokenizer_json_size_bytes > MAX_TOKENIZER_JSON_BYTES:
                raise ValueError(f"tokenizer.json is over {MAX_TOKENIZER_JSON_BYTES} bytes")
            self._head = message.description
            return
        if self._head is None:
            raise ValueError("no description before the artefact")
        self._data += message.tokenizer_json
        if len(self._data) > self._head.tokenizer_json_size_bytes:
            raise ValueError("more bytes than were said")

    def finish(self) -> TokenizerArtefact:
        """The artefact, once the stream has ended.

        Raises:
            ValueError: the stream ended early.
        """
        head = self._head
        if head is None or len(self._data) != head.tokenizer_json_size_bytes:
            raise ValueError(f"the stream ended after {len(self._data)} bytes")
        return TokenizerArtefact(
            description=ModelDescription(
                name=head.model,
                max_model_len=head.max_model_len,
                eos_token_ids=tuple(head.eos_token_ids),
                vocab_size=head.vocab_size,
                has_chat_template=head.has_chat_template,
            ),
            tokenizer_json=bytes(self._data),
        )


def _checked(text: str, *, field: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise InvalidRequest(
            f"{field} has a lone surrogate at character {exc.start}; it is not valid Unicode text",
            field=field,
        ) from exc
    return text
