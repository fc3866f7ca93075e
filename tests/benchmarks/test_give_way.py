from pathlib import Path

from benchmarks.give_way import giving_way


def test_a_session_gives_way_meanwhile(tmp_path: Path):
    session = tmp_path / "autogroup"
    session.write_text("/autogroup-7 nice 3\n")
    with giving_way(0, session):
        assert session.read_text() == "3"
    session.write_text("/autogroup-7 nice -5\n")
    with giving_way(0, session):
        assert session.read_text() == "0"
    assert session.read_text() == "-5"


def test_a_system_without_autogroups_is_no_error(tmp_path: Path):
    with giving_way(0, tmp_path / "missing"):
        pass
    assert not (tmp_path / "missing").exists()
