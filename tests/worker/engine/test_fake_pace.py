from __future__ import annotations

from worker.engine.fake_pace import StepPace


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


def test_work_between_steps_is_part_of_their_time():
    clock = Clock()
    pace = StepPace(clock, clock.sleep)
    ends = []
    for _ in range(3):
        clock.now_s += 0.25
        pace.step(1.0)
        ends.append(clock.now_s)
    assert ends == [101.25, 102.25, 103.25]


def test_a_late_step_is_not_made_up_for():
    clock = Clock()
    pace = StepPace(clock, clock.sleep)
    pace.step(1.0)
    clock.now_s += 5.0
    pace.step(1.0)
    assert clock.now_s == 106.0
    pace.step(1.0)
    assert clock.now_s == 107.0


def test_after_a_rest_a_step_takes_its_whole_time():
    clock = Clock()
    pace = StepPace(clock, clock.sleep)
    pace.step(1.0)
    clock.now_s += 0.5
    pace.rest()
    pace.step(1.0)
    assert clock.now_s == 102.5
