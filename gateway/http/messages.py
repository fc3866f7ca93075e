"""Conversations as the OpenAI wire format writes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from gateway.http.body import refuse_unless_neutral
from services.core.errors import InvalidRequest
from services.core.request import ChatMessage

# "developer" is the newer name of "system"; chat templates know only the older one.
ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}


class TextPart(Protocol):
    """What all wire formats' parts of a message have alike."""

    type: str
    text: str | None


class ContentPart(msgspec.Struct, forbid_unknown_fields=True):
    """One part of a message; only text is supported. The others are refused by their type."""

    type: str
    text: str | None = None
    image_url: Any = None
    input_audio: Any = None
    file: Any = None
    refusal: Any = None


class MessageFields(msgspec.Struct, forbid_unknown_fields=True):
    """One message; the fields after content are what clients send back of an earlier answer."""

    role: str
    content: str | list[ContentPart] | None = None
    name: Any = None
    refusal: Any = None
    annotations: Any = None
    audio: Any = None
    tool_calls: Any = None
    tool_call_id: Any = None
    function_call: Any = None


_UNSUPPORTED = (
    "name", "refusal", "annotations", "audio", "tool_calls", "tool_call_id", "function_call",
)  # fmt: skip


def messages_of(messages: list[MessageFields]) -> tuple[ChatMessage, ...]:
    """The conversation.

    Raises:
        InvalidRequest: names the message and field.
    """
    return tuple(_message(message, f"messages[{idx}]") for idx, message in enumerate(messages))


def _message(message: MessageFields, path: str) -> ChatMessage:
    for field in _UNSUPPORTED:
        refuse_unless_neutral(f"{path}.{field}", getattr(message, field), ([],))
    role = ROLES.get(message.role)
    if role is None:
        raise InvalidRequest(
            f"{path}.role is {message.role[:64]!r}; allowed: {', '.join(ROLES)}",
            field=f"{path}.role",
        )
    return ChatMessage(role, text_of(message.content, f"{path}.content"))


def text_of(content: str | Sequence[TextPart] | None, path: str) -> str:
    """The text of a message's content, its parts joined.

    Raises:
        InvalidRequest: names the part that is none.
    """
    if content is None:
        raise InvalidRequest(f"{path} is missing; give a text", field=path)
    if isinstance(content, str):
        return content
    if not content:
        raise InvalidRequest(f"{path} is empty; at least one part is needed", field=path)
    for idx, part in enumerate(content):
        if part.type != "text":
            raise InvalidRequest(
                f"{path}[{idx}].type is {part.type[:64]!r}; allowed: text",
                field=f"{path}[{idx}].type",
            )
        if part.text is None:
            raise InvalidRequest(f"{path}[{idx}].text is missing", field=f"{path}[{idx}].text")
    return "".join(part.text or "" for part in content)
