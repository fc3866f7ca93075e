import json
from pathlib import Path

import pytest

from benchmarks.simulator.command import main
from benchmarks.simulator.trace import BadTrace, TraceRequest, read_trace, write_trace
from services.core.request import RequestClass

REQUESTS = [
    TraceRequest(idx * 0.25, 1500, 20, (0, 1 + idx % 5), "tenant", RequestClass.BATCH)
    for idx in range(40)
]


@pytest.fixture
def trace_path(tmp_path: Path) -> Path:
    path = tmp_path / "trace.jsonl.gz"
    write_trace(path, REQUESTS)
    return path


def test_a_trace_is_read_as_it_was_written(trace_path: Path):
    assert read_trace(trace_path) == REQUESTS


def test_a_line_that_is_no_request_is_named(tmp_path: Path):
    path = tmp_path / "bad.jsonl"
    path.write_text('{"timestamp": 0, "input_length": 5, "output_length": 1}\n{"timestamp": 1}\n')
    with pytest.raises(BadTrace, match="line 2"):
        read_trace(path)


def test_all_policies_are_compared_as_json(trace_path: Path, capsys: pytest.CaptureFixture[str]):
    main(["--trace", str(trace_path), "--workers", "2", "--policy", "all", "--json"])
    result = json.loads(capsys.readouterr().out)
    assert set(result["policies"]) >= {"random", "least-loaded", "tokenmill"}
    figures = result["policies"]["tokenmill"]
    assert set(figures["ttft_ms"]) == {"p50", "p90", "p99"}
    assert {"hit_share", "goodput_rps", "rejected"} <= set(figures)
    assert result["wall_s"] > 0


def test_a_load_is_a_share_of_what_least_loaded_carries(
    trace_path: Path, capsys: pytest.CaptureFixture[str]
):
    main(["--trace", str(trace_path), "--policy", "tokenmill", "--load", "0.5", "--json"])
    result = json.loads(capsys.readouterr().out)
    assert result["requests_per_s"] == pytest.approx(
        result["least_loaded_capacity_rps"] / 2, rel=0.01
    )


def test_a_grid_is_printed_and_drawn(
    trace_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "grid.png"
    size = ["--fleets", "1,2", "--loads", "0.5", "--policy", "least-loaded,tokenmill"]
    main(["--trace", str(trace_path), "--grid", *size, "--plot", str(out)])
    assert "2 workers, load 0.5: TTFT p90" in capsys.readouterr().out
    assert out.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "arguments",
    [["--policy", "best"], ["--loads", "0"], ["--workers", "0"], ["--trace", "absent.jsonl"]],
)
def test_a_mistake_is_one_sentence(arguments: list[str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_picture_is_drawn(trace_path: Path, tmp_path: Path):
    out = tmp_path / "out.png"
    main(["--trace", str(trace_path), "--policy", "random,tokenmill", "--plot", str(out)])
    assert out.read_bytes().startswith(b"\x89PNG")
