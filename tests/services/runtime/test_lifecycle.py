import json
import os
import signal
import subprocess
import sys

import pytest

PROGRAM = """
from services.runtime.lifecycle import Process, run_process
from services.runtime.settings import ProcessSettings

async def main(process: Process[ProcessSettings]) -> None:
    if process.settings.instance_id == "broken":
        raise OSError("port is taken")
    await process.stop_requested.wait()

run_process("test", ProcessSettings, main)
"""


def start(**environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_exits_with_0(number: signal.Signals):
    process = start()
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["event"] == "process.started"
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 0, err
    assert "process.stopped" in out


def test_a_failure_is_logged_once_and_exits_with_1():
    process = start(TOKENMILL_INSTANCE_ID="broken")
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 1
    assert out.count("process.failed") == 1
    assert "port is taken" in out


def test_bad_settings_are_one_sentence_and_exit_with_2():
    process = start(TOKENMILL_GRPC_PORT="many")
    _, err = process.communicate(timeout=20)
    assert process.returncode == 2
    assert err.startswith("tokenmill test: TOKENMILL_GRPC_PORT is 'many'")
    assert "Traceback" not in err


def test_what_stands_at_the_start_is_not_looked_through_for_garbage_again():
    program = (
        "import gc; from services.runtime.lifecycle import spare_pauses; spare_pauses();"
        "print(len(gc.get_objects()), gc.get_freeze_count())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    num_looked_at, num_frozen = map(int, done.stdout.split())
    assert num_looked_at < num_frozen / 100
