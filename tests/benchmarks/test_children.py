import sys
from pathlib import Path

import pytest

from benchmarks.children import Child, ChildFailed

ECHO = """
import json, sys
print("a library says hello")
print(json.dumps({"ready": True}), flush=True)
for line in sys.stdin:
    print(line.strip(), flush=True)
"""


def test_orders_are_answered_and_other_lines_passed_over(tmp_path: Path):
    with Child("echo", [sys.executable, "-c", ECHO], log_file=tmp_path / "log") as child:
        assert child.ready == {"ready": True}
        assert child.ask({"do": "x"}) == {"do": "x"}


def test_an_error_of_the_child_is_raised(tmp_path: Path):
    with (
        Child("echo", [sys.executable, "-c", ECHO], log_file=tmp_path / "log") as child,
        pytest.raises(ChildFailed, match="echo: no such thing"),
    ):
        child.ask({"error": "no such thing"})


def test_a_child_that_ends_before_it_is_ready_leaves_its_last_words(tmp_path: Path):
    command = [sys.executable, "-c", "import sys; sys.exit('no weights here')"]
    with pytest.raises(ChildFailed, match="no weights here"):
        Child("peer", command, log_file=tmp_path / "log")
