from services.core.request import RequestClass
from services.scheduler.fleet.kv_index import KvIndex
from services.scheduler.placement import Candidate
from services.scheduler.policies.tokenmill import MAX_SCORES, TokenmillPolicy
from services.scheduler.wait_book import Wait, WaitBook
from tests.services.scheduler.requests import CLASSES, held


def test_who_went_before_is_told_apart_by_class_and_by_turn():
    book = WaitBook()
    urgent, equal, own = held("urgent"), held("equal"), held("own")
    low = held("low", request_class=CLASSES[-1])
    assert low.request.request_class is not RequestClass.INTERACTIVE
    book.round([urgent, equal, own, low], [urgent, equal], has_room=True, now_s=0.0)
    waits = book.round([own, low], [own, low], has_room=True, now_s=1.0)
    assert waits[own.key] == Wait(num_before_by_class=0, num_before_by_turn=2)
    assert waits[low.key] == Wait(num_before_by_class=2, num_before_by_turn=0)


def test_time_without_room_counts_from_the_first_round_that_knew_of_it():
    book = WaitBook()
    early, late = held("early"), held("late")
    book.round([early], [], has_room=False, now_s=0.0)
    book.round([early, late], [], has_room=False, now_s=2.0)
    waits = book.round([early, late], [early, late], has_room=True, now_s=3.0)
    assert (waits[early.key].no_room_s, waits[late.key].no_room_s) == (3.0, 1.0)


def test_what_waits_no_more_is_forgotten():
    book = WaitBook()
    one = held("one")
    book.round([one], [], has_room=False, now_s=0.0)
    book.round([], [], has_room=True, now_s=1.0)
    assert book.round([one], [one], has_room=True, now_s=2.0)[one.key] == Wait()


def test_scores_are_told_of_a_small_fleet_and_the_winner_has_the_least():
    def fleet(num_workers: int) -> list[Candidate]:
        return [Candidate(f"w{idx}", 8, idx, 100 * idx, 0) for idx in range(num_workers)]

    placement = TokenmillPolicy(KvIndex(100)).choose(held("a"), fleet(3), 0.0)
    assert placement is not None
    costs = {score.worker_id: score.cost_s for score in placement.scores}
    assert placement.candidate.worker_id == min(costs, key=lambda name: costs[name])
    assert len(costs) == 3
    placement = TokenmillPolicy(KvIndex(100)).choose(held("a"), fleet(MAX_SCORES + 1), 0.0)
    assert placement is not None
    assert not placement.scores
