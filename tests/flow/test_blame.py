"""Each delay on purpose is found by its part, by the bench that shows it at length."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.flow

POINTS = ("tokenize", "queue", "place", "cache", "step", "write")


def test_a_delay_is_blamed_on_the_part_that_had_it(model_dir: Path):
    bench = ["bench", "explain", "--repeats", "1", "--mixed", "12", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "services.cli.main", *bench],
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert {point: one["right"] for point, one in told["slowed"].items()} == dict.fromkeys(
        POINTS, 1
    ), told["slowed"]
    assert told["mixed"]["within_2_percent"] == 12, told["mixed"]
