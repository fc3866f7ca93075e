"""A chat session as it is stored, and who may add to it."""

from __future__ import annotations

import re
import secrets

import msgspec

from services.core.errors import Conflict, InvalidRequest
from services.core.request import ChatMessage

_OWN_PREFIX = "ses-"
_SESSION_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class StoredMessage(msgspec.Struct, frozen=True):
    """One message."""

    role: str
    content: str


class OpenTurn(msgspec.Struct, frozen=True):
    """A turn that is being answered; after its deadline its gateway is dead or has given up."""

    request_id: str
    deadline_unix_ms: int


class StoredSession(msgspec.Struct, frozen=True):
    """Whole turns only, oldest first."""

    messages: tuple[StoredMessage, ...] = ()
    turn: OpenTurn | None = None


_DECODER = msgspec.json.Decoder(StoredSession)


def decode_session(payload: bytes) -> StoredSession:
    """Session from its stored bytes.

    Raises:
        msgspec.MsgspecError: not written by this service.
    """
    return _DECODER.decode(payload)


def encode_session(session: StoredSession, *, max_bytes: int) -> bytes:
    """Session as stored bytes.

    Raises:
        InvalidRequest: longer than a session may be.
    """
    payload = msgspec.json.encode(session)
    if len(payload) > max_bytes:
        raise InvalidRequest(
            f"session has {len(payload)} bytes; the limit is {max_bytes} bytes: start a new one",
            field="session_id",
            reason="SESSION_TOO_LONG",
        )
    return payload


def new_session_id() -> str:
    """A fresh, unguessable id of our own."""
    return f"{_OWN_PREFIX}{secrets.token_hex(12)}"


def is_own_session_id(session_id: str) -> bool:
    """Whether we made the id: then its session exists, or has expired."""
    return session_id.startswith(_OWN_PREFIX)


def check_session_id(session_id: str, *, field: str) -> None:
    """Refuses ids that are no safe name.

    Raises:
        InvalidRequest: wrong characters or length.
    """
    if _SESSION_ID.fullmatch(session_id) is None:
        raise InvalidRequest(
            f"{field} is {session_id[:64]!r}; allowed: 1 to 128 of A-Z a-z 0-9 . _ : -", field=field
        )


def open_turn(
    session: StoredSession, messages: tuple[ChatMessage, ...], turn: OpenTurn, *, now_unix_ms: int
) -> StoredSession:
    """The session with a turn begun; its messages are not part of it yet.

    Raises:
        Conflict: another turn is being answered.
        InvalidRequest: messages bring a system message into a conversation that has begun.
    """
    other = session.turn
    if other is not None and other.deadline_unix_ms > now_unix_ms:
        raise Conflict(
            f"request {other.request_id} is being answered in this session; wait for its end",
            reason="SESSION_BUSY",
        )
    if session.messages and any(message.role == "system" for message in messages):
        raise InvalidRequest(
            "messages has a system message; only a session's first turn may bring one",
            field="messages",
        )
    return StoredSession(session.messages, turn)


def close_turn(
    session: StoredSession, messages: tuple[ChatMessage, ...], answer: str
) -> StoredSession:
    """The session with the turn's messages and answer added."""
    added = (*messages, ChatMessage("assistant", answer))
    stored = tuple(StoredMessage(message.role, message.content) for message in added)
    return StoredSession((*session.messages, *stored))


def num_turns(messages: tuple[ChatMessage, ...], *, num_new: int) -> int:
    """Whole earlier turns in a conversation whose last num_new messages are new."""
    return len(_turns(messages[: len(messages) - num_new]))


def without_oldest(
    messages: tuple[ChatMessage, ...], *, num_new: int, num_dropped: int
) -> tuple[ChatMessage, ...]:
    """A conversation without its num_dropped oldest turns.

    A system message at the beginning stays, and so do the last num_new messages.
    """
    history, new = messages[: len(messages) - num_new], messages[len(messages) - num_new :]
    system = tuple(message for message in history[:1] if message.role == "system")
    kept = [message for turn in _turns(history)[num_dropped:] for message in turn]
    return (*system, *kept, *new)


def _turns(history: tuple[ChatMessage, ...]) -> list[list[ChatMessage]]:
    """Each begins with what a user said."""
    turns: list[list[ChatMessage]] = []
    for message in history:
        if message.role == "user":
            turns.append([message])
        elif turns:
            turns[-1].append(message)
    return turns


def conversation(
    session: StoredSession, messages: tuple[ChatMessage, ...]
) -> tuple[ChatMessage, ...]:
    """What the model is to answer: the history, then the new messages."""
    history = tuple(ChatMessage(message.role, message.content) for message in session.messages)
    return (*history, *messages)
