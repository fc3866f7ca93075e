import asyncio

import pytest

from gateway.sessions.history import decode_session
from services.core.request import FinishReason
from tests.gateway.conftest import Served
from tests.gateway.fake_cluster import fake_worker

PATH = "/api/chat/message"


def say(client, text: str, session_id: str | None = None, **fields: object):
    headers = {} if session_id is None else {"X-Session-ID": session_id}
    body = {"message": text, "max_tokens": 3, "stream": False} | fields
    return client.post(PATH, json=body, headers=headers)


def history(served: Served, session_id: str) -> list[str]:
    value, _ = served.cluster.store.values[f"default.{session_id}"]
    return [message.content for message in decode_session(value).messages]


async def test_a_session_is_made_echoed_and_remembered(working: Served, client):
    first = await say(client, "one")
    session_id = first.headers["x-session-id"]
    second = await say(client, "two", session_id, stream=True)
    assert second.headers["x-session-id"] == session_id
    assert history(working, session_id) == ["one", "abc", "two", "abc"]
    seen = working.cluster.tokenizer.conversations[-1]
    assert [(m.role, m.content) for m in seen] == [
        ("user", "one"),
        ("assistant", "abc"),
        ("user", "two"),
    ]


async def test_a_session_that_nobody_made_begins_with_its_first_turn(working: Served, client):
    assert (await say(client, "one", "my-own")).json()["session_id"] == "my-own"


async def test_a_session_of_ours_that_has_expired_is_404_by_name(served: Served, client):
    reply = await say(client, "one", "ses-" + "0" * 24)
    assert reply.status_code == 404
    assert reply.json()["error"]["code"] == "session_not_found"
    assert reply.json()["error"]["param"] == "session_id"


@pytest.mark.parametrize("session_id", ["", "a b", "x" * 129, "a/b"])
async def test_a_bad_session_id_is_400(served: Served, client, session_id: str):
    reply = await say(client, "one", session_id)
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "X-Session-ID")


async def test_two_turns_at_once_are_a_conflict(served: Served, client):
    first = asyncio.ensure_future(say(client, "one", "s"))
    request = await served.cluster.queue.next_attempt()
    second = await say(client, "two", "s")
    assert (second.status_code, second.json()["error"]["code"]) == (409, "session_busy")
    async with fake_worker(served.grpc_target) as worker:
        await worker.attach(request.request_id, 1)
        await worker.deliver(1, 0, [0], FinishReason.STOP)
        assert (await first).json()["text"] == "a"
    assert history(served, "s") == ["one", "a"]


async def test_a_turn_that_is_cut_leaves_nothing_and_the_next_may_begin(served: Served, client):
    cut = asyncio.ensure_future(say(client, "one", "s"))
    await served.cluster.queue.next_attempt()
    cut.cancel()
    await served.cluster.queue.cancelled.get()
    async with asyncio.timeout(5):
        while decode_session(served.cluster.store.values["default.s"][0]).turn is not None:
            await asyncio.sleep(0.005)
    assert history(served, "s") == []
    again = asyncio.ensure_future(say(client, "one", "s"))
    await served.cluster.queue.next_attempt()
    again.cancel()


async def test_a_refused_turn_leaves_the_session_free(working: Served, client):
    assert (await say(client, "one", "s", temperature=9)).status_code == 400
    async with asyncio.timeout(5):
        while (await say(client, "one", "s")).status_code == 409:
            pass
    assert history(working, "s") == ["one", "abc"]


async def test_a_history_that_does_not_fit_loses_its_oldest_turns(working: Served, client):
    """The context is 256 tokens, a letter each: four turns of 63 do not fit beside an answer."""
    for turn in "abcd":
        reply = await say(client, turn * 60, "s")
        assert reply.status_code == 200
    reply = await say(client, "e" * 60, "s", max_tokens=20)
    assert reply.status_code == 200
    seen = [m.content for m in working.cluster.tokenizer.conversations[-1]]
    assert seen == ["c" * 60, "abc", "d" * 60, "abc", "e" * 60]
    assert len(history(working, "s")) == 10


@pytest.mark.parametrize("limit", ["0", "1001", "x", "-1"])
async def test_a_bad_limit_of_a_list_is_400(served: Served, client, limit: str):
    reply = await client.get(f"/api/chat/sessions?limit={limit}")
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "limit")


async def test_sessions_are_listed_in_pages(working: Served, client):
    for name in ("a", "b", "c"):
        await say(client, "hi", name)
    first = (await client.get("/api/chat/sessions?limit=2")).json()
    assert ([one["id"] for one in first["data"]], first["has_more"]) == (["a", "b"], True)
    rest = (await client.get("/api/chat/sessions?after=b")).json()
    assert ([one["id"] for one in rest["data"]], rest["has_more"]) == (["c"], False)
