import subprocess
import sys
from pathlib import Path

import pytest

IMPORTS_OF_HELP = """
import sys
from services.cli.main import app
heavy = {"torch", "transformers", "grpc", "httpx", "opentelemetry", "uvicorn"} & set(sys.modules)
sys.exit(f"imported: {heavy}" if heavy else 0)
"""


def tokenmill(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "services.cli.main", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=cwd,
    )


ASKED_TO_STOP = """
import os, signal
from services.cli import main
def command():
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        print("cluster stopped")
main.app = command
main.main()
"""


def test_a_command_that_is_asked_to_stop_stops_what_it_started():
    done = subprocess.run(
        [sys.executable, "-c", ASKED_TO_STOP], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.returncode) == ("cluster stopped\n", 130)


def test_start_up_imports_nothing_heavy():
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS_OF_HELP], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("arguments", [("down",), ("status",), ("ask", "hello")])
def test_without_a_cluster_a_command_says_so_in_one_line(
    tmp_path: Path, arguments: tuple[str, ...]
):
    done = tokenmill(*arguments, "--state-dir", str(tmp_path), cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("tokenmill: no cluster runs here")
    assert done.stderr.count("\n") == 1


def test_an_unknown_engine_is_refused_by_name(tmp_path: Path):
    done = tokenmill("up", "--engine", "steam", "--state-dir", str(tmp_path), cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "tokenmill: --engine is 'steam'; allowed: torch, fake\n"


def test_a_model_that_cannot_be_prepared_ends_the_start(tmp_path: Path):
    done = tokenmill("up", "--model", "/no/such/model", "--state-dir", str(tmp_path), cwd=tmp_path)
    assert done.returncode == 1
    assert "model /no/such/model could not be made ready" in done.stderr
    assert "Traceback" not in done.stderr
