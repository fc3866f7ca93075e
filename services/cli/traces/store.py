"""Spans in one SQLite file: written by the receiver, read by `tokenmill trace`."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from services.cli.traces.span import SpanLink, StoredSpan
from services.runtime.names import REQUEST_ID

MAX_SPANS = 300_000
"""About 20,000 requests, engine steps included, and 200 MB."""

MAX_AGE_S = 86_400.0
MAX_NAMED_S = 60.0
"""Bounds the search of `named_between`: no engine step is longer."""
SLOW_S = 10.0
"""A request that took so long is kept beyond the others, as is one that failed."""

MAX_KEPT = 200
"""Such requests kept, the latest, with the engine steps that they were part of."""

_PRUNE_EVERY_SPANS = 5_000
_BUSY_TIMEOUT_S = 5.0

# Rows of `links` and `requests` bear the row of their span and go with it. Rows count up in order
# of arrival, so that pruning is a cut below one number; only what is kept beyond it is looked up.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS spans (
    row INTEGER PRIMARY KEY AUTOINCREMENT, received_s REAL NOT NULL,
    trace_id TEXT NOT NULL, span_id TEXT NOT NULL, parent_span_id TEXT NOT NULL,
    name TEXT NOT NULL, service TEXT NOT NULL, kind TEXT NOT NULL,
    start_ns INTEGER NOT NULL, end_ns INTEGER NOT NULL, is_error INTEGER NOT NULL,
    attributes TEXT NOT NULL, links TEXT NOT NULL, UNIQUE (trace_id, span_id));
CREATE INDEX IF NOT EXISTS spans_by_name ON spans (name, start_ns);
CREATE TABLE IF NOT EXISTS links (row INTEGER NOT NULL, trace_id TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS links_by_trace ON links (trace_id);
CREATE INDEX IF NOT EXISTS links_by_row ON links (row);
CREATE TABLE IF NOT EXISTS requests (
    row INTEGER NOT NULL, request_id TEXT NOT NULL, trace_id TEXT NOT NULL,
    start_ns INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS requests_by_id ON requests (request_id);
CREATE INDEX IF NOT EXISTS requests_by_row ON requests (row);
CREATE TABLE IF NOT EXISTS kept (trace_id TEXT PRIMARY KEY, start_ns INTEGER NOT NULL);
"""
_COLUMNS = (
    "trace_id, span_id, parent_span_id, name, service, kind, start_ns, end_ns, is_error,"
    " attributes, links"
)


