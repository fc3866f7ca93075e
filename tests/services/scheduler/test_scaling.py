from services.scheduler.scaling import FleetLoad, desired_workers


def wanted(**load: float) -> int:
    fields = {
        "num_workers": 2,
        "num_places": 16,
        "num_running": 0,
        "num_waiting": 0,
        "num_per_s": 0,
    }
    return desired_workers(FleetLoad(**fields | load))  # type: ignore[arg-type]


def test_an_idle_fleet_shrinks_to_one():
    assert wanted() == 1


def test_what_runs_keeps_some_places_free():
    assert wanted(num_running=12) == 2
    assert wanted(num_running=13) == 3


def test_what_waits_is_to_be_on_a_worker_soon():
    assert wanted(num_running=16, num_waiting=200, num_per_s=8.0) == 10


def test_a_queue_that_does_not_move_asks_for_places():
    assert wanted(num_waiting=33) == 5


def test_without_workers_the_first_is_wanted():
    assert wanted(num_workers=0, num_places=0, num_waiting=100) == 1
