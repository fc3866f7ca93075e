"""Chat sessions in a NATS key-value bucket, one turn at a time."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Protocol

from gateway.ask import Ask, ChatPrompt
from gateway.sessions.history import (
    OpenTurn,
    StoredSession,
    check_session_id,
    close_turn,
    conversation,
    decode_session,
    encode_session,
    is_own_session_id,
    open_turn,
)
from services.core.errors import NotFound, TokenmillError
from services.core.request import ChatMessage
from services.runtime.logs import get_logger
from services.wire.subjects import name_of_token, token

log = get_logger(__name__)


class SessionStore(Protocol):
    """Bytes under keys, with revisions. 0 is the revision of a key that does not exist."""

    async def read(self, key: str) -> tuple[bytes, int]:
        """Value and revision; empty and 0 if there is none.

        Raises:
            DependencyLost: the store does not answer.
        """
        ...

    async def write(self, key: str, value: bytes, *, revision: int) -> int:
        """Replaces the value if it still has this revision; returns the new one.

        Raises:
            Conflict: it has another.
            DependencyLost: the store does not answer.
        """
        ...

    async def delete(self, key: str, *, revision: int) -> None:
        """Removes the key if it still has this revision.

        Raises:
            Conflict: it has another.
            DependencyLost: the store does not answer.
        """
        ...

    async def keys(self, pattern: str) -> list[str]:
        """Keys of this pattern.

        Raises:
            DependencyLost: the store does not answer.
        """
        ...


class Sessions:
    """Begins turns, the same at both doors.

    A session under an id of the caller's own begins with its first turn. One under an id that we
    made exists, or has expired: then the caller must hear of it, not talk to one that forgot.
    """

    def __init__(
        self, store: SessionStore, tasks: asyncio.TaskGroup, *, max_session_bytes: int
    ) -> None:
        self._store = store
        self._tasks = tasks
        self._max_bytes = max_session_bytes

    async def begin(self, ask: Ask, prompt: ChatPrompt) -> Turn:
        """Opens a turn, so that a second one at the same time is refused at once.

        Raises:
            InvalidRequest: a bad session id, or a session that is full.
            NotFound: a session that we made and that has expired.
            Conflict: another turn is being answered.
            DependencyLost: the store does not answer.
        """
        check_session_id(ask.session_id, field="session_id")
        key = _key(ask.tenant, ask.session_id)
        payload, revision = await self._store.read(key)
        if not payload and is_own_session_id(ask.session_id) and not ask.begins_session:
            raise _not_found(ask.session_id)
        before = decode_session(payload) if payload else StoredSession()
        opened = open_turn(
            before,
            prompt.messages,
            OpenTurn(ask.request_id, ask.deadline_unix_ms),
            now_unix_ms=int(time.time() * 1000),
        )
        # The new messages are counted in: what cannot be stored at the end is refused at once.
        encode_session(close_turn(before, prompt.messages, ""), max_bytes=self._max_bytes)
        value = encode_session(opened, max_bytes=2 * self._max_bytes)
        revision = await self._store.write(key, value, revision=revision)
        return Turn(self, key, StoredSession(before.messages), revision, prompt)

    async def ids_of(self, tenant: str) -> list[str]:
        """Ids of a tenant's sessions, in order.

        Raises:
            DependencyLost: the store does not answer.
        """
        keys = await self._store.keys(f"{token(tenant)}.*")
        return sorted(name_of_token(key.partition(".")[2]) for key in keys)

    async def read(self, tenant: str, session_id: str) -> StoredSession:
        """One session of a tenant.

        Raises:
            NotFound: the tenant has no such session.
            DependencyLost: the store does not answer.
        """
        payload, _ = await self._store.read(_key(tenant, session_id))
        if not payload:
            raise _not_found(session_id)
        return decode_session(payload)

    async def delete(self, tenant: str, session_id: str) -> None:
        """Forgets a session; an answer that is being given in it is not kept.

        Raises:
            NotFound: the tenant has no such session.
            Conflict: somebody is changing it; try again.
            DependencyLost: the store does not answer.
        """
        payload, revision = await self._store.read(_key(tenant, session_id))
        if not payload:
            raise _not_found(session_id)
        await self._store.delete(_key(tenant, session_id), revision=revision)

    async def write(self, key: str, session: StoredSession, *, revision: int) -> None:
        """Writes a session back.

        Raises:
            Conflict: somebody else wrote it meanwhile.
            DependencyLost: the store does not answer.
        """
        # Room for an answer beyond the limit: it is whole, and refusing it now helps nobody.
        value = encode_session(session, max_bytes=2 * self._max_bytes)
        await self._store.write(key, value, revision=revision)

    def write_later(self, key: str, session: StoredSession, *, revision: int) -> None:
        """Writes without waiting; a failure is logged, since an open turn ends at its deadline."""
        self._tasks.create_task(self._try_write(key, session, revision))

    async def _try_write(self, key: str, session: StoredSession, revision: int) -> None:
        try:
            await self.write(key, session, revision=revision)
        except TokenmillError as exc:
            log.warning("session.not_released", reason=exc.reason)


def _key(tenant: str, session_id: str) -> str:
    return f"{token(tenant)}.{token(session_id)}"


def _not_found(session_id: str) -> NotFound:
    return NotFound(
        f"session {session_id[:128]} does not exist or has expired; begin a new one by naming none",
        field="session_id",
        reason="SESSION_NOT_FOUND",
    )


class Turn:
    """One turn: commit it with the answer, or leave it and nothing has happened."""

    def __init__(
        self, sessions: Sessions, key: str, before: StoredSession, revision: int, prompt: ChatPrompt
    ) -> None:
        self._sessions = sessions
        self._key = key
        self._before = before
        self._revision = revision
        self._messages: tuple[ChatMessage, ...] = prompt.messages
        self._is_open = True
        self.num_new_messages = len(prompt.messages)
        self.prompt = replace(prompt, messages=conversation(before, prompt.messages))

    async def commit(self, answer: str) -> None:
        """Adds messages and answer to the history.

        Raises:
            Conflict: the turn was taken over after its deadline.
            DependencyLost: the store does not answer.
        """
        session = close_turn(self._before, self._messages, answer)
        await self._sessions.write(self._key, session, revision=self._revision)
        self._is_open = False

    def leave(self) -> None:
        """Ends the turn without a trace, unless it was committed. Twice is safe."""
        if self._is_open:
            self._is_open = False
            self._sessions.write_later(self._key, self._before, revision=self._revision)
