"""How a command says that it cannot go on."""

from __future__ import annotations


class CommandFailed(Exception):
    """Ends the command with one sentence on stderr.

    Attributes:
        message: what, value, and what to do about it.
        exit_code: status of the process.
    """

    def __init__(self, message: str, *, exit_code: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code
