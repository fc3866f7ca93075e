import pytest

from services.cli.cluster.events import ClusterEvent, EventKind, decode_event, encode_event


def test_an_event_survives_the_pipe():
    event = ClusterEvent(EventKind.PROCESS_DIED, "worker-1", 0.4, "exit status 1")
    assert decode_event(encode_event(event)) == event


@pytest.mark.parametrize("line", ["", "hello", "[]", "3", '{"kind": "no"}', '{"name": "x"}'])
def test_any_other_line_is_no_event(line: str):
    assert decode_event(line) is None
