"""One cluster per state directory."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.cli.cluster.state import read_state
from services.cli.failure import CommandFailed


@contextmanager
def hold_state_dir(state_dir: Path) -> Iterator[None]:
    """Makes the directory and keeps it for this process; the kernel lets go when it dies.

    Raises:
        CommandFailed: another cluster has it, or it cannot be made.
    """
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        lock = os.open(state_dir / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as exc:
        raise CommandFailed(f"cannot use state directory {state_dir}: {exc.strerror}") from exc
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise CommandFailed(_occupied(state_dir)) from exc
        yield
    finally:
        os.close(lock)


def _occupied(state_dir: Path) -> str:
    state = read_state(state_dir)
    where = f" at {state.http_url} (process {state.supervisor.pid})" if state else ""
    return (
        f"a cluster runs already{where}; stop it with: tokenmill down,"
        " or start another with --state-dir and other ports"
    )