class TraceStore:
    """One connection to the file; not safe for use by two threads at once."""

    def __init__(
        self,
        path: Path,
        *,
        max_spans: int = MAX_SPANS,
        max_age_s: float = MAX_AGE_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._max_spans = max_spans
        self._max_age_s = max_age_s
        self._clock = clock
        self._num_since_prune = 0
        # One writer thread at a time, not always the same: the receiver writes from a pool.
        self._db = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = WAL")
        # The loss of the last spans in a power cut is no loss.
        self._db.execute("PRAGMA synchronous = OFF")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Closes the file. Twice is safe."""
        self._db.close()

    def add(self, spans: Iterable[StoredSpan]) -> None:
        """Keeps spans; one that is there already (an export that was repeated) stays as it is."""
        now_s = self._clock()
        with self._db:
            for span in spans:
                self._add(span, now_s)
        if self._num_since_prune >= min(_PRUNE_EVERY_SPANS, self._max_spans):
            self.prune()

    def prune(self) -> None:
        """Drops what is too old or too much, oldest arrivals first.

        Of requests that failed or were slow the latest MAX_KEPT stay, whole, however old.
        """
        self._num_since_prune = 0
        (last_row,) = self._db.execute("SELECT coalesce(max(row), 0) FROM spans").fetchone()
        # Walks up from the oldest and stops at the first that is young enough.
        oldest = self._db.execute(
            "SELECT row FROM spans WHERE received_s >= ? ORDER BY row LIMIT 1",
            (self._clock() - self._max_age_s,),
        ).fetchone()
        first_kept = max(oldest[0] if oldest else last_row + 1, last_row - self._max_spans + 1)
        with self._db:
            self._keep_notable(first_kept)
            self._db.execute(
                "DELETE FROM spans WHERE row < ? AND trace_id NOT IN (SELECT trace_id FROM kept)"
                " AND row NOT IN"
                " (SELECT row FROM links WHERE trace_id IN (SELECT trace_id FROM kept))",
                (first_kept,),
            )
            for table in ("links", "requests"):
                self._db.execute(
                    f"DELETE FROM {table} WHERE row < ? AND row NOT IN"
                    " (SELECT row FROM spans WHERE row < ?)",
                    (first_kept, first_kept),
                )

    def find_trace(self, wanted: str) -> str | None:
        """Trace id of a request id or a trace id; None if nothing of it is here."""
        found = self._db.execute(
            "SELECT trace_id FROM requests WHERE request_id = ? ORDER BY start_ns DESC LIMIT 1",
            (wanted,),
        ).fetchone()
        if found is None:
            found = self._db.execute(
                "SELECT trace_id FROM spans WHERE trace_id = ? LIMIT 1", (wanted.lower(),)
            ).fetchone()
        return found[0] if found else None

    def latest_trace(self) -> str | None:
        """Trace of the request that began last; None if there is none."""
        found = self._db.execute(
            "SELECT trace_id FROM requests GROUP BY trace_id ORDER BY min(start_ns) DESC LIMIT 1"
        ).fetchone()
        return found[0] if found else None

    def spans_of(self, trace_id: str) -> list[StoredSpan]:
        """Spans of a trace, by start."""
        return self._read("WHERE trace_id = ? ORDER BY start_ns, row", (trace_id,))

    def linked_to(self, trace_id: str) -> list[StoredSpan]:
        """Spans of other traces that link to this one, engine steps above all; by start."""
        return self._read(
            "WHERE row IN (SELECT row FROM links WHERE trace_id = ?) AND trace_id != ?"
            " ORDER BY start_ns, row",
            (trace_id, trace_id),
        )

    def named_between(self, name: str, start_ns: int, end_ns: int) -> list[StoredSpan]:
        """Spans of a name that overlap a window and last MAX_NAMED_S at most; by start."""
        return self._read(
            "WHERE name = ? AND start_ns > ? AND start_ns < ? AND end_ns > ?"
            " ORDER BY start_ns, row",
            (name, start_ns - round(MAX_NAMED_S * 1e9), end_ns, start_ns),
        )

    def latencies(self) -> list[tuple[int, str]]:
        """Duration in ns at the door, and trace id, of each request kept; shortest first."""
        return list(
            self._db.execute(
                "SELECT max(s.end_ns) - min(s.start_ns) AS ns, r.trace_id"
                " FROM requests r JOIN spans s ON s.row = r.row WHERE s.kind = 'server'"
                " GROUP BY r.trace_id ORDER BY ns, r.trace_id"
            )
        )

    def seconds_since_arrival(self, trace_id: str) -> float:
        """Seconds since the last span of a trace came in."""
        (latest_s,) = self._db.execute(
            "SELECT max(received_s) FROM spans WHERE trace_id = ?", (trace_id,)
        ).fetchone()
        return 0.0 if latest_s is None else self._clock() - latest_s

    def seconds_since_end(self, trace_id: str) -> float:
        """Seconds since the last end of what is here of a trace."""
        (latest_ns,) = self._db.execute(
            "SELECT max(end_ns) FROM spans WHERE trace_id = ?", (trace_id,)
        ).fetchone()
        return 0.0 if latest_ns is None else self._clock() - latest_ns / 1e9

    def _keep_notable(self, first_kept: int) -> None:
        """Notes which of the requests that would go now are to stay, and forgets the oldest."""
        self._db.execute(
            "INSERT OR IGNORE INTO kept SELECT s.trace_id, s.start_ns FROM requests r"
            " JOIN spans s ON s.row = r.row WHERE r.row < ?"
            " AND (s.is_error OR (s.kind = 'server' AND s.end_ns - s.start_ns >= ?))",
            (first_kept, round(SLOW_S * 1e9)),
        )
        self._db.execute(
            "DELETE FROM kept WHERE trace_id NOT IN"
            " (SELECT trace_id FROM kept ORDER BY start_ns DESC LIMIT ?)",
            (MAX_KEPT,),
        )

    def _add(self, span: StoredSpan, now_s: float) -> None:
        cursor = self._db.execute(
            f"INSERT OR IGNORE INTO spans (received_s, {_COLUMNS})"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                now_s,
                span.trace_id,
                span.span_id,
                span.parent_span_id,
                span.name,
                span.service,
                span.kind,
                span.start_ns,
                span.end_ns,
                span.is_error,
                json.dumps(span.attributes),
                json.dumps(
                    [[link.trace_id, link.span_id, dict(link.attributes)] for link in span.links]
                ),
            ),
        )
        if cursor.rowcount == 0:
            return
        self._num_since_prune += 1
        row = cursor.lastrowid
        self._db.executemany(
            "INSERT INTO links VALUES (?, ?)",
            [(row, trace_id) for trace_id in {link.trace_id for link in span.links}],
        )
        if request_id := span.attributes.get(REQUEST_ID):
            self._db.execute(
                "INSERT INTO requests VALUES (?, ?, ?, ?)",
                (row, str(request_id), span.trace_id, span.start_ns),
            )

    def _read(self, where: str, values: Sequence[str | int]) -> list[StoredSpan]:
        rows = self._db.execute(f"SELECT {_COLUMNS} FROM spans {where}", values)
        return [
            StoredSpan(
                *row[:8],
                is_error=bool(row[8]),
                attributes=json.loads(row[9]),
                links=tuple(SpanLink(*link) for link in json.loads(row[10])),
            )
            for row in rows
        ]
