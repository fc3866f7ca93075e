from hypothesis import given
from hypothesis import strategies as st

from services.core.blocks import BlockHash
from services.core.kv_events import KvEvent, KvSnapshot
from services.scheduler.fleet.kv_index import KvIndex
from worker.reports.kv_events import KvEventLog


def block(number: int) -> BlockHash:
    return number.to_bytes(16, "little")


def blocks(*numbers: int) -> tuple[BlockHash, ...]:
    return tuple(map(block, numbers))


def event(idx: int, stored: tuple[int, ...] = (), removed: tuple[int, ...] = (), epoch: int = 1):
    return KvEvent("w", epoch, idx, blocks(*stored), blocks(*removed))


def test_a_lookup_tells_how_many_leading_blocks_each_worker_holds():
    index = KvIndex()
    index.apply(KvEvent("a", 1, 1, blocks(1, 2, 3)))
    index.apply(KvEvent("b", 1, 1, blocks(1)))
    index.apply(KvEvent("c", 1, 1, blocks(2, 3)))
    assert index.match(blocks(1, 2, 9)) == {"a": 2, "b": 1}


def test_nobody_holds_an_empty_prompt():
    index = KvIndex()
    index.apply(event(1, (1,)))
    assert index.match(()) == {}


def test_a_late_event_is_taken_when_those_before_it_came():
    index = KvIndex()
    index.apply(event(2, removed=(1,)))
    assert index.gaps() == ["w"]
    index.apply(event(1, (1, 2)))
    assert index.held_by("w") == frozenset(blocks(2))
    assert index.gaps() == []


def test_a_repeated_event_changes_nothing():
    index = KvIndex()
    for late in (event(1, (1,)), event(2, removed=(1,)), event(1, (1,))):
        index.apply(late)
    assert index.held_by("w") == frozenset()


def test_the_list_closes_a_gap_and_the_events_after_it_count():
    index = KvIndex()
    index.apply(event(5, (5,)))
    index.replace(KvSnapshot("w", 1, 4, blocks(1, 2)))
    assert index.held_by("w") == frozenset(blocks(1, 2, 5))
    assert index.gaps() == []


def test_an_old_list_does_not_undo_what_is_known():
    index = KvIndex()
    index.apply(event(1, (1,)))
    index.apply(event(2, (2,)))
    index.replace(KvSnapshot("w", 1, 1, blocks(1)))
    assert index.held_by("w") == frozenset(blocks(1, 2))


def test_a_worker_that_started_again_holds_nothing_of_before():
    index = KvIndex()
    index.apply(event(1, (1,)))
    index.apply(event(1, (2,), epoch=2))
    index.apply(event(2, (3,), epoch=1))
    assert index.held_by("w") == frozenset(blocks(2))


def test_a_worker_that_left_is_not_found():
    index = KvIndex()
    index.apply(event(1, (1,)))
    index.forget("w")
    assert index.match(blocks(1)) == {}
    assert len(index) == 0


def test_memory_is_bounded_and_the_oldest_of_the_largest_goes_first():
    index = KvIndex(max_entries=3)
    index.apply(KvEvent("large", 1, 1, blocks(1, 2)))
    index.apply(KvEvent("small", 1, 1, blocks(7)))
    index.apply(KvEvent("large", 1, 2, blocks(3)))
    assert len(index) == 3
    assert index.held_by("large") == frozenset(blocks(2, 3))
    assert index.held_by("small") == frozenset(blocks(7))


changes = st.lists(st.tuples(st.booleans(), st.integers(0, 12)), max_size=4)
fates = st.sampled_from(["arrives", "is lost", "comes twice", "comes late"])


@given(st.lists(st.tuples(changes, fates), max_size=40), st.integers(0, 40))
def test_the_index_converges_to_the_truth_under_loss_repetition_and_reordering(
    history: list[tuple[list[tuple[bool, int]], str]], listed_at: int
):
    log, index = KvEventLog("w", epoch=1), KvIndex()
    late: list[KvEvent] = []
    truth: set[BlockHash] = set()
    for step, (made, fate) in enumerate(history):
        for is_stored, number in made:
            if is_stored and block(number) not in truth:
                truth.add(block(number))
                log.on_remembered(block(number))
            elif not is_stored and block(number) in truth:
                truth.remove(block(number))
                log.on_forgotten(block(number))
        if step == listed_at:
            index.replace(log.snapshot())
        news = log.take()
        if news is None:
            continue
        if fate == "comes late":
            late.append(news)
        elif fate != "is lost":
            for _ in range(2 if fate == "comes twice" else 1):
                index.apply(news)
    for news in late:
        index.apply(news)
    # The last loss is seen at the next event, whatever it says; a gap asks for the list.
    log.on_remembered(block(99))
    truth.add(block(99))
    last = log.take()
    assert last is not None
    index.apply(last)
    if index.gaps():
        index.replace(log.snapshot())
    assert index.held_by("w") == frozenset(truth)
    assert len(index) == len(truth)


def test_what_the_last_worker_let_go_of_was_offered_to_the_cache_service():
    index = KvIndex(max_entries=16)
    index.apply(event(1, stored=(1, 2, 3)))
    index.apply(event(2, removed=(2, 3)))
    assert index.num_offered(blocks(1, 2, 3, 4)) == 3
    assert index.num_offered(blocks(4, 1)) == 0
    assert index.num_offered(()) == 0
    # Their number is bounded: a quarter of what the index may hold.
    index.apply(event(3, stored=(5, 6, 7, 8)))
    index.apply(event(4, removed=(5, 6, 7, 8)))
    assert index.num_offered(blocks(2)) == 0
    assert index.num_offered(blocks(5, 6, 7, 8)) == 4
