import time
from pathlib import Path

import pytest

from services.cli.failure import CommandFailed
from services.cli.traces.asking import Asking
from services.cli.traces.lookup import find_trace
from services.cli.traces.store import TraceStore
from tests.services.cli.traces.spans import MS, TRACE, a_span


@pytest.fixture
def traces_file(tmp_path: Path) -> Path:
    path = tmp_path / "traces.sqlite"
    # Long ago, so that nothing is awaited.
    store = TraceStore(path, clock=lambda: 0.0)
    store.add([a_span("root"), a_span("chat", "root", request_id="req-1")])
    store.close()
    return path


def test_a_whole_trace_is_read_at_once(traces_file: Path):
    found = find_trace(traces_file, "req-1")
    assert found.tree.trace_id == TRACE
    assert [span.name for span in found.spans] == ["root", "chat"]


def test_without_an_id_it_is_the_latest_request(traces_file: Path):
    assert find_trace(traces_file, None).tree.trace_id == TRACE


def test_a_trace_that_stays_incomplete_is_shown_as_it_is(tmp_path: Path):
    store = TraceStore(tmp_path / "traces.sqlite")
    store.add([a_span("chat", "root", request_id="req-1")])
    store.close()
    found = find_trace(tmp_path / "traces.sqlite", "req-1", max_wait_s=0)
    assert not found.tree.is_whole


def test_an_unknown_request_is_said(traces_file: Path):
    with pytest.raises(CommandFailed, match="no trace of req-2"):
        find_trace(traces_file, "req-2", max_wait_s=0)


def test_a_directory_without_traces_is_said(tmp_path: Path):
    with pytest.raises(CommandFailed, match="no traces are kept"):
        find_trace(tmp_path / "traces.sqlite", None)


def test_of_a_request_that_just_ended_the_rest_is_asked_for(tmp_path: Path):
    path = tmp_path / "traces.sqlite"
    store = TraceStore(path, clock=lambda: 0.0)
    now_ms = time.time_ns() // MS
    store.add([a_span("root", request_id="req-1", start_ms=now_ms)])

    class Rest(Asking):
        def export(self) -> None:
            store.add([a_span("chat", "root", start_ms=now_ms)])

    found = find_trace(path, "req-1", asking=Rest("nats://127.0.0.1:9"))
    assert [span.name for span in found.spans] == ["root", "chat"]


def test_of_a_request_that_ended_long_ago_nobody_is_asked(traces_file: Path):
    class Nobody(Asking):
        def export(self) -> None:
            raise AssertionError

    assert find_trace(traces_file, "req-1", asking=Nobody("nats://127.0.0.1:9")).tree.is_whole
