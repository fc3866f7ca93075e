"""Phases of steps, while somebody asks."""

from __future__ import annotations

from worker.engine.step_phases import add, is_timed, phase, timed


def test_phases_add_up_only_while_somebody_asks():
    add({"attention": 5.0})
    with timed() as seconds:
        assert is_timed()
        add({"attention": 1.0, "qkv": 2.0})
        add({"attention": 0.5})
        with phase("sampling"):
            pass
    add({"attention": 5.0})
    assert not is_timed()
    assert seconds.pop("sampling") >= 0
    assert seconds == {"attention": 1.5, "qkv": 2.0}
