"""`tokenmill top`."""

from __future__ import annotations

import contextlib
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator

from rich.live import Live

from services.cli import flags
from services.cli.terminal import out
from services.cli.top.look import Watch
from services.cli.top.render import render_look

_FIRST_INTERVAL_S = 0.5


def top(watch: Watch, *, interval_s: float, once: bool, as_json: bool) -> None:
    """Shows the cluster until `q` or Ctrl-C; once: one look, whose rates are of half a second.

    Raises:
        CommandFailed: no cluster runs.
    """
    watch.look()
    if once or as_json or not sys.stdout.isatty():
        time.sleep(_FIRST_INTERVAL_S)
        told = watch.look().as_json()
        if as_json:
            flags.print_json(told)
        else:
            out.print(render_look(told))
        return
    with _keys(), Live(console=out, screen=True, auto_refresh=False) as live:
        wait_s = _FIRST_INTERVAL_S
        while not _quit_within(wait_s):
            live.update(render_look(watch.look().as_json()), refresh=True)
            wait_s = interval_s


@contextlib.contextmanager
def _keys() -> Iterator[None]:
    """Keys come one by one and are not shown; the terminal is given back as it was."""
    if not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _quit_within(seconds: float) -> bool:
    if not sys.stdin.isatty():
        time.sleep(seconds)
        return False
    readable, _, _ = select.select([sys.stdin], [], [], seconds)
    return bool(readable) and sys.stdin.read(1) in ("q", "")
