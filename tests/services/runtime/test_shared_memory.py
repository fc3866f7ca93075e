from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from services.core.shared_blocks import SharedName
from services.runtime.shared_memory import DATA_START, OwnedMemory, open_shared

OWN = """
import sys, time
from pathlib import Path
from services.runtime.shared_memory import OwnedMemory
memory = OwnedMemory("test", 4096, Path(sys.argv[1]))
print(memory.name.name, flush=True)
time.sleep(600)
"""


def start_owner(directory: Path) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [sys.executable, "-c", OWN, str(directory)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def stop(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_a_reader_of_this_host_sees_what_the_owner_wrote(tmp_path: Path):
    owned = OwnedMemory("test", 8192, tmp_path)
    assert owned.claim(DATA_START + 8192)
    owned.memory[DATA_START : DATA_START + 5] = b"hello"
    read = open_shared(owned.name, tmp_path)
    assert read is not None
    assert bytes(read.view[DATA_START : DATA_START + 5]) == b"hello"
    owned.close()
    assert bytes(read.view[DATA_START : DATA_START + 5]) == b"hello"
    assert open_shared(owned.name, tmp_path) is None


def test_only_its_user_may_open_it(tmp_path: Path):
    owned = OwnedMemory("test", 4096, tmp_path)
    assert os.stat(tmp_path / owned.name.name).st_mode & 0o777 == 0o600
    owned.close()


def test_a_file_of_the_same_name_and_another_nonce_is_on_another_host(tmp_path: Path):
    owned = OwnedMemory("test", 4096, tmp_path)
    assert open_shared(SharedName(owned.name.name, b"x" * 16), tmp_path) is None
    owned.close()


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/passwd", "secret", "tokenmill-test-" + "0" * 32]
)
def test_no_other_file_is_opened(tmp_path: Path, name: str):
    (tmp_path / "secret").write_bytes(b"tokenmill-shm-1\0" + b"n" * 4096)
    (tmp_path / ("tokenmill-test-" + "0" * 32)).symlink_to(tmp_path / "secret")
    assert open_shared(SharedName(name, b"n" * 16), tmp_path) is None


def test_a_file_that_is_cut_off_is_not_read(tmp_path: Path):
    owned = OwnedMemory("test", 4096, tmp_path)
    os.truncate(tmp_path / owned.name.name, 10)
    assert open_shared(owned.name, tmp_path) is None
    owned.close()


def test_where_there_is_no_room_nothing_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    small = namedtuple("small", "f_bavail f_frsize")(16, 4096)
    monkeypatch.setattr(os, "statvfs", lambda path: small)
    with pytest.raises(OSError, match="no room"):
        OwnedMemory("test", 1 << 20, tmp_path)
    assert not list(tmp_path.iterdir())


def test_pages_that_the_system_does_not_have_are_not_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    owned = OwnedMemory("test", 64 << 20, tmp_path)

    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "posix_fallocate", full)
    assert not owned.claim(owned.size_bytes)
    owned.close()


def test_what_a_killed_owner_left_is_removed_by_the_next(tmp_path: Path):
    killed, name = start_owner(tmp_path)
    assert name in os.listdir(tmp_path)
    stop(killed)
    owned = OwnedMemory("test", 4096, tmp_path)
    assert os.listdir(tmp_path) == [owned.name.name]
    owned.close()


def test_what_a_living_owner_has_stays(tmp_path: Path):
    living, name = start_owner(tmp_path)
    owned = OwnedMemory("test", 4096, tmp_path)
    assert set(os.listdir(tmp_path)) == {name, owned.name.name}
    owned.close()
    stop(living)
