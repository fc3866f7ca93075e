"""Rules of the house that no other tool holds."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAX_LINES = 300
PROCESSES = ("gateway", "worker", "cache_service", "services/tokenizer", "services/scheduler")


def python_files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    return [ROOT / name for name in listed if (ROOT / name).exists()]


def test_no_file_is_longer_than_a_reader_can_hold():
    too_long = {
        str(path.relative_to(ROOT)): lines
        for path in python_files()
        if (lines := len(path.read_text().splitlines())) > MAX_LINES
    }
    assert not too_long


@pytest.mark.parametrize("process", PROCESSES)
def test_every_process_has_the_same_rooms(process: str):
    for room in ("main.py", "settings.py"):
        assert (ROOT / process / room).exists()


@pytest.mark.parametrize("process", [*PROCESSES, "tokenmill_client"])
def test_only_wire_speaks_protobuf_messages(process: str):
    for path in (ROOT / process).rglob("*.py"):
        for line in path.read_text().splitlines():
            if line.startswith(("import tokenmill.", "from tokenmill.")):
                assert "_pb2_grpc" in line, f"{path.relative_to(ROOT)}: {line}"


def test_status_codes_are_named_in_one_file_only():
    allowed = {"services/wire/errors.py", "services/runtime/rpc_server.py"}
    for path in python_files():
        name = str(path.relative_to(ROOT))
        if name not in allowed and not name.startswith(("tests/", "benchmarks/", "deploy/")):
            assert "StatusCode.INVALID_ARGUMENT" not in path.read_text(), name
