"""How far a long piece of work is, for somebody who waits at a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(what: str, num_steps: int) -> Iterator[Callable[[], None]]:
    """A bar on stderr that goes when the work is done; where that is no terminal, nothing.

    Yields:
        To be called after each step.
    """
    if not sys.stderr.isatty():
        yield lambda: None
        return
    # Here: a worker in a cluster has no use for it, and its start counts.
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task_id = bar.add_task(what, total=num_steps)
        yield lambda: bar.advance(task_id)
