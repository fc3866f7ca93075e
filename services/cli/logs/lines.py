"""One line of a process's log, and which lines belong to a request. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

# [pid] 2026/11/24 08:09:15.383902 [INF] text
_BROKER_LINE = re.compile(r"\[\d+\] (\d{4}/\d\d/\d\d \d\d:\d\d:\d\d\.\d+) \[(\w{3})\] (.*)")
_BROKER_LEVELS = {"INF": "info", "WRN": "warning", "ERR": "error", "FTL": "critical"}
_OWN_FIELDS = ("event", "level", "timestamp", "service", "instance_id")


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line.

    Attributes:
        unix_s: when; that of the line before it in the same file if it does not say.
        process: name of the process whose file it is in.
        fields: all but time, level, event and names.
    """

    unix_s: float
    process: str
    level: str
    event: str
    fields: Mapping[str, Any] = field(default_factory=dict[str, Any])


def parse_line(text: str, process: str, *, last_unix_s: float = 0.0) -> LogLine:
    """Reads a JSON line of ours, a line of the broker, or anything else as it is."""
    if text.startswith("{"):
        try:
            raw = json.loads(text)
            moment = datetime.fromisoformat(raw["timestamp"]).timestamp()
        except (ValueError, KeyError, TypeError):
            return LogLine(last_unix_s, process, "", text)
        fields = {name: value for name, value in raw.items() if name not in _OWN_FIELDS}
        return LogLine(
            moment, process, str(raw.get("level", "")), str(raw.get("event", "")), fields
        )
    if match := _BROKER_LINE.fullmatch(text):
        moment = datetime.strptime(match[1], "%Y/%m/%d %H:%M:%S.%f").astimezone()
        return LogLine(
            moment.timestamp(), process, _BROKER_LEVELS.get(match[2], "debug"), match[3].strip()
        )
    return LogLine(last_unix_s, process, "", text)


def line_as_json(line: LogLine) -> str:
    """One JSON object, without line end."""
    moment = datetime.fromtimestamp(line.unix_s, UTC)
    return json.dumps(
        {
            "timestamp": moment.isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "process": line.process,
            "level": line.level,
            "event": line.event,
            **line.fields,
        }
    )


class RequestFilter:
    """Lets the lines of one request through: those with its id, and those of its trace.

    A line is recognised by its trace only after one that bears both the id and the trace.
    """

    def __init__(self, request_id: str) -> None:
        self._request_id = request_id
        self._trace_ids: set[str] = set()

    def __call__(self, line: LogLine) -> bool:
        """Whether the line belongs to the request."""
        trace_id = line.fields.get("trace_id")
        # Where a caller chose the id, the cluster's own begins with it.
        if str(line.fields.get("request_id", "")).startswith(self._request_id):
            if trace_id:
                self._trace_ids.add(trace_id)
            return True
        return trace_id in self._trace_ids

    def keep(self, lines: Iterable[LogLine]) -> list[LogLine]:
        """The lines of the request, those before its first with an id included."""
        known = list(lines)
        for line in known:
            # Once over all of them, so that the trace is known before the first is judged.
            self(line)
        return [line for line in known if self(line)]
