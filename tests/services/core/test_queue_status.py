from services.core.queue_status import SILENT_AFTER_S, BandStatus, QueueStatus, QueueView

BANDS = ("resume", "interactive", "standard", "batch")


def status(scheduler_id: str = "s1", *, per_s: float = 10.0, **depths: int) -> QueueStatus:
    lanes = {name.replace("_", "."): depth for name, depth in depths.items()}
    return QueueStatus("m", scheduler_id, {"interactive": BandStatus(per_s, 0)}, lanes)


def view(*statuses: QueueStatus) -> QueueView:
    there = QueueView()
    for one in statuses:
        there.hear(one, 0.0)
    return there


def wait_s(there: QueueView, lane: str = "interactive.00a", now_s: float = 0.0) -> float | None:
    return there.wait_s(lane, BANDS, now_s)


def test_nothing_is_known_while_no_scheduler_speaks():
    assert wait_s(QueueView()) is None
    assert wait_s(view(status()), now_s=SILENT_AFTER_S + 1) is None


def test_an_empty_queue_means_no_wait():
    assert wait_s(view(status())) == 0.0


def test_the_wait_is_what_is_ahead_by_the_rate_of_all_schedulers():
    both = view(status("s1", interactive_00a=39), status("s2", per_s=10.0, interactive_00a=40))
    assert wait_s(both) == 2.0


def test_urgent_bands_are_ahead_and_patient_ones_are_not():
    there = view(status(resume=10, batch_00a=500))
    assert wait_s(there) == 1.0


def test_a_flood_in_another_lane_is_ahead_only_as_far_as_lanes_take_turns():
    there = view(status(interactive_00b=20_000, interactive_00a=4))
    assert wait_s(there) == (4 + 5) / 10


def test_nothing_is_known_of_a_queue_that_does_not_move():
    assert wait_s(view(status(per_s=0.0, interactive_00a=5))) is None
