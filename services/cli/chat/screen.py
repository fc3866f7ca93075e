"""The conversation on a terminal: lines in, streamed answers and /commands out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from rich.markup import escape
from rich.table import Table

from services.cli.chat.conversation import Conversation, Turn
from services.cli.failure import CommandFailed
from services.cli.terminal import err, out, write_text

N = TypeVar("N", int, float)

HELP = (
    ("/new", "begin another conversation"),
    ("/sessions", "list the conversations that are kept"),
    ("/use ID", "go on with one of them"),
    ("/history", "show this conversation"),
    ("/forget [ID]", "delete this conversation, or another"),
    ("/tokens [N]", "longest answer; without N the server's choice"),
    ("/temperature [T]", "0 is greedy; without T the server's choice"),
    ("/help", "show this list"),
    ("/quit", "leave, as Ctrl-D does; Ctrl-C stops an answer"),
)


class Screen:
    """Reads lines until the end; an error is said, and the conversation goes on."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._commands: dict[str, Callable[[str], None]] = {
            "/new": self._new,
            "/sessions": self._sessions,
            "/use": self._use,
            "/history": self._history,
            "/forget": self._forget,
            "/tokens": self._tokens,
            "/temperature": self._temperature,
            "/help": self._help,
        }

    def run(self, lines: Iterator[str]) -> None:
        """Answers line by line."""
        err.print(f"{escape(self._conversation.model)}  /help for commands", style="dim")
        for line in lines:
            text = line.strip()
            if text in ("/quit", "/exit"):
                return
            if not text:
                continue
            try:
                if text.startswith("/"):
                    self._command(text)
                else:
                    self._answer(text)
            except CommandFailed as exc:
                err.print(escape(exc.message), style="red")

    def _answer(self, text: str) -> None:
        try:
            turn = self._conversation.say(text, write_text)
        except KeyboardInterrupt:
            out.print()
            err.print("stopped; this turn is not kept", style="yellow")
            return
        out.print()
        err.print(turn_line(turn), style="dim", soft_wrap=True)

    def _command(self, text: str) -> None:
        name, _, argument = text.partition(" ")
        command = self._commands.get(name)
        if command is None:
            raise CommandFailed(f"{name} is no command; /help lists them")
        command(argument.strip())

    def _new(self, _: str) -> None:
        self._conversation.session_id = None
        err.print("the next message begins a conversation", style="dim")

    def _sessions(self, _: str) -> None:
        for session_id in self._conversation.sessions():
            mark = "*" if session_id == self._conversation.session_id else " "
            out.print(f"{mark} {escape(session_id)}")

    def _use(self, argument: str) -> None:
        if not argument:
            raise CommandFailed("/use needs the id of a conversation; /sessions lists them")
        num_messages = len(self._conversation.messages(argument))
        self._conversation.session_id = argument
        err.print(f"{num_messages} messages", style="dim")

    def _history(self, _: str) -> None:
        session_id = self._conversation.session_id
        for message in self._conversation.messages(session_id) if session_id else ():
            out.print(f"[bold]{escape(message['role'])}[/bold]: ", end="")
            write_text(message["content"] + "\n")

    def _forget(self, argument: str) -> None:
        session_id = argument or self._conversation.session_id
        if session_id is None:
            raise CommandFailed("there is no conversation yet")
        self._conversation.forget(session_id)
        if session_id == self._conversation.session_id:
            self._conversation.session_id = None
        err.print(f"{escape(session_id)} is forgotten", style="dim")

    def _tokens(self, argument: str) -> None:
        self._conversation.wishes.max_tokens = _number(argument, int, "/tokens")

    def _temperature(self, argument: str) -> None:
        self._conversation.wishes.temperature = _number(argument, float, "/temperature")

    def _help(self, _: str) -> None:
        table = Table.grid(padding=(0, 2))
        for name, meaning in HELP:
            table.add_row(escape(name), meaning)
        out.print(table)


def turn_line(turn: Turn) -> str:
    """Figures of a turn."""
    usage = turn.usage
    return (
        f"time to first token {turn.ttft_s * 1000:.0f} ms | {turn.total_s:.1f} s |"
        f" {usage.get('prompt_tokens', 0)} + {usage.get('completion_tokens', 0)} tokens |"
        f" {turn.finish_reason} | {escape(turn.session_id)}"
    )


def _number(argument: str, kind: type[N], name: str) -> N | None:
    if not argument:
        return None
    try:
        return kind(argument)
    except ValueError:
        raise CommandFailed(f"{name} takes a number; {argument!r} is none") from None
