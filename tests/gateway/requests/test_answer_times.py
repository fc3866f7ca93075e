from gateway.requests.answer_times import MAX_SLOW_GAPS, AnswerTimes
from services.runtime import names


def times_of(*taken_ns: int) -> AnswerTimes:
    times = AnswerTimes()
    for taken in taken_ns:
        times.add(taken - 2, taken - 1, taken)
    return times


def test_an_answer_without_tokens_has_no_stamps():
    assert AnswerTimes().attributes() == {}


def test_first_and_last_pieces_are_kept_whole():
    attributes = times_of(10, 30, 90).attributes()
    assert attributes[names.STREAM_FIRST_NS] == [8, 9, 10]
    assert attributes[names.STREAM_LAST_NS] == [88, 89, 90]


def test_only_the_slowest_gaps_are_kept_in_order_of_time():
    taken = [10]
    for number in range(MAX_SLOW_GAPS + 5):
        taken.append(taken[-1] + 10 + number)
    stamps = times_of(*taken).attributes()[names.STREAM_SLOW_GAPS_NS]
    gaps = [stamps[i + 3] - stamps[i] for i in range(0, len(stamps), 4)]
    assert gaps == list(range(15, 15 + MAX_SLOW_GAPS))
