"""Log files of a state directory, read as they grow."""

from __future__ import annotations

from pathlib import Path

from services.cli.logs.lines import LogLine, parse_line

MAX_READ_BYTES = 64 << 20
"""Of one file at once; of a longer one only the end is read."""


class LogFile:
    """One process's log; remembers how far it was read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._rest = b""
        self._last_unix_s = 0.0

    def read(self) -> list[LogLine]:
        """Lines that were finished since the last read; none if the file is gone."""
        try:
            with self._path.open("rb") as file:
                size = file.seek(0, 2)
                if size < self._offset:
                    # Another cluster began it anew.
                    self._offset, self._rest = 0, b""
                if size - self._offset > MAX_READ_BYTES:
                    self._offset, self._rest = size - MAX_READ_BYTES, b""
                file.seek(self._offset)
                text = self._rest + file.read(size - self._offset)
                self._offset = size
        except FileNotFoundError:
            return []
        *whole, self._rest = text.split(b"\n")
        return [self._parse(line) for line in whole if line]

    def _parse(self, line: bytes) -> LogLine:
        parsed = parse_line(
            line.decode(errors="replace"), self._path.stem, last_unix_s=self._last_unix_s
        )
        self._last_unix_s = parsed.unix_s
        return parsed


class LogDirectory:
    """All logs of a cluster; processes that start later are found."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._files: dict[Path, LogFile] = {}

    def read(self) -> list[LogLine]:
        """New lines of all processes, by time; lines of one process keep their order."""
        for path in sorted(self._directory.glob("*.log")):
            self._files.setdefault(path, LogFile(path))
        lines = [line for file in self._files.values() for line in file.read()]
        return sorted(lines, key=lambda line: line.unix_s)
