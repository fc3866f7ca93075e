"""Child processes under orders: one JSON line in, one JSON line out."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

DEFAULT_TIMEOUT_S = 600.0
_END_TIMEOUT_S = 20.0
_TAIL_CHARS = 2000


class ChildFailed(Exception):
    """A child ended, refused an order, or took too long.

    Attributes:
        name: which child.
        why: for people.
    """

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"{name}: {why}")
        self.name = name
        self.why = why


class Child:
    """One process; its first line says that it is ready.

    Args:
        name: in messages.
        command: program and arguments.
        environment: added to our own.
        log_file: takes its stderr, so that the reason of a failure can be told.
        ready_timeout_s: loading may compile.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log_file: Path,
        environment: Mapping[str, str] | None = None,
        ready_timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> None:
        self.name = name
        self._log_file = log_file
        with log_file.open("w") as log:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, **(environment or {})},
            )
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()
        try:
            self.ready = self._answer(ready_timeout_s)
        except ChildFailed:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def ask(self, order: Mapping[str, Any], timeout_s: float = DEFAULT_TIMEOUT_S) -> dict[str, Any]:
        """Gives an order and waits for the answer.

        Raises:
            ChildFailed: there is none, or it is an error.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
        except OSError as exc:
            raise ChildFailed(self.name, f"it ended; {self._tail()}") from exc
        return self._answer(timeout_s)

    def close(self) -> None:
        """Ends the child. Twice is safe."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
        except OSError:
            self._process.kill()
        try:
            self._process.wait(timeout=_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            # Libraries print to stdout as they please; answers are objects.
            if line.startswith("{"):
                self._lines.put(line)
        self._process.stdout.close()
        self._lines.put("")

    def _answer(self, timeout_s: float) -> dict[str, Any]:
        try:
            line = self._lines.get(timeout=timeout_s)
        except queue.Empty:
            raise ChildFailed(self.name, f"no answer within {timeout_s:g} s") from None
        if not line:
            raise ChildFailed(self.name, f"it ended; {self._tail()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise ChildFailed(self.name, str(answer["error"]))
        return answer

    def _tail(self) -> str:
        text = self._log_file.read_text(errors="replace")[-_TAIL_CHARS:].strip()
        return f"its last words: {text.splitlines()[-1]}" if text else "it said nothing"
