"""Directories that are either whole or absent, however many processes build them."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from worker.models.errors import ModelUnavailable

CACHE_ADVICE = "choose another place with TOKENMILL_CACHE_DIR"


def default_cache_dir() -> Path:
    """`TOKENMILL_CACHE_DIR`, else `$XDG_CACHE_HOME/tokenmill`, else `~/.cache/tokenmill`."""
    if chosen := os.environ.get("TOKENMILL_CACHE_DIR"):
        return Path(chosen).expanduser()
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base).expanduser() / "tokenmill"
    return Path.home() / ".cache" / "tokenmill"


def build_once(target: Path, build: Callable[[Path], None]) -> Path:
    """Fills `target` by `build` unless it exists; safe to call from many processes at once.

    Args:
        target: the directory wanted. Its parent also holds a lock file and the unfinished work.
        build: fills the empty directory that it is given. If it raises, nothing remains.

    Raises:
        ModelUnavailable: the disk is full or may not be written.
    """
    if target.is_dir():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(target.parent / f"{target.name}.lock"):
            if not target.is_dir():
                _build_and_rename(target, build)
    except OSError as exc:
        raise ModelUnavailable(_storage_message(target.parent, exc)) from exc
    return target


@contextmanager
def built_aside(target: Path) -> Iterator[Path]:
    """An empty directory beside `target` that takes its place at the end, if nothing is raised.

    Otherwise nothing of it remains. `target` must be absent or an empty directory.
    """
    unfinished = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield unfinished
        unfinished.chmod(0o755)
        unfinished.rename(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def require_room(directory: Path, size_bytes: int, advice: str = CACHE_ADVICE) -> None:
    """Refuses early what would fill the disk.

    Raises:
        ModelUnavailable: less than `size_bytes` are free.
    """
    free_bytes = shutil.disk_usage(directory).free
    if free_bytes < size_bytes:
        raise ModelUnavailable(
            f"not enough disk space in {directory}: {free_bytes / 1e6:.0f} MB free,"
            f" {size_bytes / 1e6:.0f} MB needed; {advice}"
        )


def is_full(exc: OSError) -> bool:
    """Whether an error says that there is no room left, on the disk or in a quota."""
    return exc.errno in (errno.ENOSPC, errno.EDQUOT)


def say(text: str) -> None:
    """Progress for people; stdout belongs to the result."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def _build_and_rename(target: Path, build: Callable[[Path], None]) -> None:
    prefix = f".{target.name}."
    # We hold the lock, so whatever lies here was left by a process that died.
    for left_over in target.parent.glob(f"{prefix}*"):
        shutil.rmtree(left_over, ignore_errors=True)
    with built_aside(target) as unfinished:
        build(unfinished)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w", encoding="utf-8") as lock_file:
        _take(lock_file)
        yield


def _take(lock_file: TextIO) -> None:
    try:
        fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("another process is preparing this model; waiting for it")
        fcntl.flock(lock_file, fcntl.LOCK_EX)


def _storage_message(directory: Path, exc: OSError) -> str:
    if is_full(exc):
        return f"the disk is full at {directory}; free some space or {CACHE_ADVICE}"
    return f"cannot write the cache at {directory}: {exc}"
