from pathlib import Path

import pytest

from services.cli.cluster.lock import hold_state_dir
from services.cli.failure import CommandFailed


def try_to_hold(state_dir: Path) -> None:
    with hold_state_dir(state_dir):
        pass


def test_a_second_cluster_in_the_same_directory_is_refused(tmp_path: Path):
    with hold_state_dir(tmp_path / "state"), pytest.raises(CommandFailed, match="runs already"):
        try_to_hold(tmp_path / "state")


def test_the_directory_is_free_again_afterwards(tmp_path: Path):
    for _ in range(2):
        with hold_state_dir(tmp_path):
            pass


def test_a_directory_that_cannot_be_made_is_said(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CommandFailed, match="cannot use state directory"):
        try_to_hold(tmp_path / "file")
