"""The measurements that a report is made of: each a bench of its own. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Part:
    """One bench, called by command line.

    Attributes:
        arguments: after `tokenmill bench`.
        least_s: it is not begun with less time left.
    """

    name: str
    arguments: tuple[str, ...]
    least_s: float = 40.0

    @property
    def command(self) -> str:
        """As a reader would type it."""
        return " ".join(("tokenmill bench", *self.arguments))


@dataclass(frozen=True, slots=True)
class Result:
    """What a part came to.

    Attributes:
        command: that was run.
        figures: the bench's JSON; empty: there are none.
        reason: why there are none.
        machine: where it ran.
        unix_s, seconds: when it began, and how long it took.
    """

    command: str
    figures: Mapping[str, Any] = field(default_factory=dict[str, Any])
    reason: str = ""
    machine: str = ""
    unix_s: float = 0.0
    seconds: float = 0.0


PARTS: tuple[Part, ...] = (
    Part(
        "kv-cache",
        ("engine", "--json", "--precisions", "bf16", "--rounds", "1", "--tokens", "32",
         "--kv-tokens", "512", "--no-shares"),
    ),
    Part(
        "precisions",
        ("engine", "--json", "--precisions", "fp32,bf16,int8", "--rounds", "1", "--tokens", "32",
         "--kv-tokens", "0", "--no-shares"),
    ),
    Part("quality", ("quality", "--json", "--precisions", "fp32,int8", "--tokens", "8192")),
    Part("batching", ("batching", "--json")),
    Part("second-turns", ("sessions", "--json", "--only", "second-turns", "--turns", "8")),
    Part("conversations", ("sessions", "--json", "--only", "conversations")),
    Part("users", ("gateway", "--json", "--streams", "1000", "--tokens", "100", "--rate", "10")),
    Part("profiles", ("profiles", "--json", "--loads", "chat,batch", "--rounds", "1")),
)  # fmt: skip
"""Each takes a minute or two on two free cores, conversations seven."""
