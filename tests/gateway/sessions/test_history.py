import pytest

from gateway.sessions.history import (
    OpenTurn,
    StoredSession,
    check_session_id,
    close_turn,
    conversation,
    decode_session,
    encode_session,
    open_turn,
)
from services.core.errors import Conflict, InvalidRequest
from services.core.request import ChatMessage

HELLO = (ChatMessage("user", "hello"),)


def test_a_closed_turn_is_history():
    session = close_turn(StoredSession(), HELLO, "hi")
    assert conversation(session, (ChatMessage("user", "more"),)) == (
        ChatMessage("user", "hello"),
        ChatMessage("assistant", "hi"),
        ChatMessage("user", "more"),
    )


def test_stored_bytes_come_back():
    session = StoredSession(close_turn(StoredSession(), HELLO, "hü").messages, OpenTurn("r", 5))
    assert decode_session(encode_session(session, max_bytes=1000)) == session


def test_a_second_turn_at_once_is_a_conflict():
    session = open_turn(StoredSession(), HELLO, OpenTurn("r1", 100), now_unix_ms=0)
    with pytest.raises(Conflict, match="r1"):
        open_turn(session, HELLO, OpenTurn("r2", 200), now_unix_ms=50)


def test_a_turn_past_its_deadline_is_taken_over():
    session = open_turn(StoredSession(), HELLO, OpenTurn("r1", 100), now_unix_ms=0)
    taken = open_turn(session, HELLO, OpenTurn("r2", 200), now_unix_ms=101)
    assert taken.turn == OpenTurn("r2", 200)


def test_only_the_first_turn_may_bring_a_system_message():
    session = close_turn(StoredSession(), HELLO, "hi")
    with pytest.raises(InvalidRequest):
        open_turn(session, (ChatMessage("system", "x"),), OpenTurn("r", 1), now_unix_ms=0)


def test_a_session_that_is_too_long_names_the_limit():
    with pytest.raises(InvalidRequest, match="limit is 10 bytes"):
        encode_session(close_turn(StoredSession(), HELLO, "hi"), max_bytes=10)


@pytest.mark.parametrize("session_id", ["", "a b", "x" * 129, "../x", "a\x00"])
def test_unsafe_session_ids_are_refused(session_id: str):
    with pytest.raises(InvalidRequest):
        check_session_id(session_id, field="X-Session-ID")
