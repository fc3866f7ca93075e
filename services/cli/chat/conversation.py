"""A conversation that the gateway keeps, over its public HTTP door."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from services.cli.failure import CommandFailed

_SESSION_HEADER = "x-session-id"
_DATA = "data: "
_DONE = "[DONE]"


@dataclass(frozen=True, slots=True)
class Turn:
    """The answer to one message."""

    session_id: str
    request_id: str
    text: str
    finish_reason: str
    usage: dict[str, Any]
    ttft_s: float
    total_s: float


@dataclass(slots=True)
class Wishes:
    """How to answer; None leaves the server's choice."""

    max_tokens: int | None = None
    temperature: float | None = None


@dataclass(slots=True)
class Conversation:
    """One session after the other; a failed turn leaves the session as it was.

    Attributes:
        session_id: of the current one; None: the next message begins one.
    """

    client: httpx.Client
    model: str
    wishes: Wishes = field(default_factory=Wishes)
    session_id: str | None = None

    def say(self, text: str, on_text: Callable[[str], None]) -> Turn:
        """Sends the user's next message; on_text hears the answer as it comes.

        Raises:
            CommandFailed: refused, broken off, or nobody answers.
        """
        body: dict[str, Any] = {"model": self.model, "message": text, "stream": True}
        if self.wishes.max_tokens is not None:
            body["max_tokens"] = self.wishes.max_tokens
        if self.wishes.temperature is not None:
            body["temperature"] = self.wishes.temperature
        headers = {_SESSION_HEADER: self.session_id} if self.session_id else {}
        began_s = time.perf_counter()
        first_s = 0.0
        pieces: list[str] = []
        last: dict[str, Any] = {}
        with (
            _as_failures(str(self.client.base_url)),
            self.client.stream("POST", "/api/chat/message", json=body, headers=headers) as reply,
        ):
            if reply.status_code != httpx.codes.OK:
                raise _refused(reply.status_code, reply.read())
            self.session_id = reply.headers[_SESSION_HEADER]
            for event in _events(reply.iter_lines()):
                if "error" in event:
                    raise CommandFailed(f"the answer broke off: {event['error'].get('message')}")
                if event["text"]:
                    first_s = first_s or time.perf_counter()
                    pieces.append(event["text"])
                    on_text(event["text"])
                last = event
        ended_s = time.perf_counter()
        return Turn(
            session_id=self.session_id,
            request_id=last.get("request_id", ""),
            text="".join(pieces),
            finish_reason=last.get("finish_reason") or "",
            usage=last.get("usage") or {},
            ttft_s=(first_s or ended_s) - began_s,
            total_s=ended_s - began_s,
        )

    def sessions(self) -> list[str]:
        """Ids of the first thousand sessions of the key's tenant."""
        return [entry["id"] for entry in self._get("/api/chat/sessions?limit=1000")["data"]]

    def messages(self, session_id: str) -> list[dict[str, str]]:
        """A session's messages, oldest first."""
        return self._get(f"/api/chat/sessions/{session_id}")["messages"]

    def forget(self, session_id: str) -> None:
        """Deletes a session."""
        with _as_failures(str(self.client.base_url)):
            reply = self.client.delete(f"/api/chat/sessions/{session_id}")
        if reply.status_code != httpx.codes.OK:
            raise _refused(reply.status_code, reply.content)

    def _get(self, path: str) -> dict[str, Any]:
        with _as_failures(str(self.client.base_url)):
            reply = self.client.get(path)
        if reply.status_code != httpx.codes.OK:
            raise _refused(reply.status_code, reply.content)
        return reply.json()


def _events(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        if not line.startswith(_DATA):
            continue
        text = line.removeprefix(_DATA)
        if text == _DONE:
            return
        yield json.loads(text)
    raise CommandFailed("the answer broke off before its end")


@contextmanager
def _as_failures(url: str) -> Iterator[None]:
    try:
        yield
    except httpx.HTTPError as exc:
        raise CommandFailed(f"{url} does not answer: {exc}") from exc


def _refused(status: int, body: bytes) -> CommandFailed:
    try:
        said = json.loads(body)["error"]["message"]
    except (ValueError, LookupError, TypeError):
        said = body[:200].decode(errors="replace")
    return CommandFailed(f"the gateway refused ({status}): {said}")
