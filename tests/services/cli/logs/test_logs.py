import json
from pathlib import Path

import pytest

from services.cli.failure import CommandFailed
from services.cli.logs.command import logs
from services.cli.logs.files import LogDirectory
from services.cli.logs.lines import LogLine, RequestFilter, parse_line


def json_line(second: int, event: str, **fields: str) -> str:
    stamp = f"2026-11-24T08:00:{second:02}.000000Z"
    return json.dumps({"timestamp": stamp, "event": event, "level": "info", **fields}) + "\n"


def events(lines: list[LogLine]) -> list[str]:
    return [line.event for line in lines]


def test_lines_of_all_processes_come_in_order_of_time(tmp_path: Path):
    (tmp_path / "gateway-1.log").write_text(json_line(1, "a") + json_line(3, "c"))
    (tmp_path / "worker-1.log").write_text(json_line(2, "b"))
    assert events(LogDirectory(tmp_path).read()) == ["a", "b", "c"]


def test_only_what_is_new_is_read_again_and_half_a_line_waits(tmp_path: Path):
    log = tmp_path / "cache.log"
    second = json_line(2, "b")
    log.write_text(json_line(1, "a") + second[:10])
    source = LogDirectory(tmp_path)
    assert events(source.read()) == ["a"]
    with log.open("a") as file:
        file.write(second[10:])
    assert events(source.read()) == ["b"]
    assert source.read() == []


def test_a_log_that_begins_anew_is_read_from_its_start(tmp_path: Path):
    log = tmp_path / "cache.log"
    log.write_text(json_line(1, "a") + json_line(2, "b"))
    source = LogDirectory(tmp_path)
    source.read()
    log.write_text(json_line(3, "c"))
    assert events(source.read()) == ["c"]


def test_the_brokers_lines_have_a_time_and_a_level():
    line = parse_line("[7] 2026/11/24 08:09:15.383902 [WRN] slow consumer", "nats")
    assert (line.level, line.event) == ("warning", "slow consumer")
    assert line.unix_s > 0


def test_a_line_that_says_no_time_stays_behind_the_one_before_it(tmp_path: Path):
    (tmp_path / "worker-1.log").write_text(json_line(5, "failed") + "Traceback\n")
    (tmp_path / "cache.log").write_text(json_line(1, "early"))
    assert events(LogDirectory(tmp_path).read()) == ["early", "failed", "Traceback"]


def test_a_request_is_known_by_its_id_and_then_by_its_trace():
    own = LogLine(1, "gateway-1", "info", "own", {"request_id": "req-1.a", "trace_id": "t"})
    before = LogLine(0, "tokenizer", "info", "before", {"trace_id": "t"})
    other = LogLine(2, "gateway-1", "info", "other", {"request_id": "req-2", "trace_id": "u"})
    assert events(RequestFilter("req-1").keep([before, own, other])) == ["before", "own"]


def test_what_is_printed_as_json_can_be_read_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    directory = tmp_path / "logs"
    directory.mkdir()
    (directory / "gateway-1.log").write_text(json_line(1, "a", note="[x] " + "y" * 300))
    (directory / "worker-1.log").write_text(json_line(2, "b"))
    logs(tmp_path, request_id=None, process="gateway", follow=False, as_json=True)
    (line,) = capsys.readouterr().out.splitlines()
    told = json.loads(line)
    assert (told["process"], told["event"], told["level"]) == ("gateway-1", "a", "info")
    assert told["note"] == "[x] " + "y" * 300


def test_a_directory_without_logs_is_said(tmp_path: Path):
    with pytest.raises(CommandFailed, match="no logs are kept"):
        logs(tmp_path, request_id=None, process=None, follow=False, as_json=False)
