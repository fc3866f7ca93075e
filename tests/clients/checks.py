"""Named checks of a client that nobody here wrote; runs in that client's own environment."""

from __future__ import annotations

import asyncio
import inspect
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Target:
    """The cluster to talk to, as run.py started it.

    Attributes:
        url: of the HTTP door.
        grpc_target: of the gRPC door.
        model: name of the served model.
        key: an API key without limits.
        narrow_key: one that may ask one thing at a time.
        tokenizer_dir: directory with the model's tokenizer.
    """

    url: str
    grpc_target: str
    model: str
    key: str
    narrow_key: str
    tokenizer_dir: str

    def environment(self) -> dict[str, str]:
        return {f"CHECK_{name.upper()}": value for name, value in vars(self).items()}


def target() -> Target:
    return Target(**{name: os.environ[f"CHECK_{name.upper()}"] for name in Target.__annotations__})


_checks: list[Callable[[], Any]] = []


def check(work: Callable[[], Any]) -> Callable[[], Any]:
    """Marks a function, plain or async, as a check; its name says what holds."""
    _checks.append(work)
    return work


def raised(kind: type[BaseException], work: Callable[[], Any]) -> Any:
    """The exception of this kind that work raises."""
    try:
        work()
    except kind as exc:
        return exc
    raise AssertionError(f"no {kind.__name__} was raised")


def main() -> None:
    """Runs all checks, prints a line for each, and exits 1 if one fails."""
    num_failed = 0
    for work in _checks:
        name = work.__name__.replace("_", " ")
        try:
            if inspect.iscoroutinefunction(work):
                asyncio.run(work())
            else:
                work()
        except Exception:
            num_failed += 1
            print(f"FAILED  {name}", flush=True)
            traceback.print_exc()
        else:
            print(f"passed  {name}", flush=True)
    print(f"{len(_checks) - num_failed} of {len(_checks)} passed", flush=True)
    sys.exit(1 if num_failed else 0)
