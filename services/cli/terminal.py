"""What commands print."""

from __future__ import annotations

import contextlib
import sys
from typing import TextIO

from rich.console import Console
from rich.text import Text

from services.cli.chat.client import Answer
from services.cli.cluster.events import ClusterEvent, EventKind, Report

_PIPE_WIDTH = 240


def open_console(stream: TextIO) -> Console:
    """A console as wide as its terminal; into a file or pipe lines are not cut at 80."""
    width = None if stream.isatty() else _PIPE_WIDTH
    return Console(file=stream, highlight=False, width=width)


out = open_console(sys.stdout)
"""Results: what a program may read."""

err = open_console(sys.stderr)
"""All that is said about the work."""

_STYLES = {
    EventKind.PROCESS_READY: ("ready", "green"),
    EventKind.PROCESS_DIED: ("died", "bold red"),
    EventKind.PROCESS_STOPPED: ("stopped", "dim"),
    EventKind.PROCESS_KILLED: ("killed", "red"),
}


def write_text(text: str) -> None:
    """Writes a piece of an answer as it comes, unwrapped.

    What a model says is not trusted with a terminal: control characters are left out there.
    """
    if sys.stdout.isatty():
        text = "".join(char for char in text if char.isprintable() or char in "\n\t")
    sys.stdout.write(text)
    sys.stdout.flush()


def console_report(console: Console = err) -> Report:
    """Says what happens to a cluster, one line each."""

    def report(event: ClusterEvent) -> None:
        line = event_line(event)
        if line is None:
            return
        # The terminal may be gone, and with it whom to tell; the drain must go on.
        with contextlib.suppress(OSError):
            console.print(line)

    return report


def event_line(event: ClusterEvent) -> Text | None:
    """One line for people; None for what needs no line."""
    match event.kind:
        case EventKind.CLUSTER_READY:
            return Text(f"cluster ready in {event.seconds:.1f} s", style="bold green")
        case EventKind.CLUSTER_DRAINING:
            return Text("draining; Ctrl-C again kills", style="yellow")
        case EventKind.CLUSTER_STOPPED:
            return Text("cluster stopped", style="bold")
        case EventKind.CLUSTER_FAILED:
            return None
        case EventKind.PROCESS_DIED:
            tail = f"{event.detail}; starts again in {event.seconds:.1f} s"
        case _:
            tail = f"{event.seconds:5.1f} s  {event.detail}"
    word, style = _STYLES[event.kind]
    return Text.assemble(f"  {event.name:<12}", (f"{word:<8}", style), (tail, "dim"))


def answer_line(answer: Answer) -> Text:
    """Figures of an answer."""
    cached = f" ({answer.cached_tokens} cached)" if answer.cached_tokens else ""
    return Text(
        f"time to first token {answer.ttft_s * 1000:.0f} ms"
        f" | {answer.tokens_per_s:.1f} tokens/s"
        f" | {answer.prompt_tokens}{cached} + {answer.output_tokens} tokens"
        f" | {answer.finish_reason} | {answer.request_id}",
        style="dim",
    )
