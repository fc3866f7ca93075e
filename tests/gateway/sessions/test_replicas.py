"""One session at two gateways: over a real bucket, each with a connection of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from gateway.ask import Ask, ChatPrompt
from gateway.sessions.bucket import SessionBucket
from gateway.sessions.sessions import Sessions, Turn
from services.core.caller import Caller
from services.core.errors import Conflict, InvalidRequest, NotFound
from services.core.request import ChatMessage
from services.runtime.bus import connect_bus
from tests.support.nats import NatsServer

TENANT = "default"


@pytest.fixture
async def replicas(nats_server: NatsServer) -> AsyncIterator[tuple[Sessions, Sessions]]:
    async with (
        connect_bus(nats_server.url, name="one") as one,
        connect_bus(nats_server.url, name="other") as other,
        asyncio.TaskGroup() as tasks,
    ):
        first, second = (
            Sessions(SessionBucket(bus, ttl_s=60, num_replicas=1), tasks, max_session_bytes=1024)
            for bus in (one, other)
        )
        yield first, second


async def begin(sessions: Sessions, said: str, *, tenant: str = TENANT) -> Turn:
    prompt = ChatPrompt((ChatMessage("user", said),))
    deadline = int(time.time() * 1000) + 30_000
    ask = Ask(f"req-{said}", prompt, deadline, session_id="s", caller=Caller(tenant))
    return await sessions.begin(ask, prompt)


async def history(sessions: Sessions, tenant: str = TENANT) -> list[str]:
    return [message.content for message in (await sessions.read(tenant, "s")).messages]


async def test_a_turn_goes_on_at_another_gateway(replicas: tuple[Sessions, Sessions]):
    one, other = replicas
    await (await begin(one, "hello")).commit("hi")
    turn = await begin(other, "again")
    assert [message.content for message in turn.prompt.messages] == ["hello", "hi", "again"]
    await turn.commit("yes")
    assert await history(one) == ["hello", "hi", "again", "yes"]


async def test_of_two_turns_at_once_one_is_told_to_wait(replicas: tuple[Sessions, Sessions]):
    results = await asyncio.gather(
        *(begin(sessions, f"{idx}") for idx, sessions in enumerate(replicas * 4)),
        return_exceptions=True,
    )
    turns = [result for result in results if isinstance(result, Turn)]
    assert len(turns) == 1
    assert sum(isinstance(result, Conflict) for result in results) == 7
    await turns[0].commit("mine")
    said, answer = await history(replicas[1])
    assert (said in "01234567", answer) == (True, "mine")


async def test_a_session_that_was_deleted_meanwhile_stays_deleted(
    replicas: tuple[Sessions, Sessions],
):
    one, other = replicas
    turn = await begin(one, "hello")
    await other.delete(TENANT, "s")
    with pytest.raises(Conflict):
        await turn.commit("late")
    with pytest.raises(NotFound):
        await other.read(TENANT, "s")


async def test_tenants_share_no_session_of_one_name(replicas: tuple[Sessions, Sessions]):
    one, other = replicas
    await (await begin(one, "secret")).commit("of a")
    await (await begin(other, "hello", tenant="b")).commit("of b")
    assert await history(one, "b") == ["hello", "of b"]
    assert await one.ids_of("b") == ["s"]
    await other.delete("b", "s")
    assert await history(other) == ["secret", "of a"]


async def test_a_turn_beyond_the_size_limit_is_refused_before_it_is_answered(
    replicas: tuple[Sessions, Sessions],
):
    with pytest.raises(InvalidRequest, match="limit is 1024 bytes"):
        await begin(replicas[0], "x" * 2000)
