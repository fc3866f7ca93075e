"""What other threads ask of the engine's thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.core.blocks import BlockPayload
from worker.engine.port import SequenceSpec


@dataclass(frozen=True, slots=True)
class Cancel:
    """Ends a sequence, if it is there."""

    seq_id: str


@dataclass(frozen=True, slots=True)
class ImportBlocks:
    """Makes blocks findable for the sequences that come after."""

    blocks: Sequence[BlockPayload]


Command = SequenceSpec | Cancel | ImportBlocks


class Inbox:
    """Commands in order of arrival; any thread puts, the engine's thread takes.

    Its length is bounded by the worker, which has at most `max_requests` sequences on an engine.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._commands: list[Command] = []
        self._is_closed = False

    def put(self, command: Command) -> None:
        """Adds a command and wakes the engine."""
        with self._changed:
            self._commands.append(command)
            self._changed.notify_all()

    def close(self) -> None:
        """Makes `take` return None from now on. Twice is safe."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def take(self, *, wait: bool, on_idle: Callable[[], None]) -> list[Command] | None:
        """All commands so far; None once closed.

        Args:
            wait: sleep until there is a command, for an engine that has nothing else to do.
            on_idle: called before sleeping, with no command able to slip in between.
        """
        with self._changed:
            if wait and not self._commands:
                on_idle()
                self._changed.wait_for(lambda: self._commands or self._is_closed)
            if self._is_closed:
                return None
            commands, self._commands = self._commands, []
            return commands

    def waiting_specs(self) -> list[SequenceSpec]:
        """Sequences submitted but not yet taken."""
        with self._changed:
            return [command for command in self._commands if isinstance(command, SequenceSpec)]
