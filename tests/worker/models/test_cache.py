import errno
import os
import threading
from pathlib import Path

import pytest

from worker.models.cache import build_once, default_cache_dir, require_room
from worker.models.errors import ModelUnavailable


def write_answer(directory: Path) -> None:
    (directory / "answer").write_text("42", encoding="utf-8")


def test_the_environment_chooses_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("TOKENMILL_CACHE_DIR", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_cache_dir() == tmp_path / "own"
    monkeypatch.delenv("TOKENMILL_CACHE_DIR")
    assert default_cache_dir() == tmp_path / "xdg" / "tokenmill"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_cache_dir() == tmp_path / "home" / ".cache" / "tokenmill"


def test_a_built_directory_is_not_built_again(tmp_path):
    built = build_once(tmp_path / "models" / "m", write_answer)
    assert (built / "answer").read_text(encoding="utf-8") == "42"

    def must_not_run(directory: Path) -> None:
        raise AssertionError(directory)

    assert build_once(built, must_not_run) == built


def test_a_failed_build_leaves_nothing(tmp_path):
    def fail(directory: Path) -> None:
        write_answer(directory)
        raise ModelUnavailable("no")

    with pytest.raises(ModelUnavailable, match="no"):
        build_once(tmp_path / "m", fail)
    assert [path.name for path in tmp_path.iterdir()] == ["m.lock"]


def test_what_a_dead_process_left_is_swept(tmp_path):
    (tmp_path / ".m.abcdef").mkdir()
    build_once(tmp_path / "m", write_answer)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m", "m.lock"]


def test_two_at_once_build_once(tmp_path):
    target = tmp_path / "m"
    first_is_inside, second_waits = threading.Event(), threading.Event()
    builds: list[str] = []

    def slow(directory: Path) -> None:
        first_is_inside.set()
        assert second_waits.wait(10)
        builds.append("slow")

    def second() -> None:
        assert first_is_inside.wait(10)
        second_waits.set()
        build_once(target, lambda directory: builds.append("second"))

    threads = [threading.Thread(target=build_once, args=(target, slow))]
    threads.append(threading.Thread(target=second))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert builds == ["slow"]


def test_a_full_disk_is_said(tmp_path):
    def fill(directory: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(ModelUnavailable, match="disk is full"):
        build_once(tmp_path / "m", fill)


def test_too_little_room_is_said_before_it_is_used(tmp_path):
    with pytest.raises(ModelUnavailable, match="not enough disk space"):
        require_room(tmp_path, 1 << 62)


def test_a_cache_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ModelUnavailable, match="cannot write the cache"):
        build_once(tmp_path / "file" / "m", write_answer)
