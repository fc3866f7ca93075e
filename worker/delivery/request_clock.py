"""When an attempt came to which stage of the engine; Unix time in ns, 0 before it did."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class RequestClock:
    """Mutable, of one attempt.

    Attributes:
        first_step_ns: start of the first step that it was part of.
        first_token_ns: end of the step that gave its first token.
    """

    first_step_ns: int = 0
    first_token_ns: int = 0

    def stepped(self, started_ns: int) -> None:
        """It was part of a step."""
        self.first_step_ns = self.first_step_ns or started_ns

    def got_tokens(self, ended_ns: int) -> bool:
        """A step gave it tokens. Returns whether they were the first."""
        is_first = not self.first_token_ns
        self.first_token_ns = self.first_token_ns or ended_ns
        return is_first
