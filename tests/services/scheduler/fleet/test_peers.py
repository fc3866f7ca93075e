from services.scheduler.fleet.peers import LOST_AFTER_S, Peers

WORKERS = [f"worker-{idx}" for idx in range(8)]


def test_one_alone_looks_after_all():
    peers = Peers("a")
    assert peers.foreign(WORKERS) == set()
    peers.hear("a", 0.0)
    assert peers.foreign(WORKERS) == set()


def test_every_worker_is_looked_after_by_exactly_one():
    everyone = [Peers(name) for name in "abc"]
    for peers in everyone:
        for name in "cab":
            peers.hear(name, 0.0)
    own = [set(WORKERS) - peers.foreign(WORKERS) for peers in everyone]
    assert sorted(worker_id for part in own for worker_id in part) == WORKERS
    assert [len(part) for part in own] == [3, 3, 2]


def test_the_part_of_a_lost_scheduler_is_taken_over():
    peers = Peers("a")
    peers.hear("b", 0.0)
    assert peers.foreign(WORKERS)
    peers.hear("a", 1.1 * LOST_AFTER_S)
    assert peers.foreign(WORKERS) == set()
