"""Conversations as the OpenAI wire format writes them."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.http.body import refuse_unless_neutral
from services.core.errors import InvalidRequest
from services.core.request import ChatMessage

# "developer" is the newer name of "system"; chat templates know only the older one.
ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}


class ContentPart(msgspec.Struct):
    """One part of a message; only text is supported."""

    type: str
    text: str | None = None


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
    return ChatMessage(role, _text(message.content, f"{path}.content"))


def _text(content: str | list[ContentPart] | None, path: str) -> str:
    if content is None:
        raise InvalidRequest(f"{path} is missing; give a text", field=path)
    if isinstance(content, str):
        return content
    for idx, part in enumerate(content):
        if part.type != "text":
            raise InvalidRequest(
                f"{path}[{idx}].type is {part.type[:64]!r}; allowed: text",
                field=f"{path}[{idx}].type",
            )
        if part.text is None:
            raise InvalidRequest(f"{path}[{idx}].text is missing", field=f"{path}[{idx}].text")
    return "".join(part.text or "" for part in content)
