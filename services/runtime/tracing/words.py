"""What processes tell each other of traces: which to keep, and which are still to be had."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from contextlib import suppress

import nats
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from services.runtime.logs import get_logger
from services.runtime.tracing.keeper import TraceKeeper
from services.wire.subjects import TRACES_EXPORT, TRACES_HELD, TRACES_KEEP

log = get_logger(__name__)

MAX_UNTOLD = 1_000
ANSWER_WAIT_S = 0.3
EXPORT_AGAIN_S = 0.5
"""After an export that was asked for: people ask right after an answer, when a span is open yet."""


async def follow_trace_words(url: str, name: str, keeper: TraceKeeper) -> None:
    """Keeps and exports what others say, tells what this process judged, and answers; for ever.

    Best effort: a process that does not hear of a trace does not have its spans in it. The
    connection is one of its own, since not every process has another, and says nothing of trouble.

    Args:
        url: of the broker.
        name: of the connection.
        keeper: of this process.
    """
    while True:
        try:
            client = await nats.connect(
                url.split(","),
                name=name,
                error_cb=say_nothing,
                allow_reconnect=True,
                max_reconnect_attempts=-1,
                reconnect_time_wait=1,
            )
            async with client:
                await _follow(client, keeper)
        except (nats.errors.Error, OSError):
            await asyncio.sleep(1)


async def say_nothing(_: Exception) -> None:
    """For the client's error_cb, which else writes to stderr."""


async def _follow(client: Client, keeper: TraceKeeper) -> None:
    loop = asyncio.get_running_loop()
    untold: asyncio.Queue[int] = asyncio.Queue(MAX_UNTOLD)

    def note(trace_id: int) -> None:
        if not untold.full():
            untold.put_nowait(trace_id)

    keeper.tell = lambda trace_id: loop.call_soon_threadsafe(note, trace_id)

    async def on_keep(message: Msg) -> None:
        for trace_id in _read_ids(message.data):
            keeper.keep(trace_id)

    async def on_held(message: Msg) -> None:
        await message.respond(_held(keeper, message.data))

    asked = asyncio.Event()

    async def on_export(_: Msg) -> None:
        asked.set()

    await client.subscribe(TRACES_KEEP, cb=on_keep)
    await client.subscribe(TRACES_EXPORT, cb=on_export)
    if keeper.judges:
        await client.subscribe(TRACES_HELD, cb=on_held)
    exporting = asyncio.create_task(_export_when_asked(asked, keeper))
    try:
        while True:
            trace_id = await untold.get()
            try:
                await say_keep(client, [trace_id])
            except (nats.errors.Error, OSError) as exc:
                log.warning("trace.not_told", error=repr(exc))
    finally:
        exporting.cancel()


async def _export_when_asked(asked: asyncio.Event, keeper: TraceKeeper) -> None:
    while True:
        await asked.wait()
        # Who asks meanwhile is served by the second time, and by another round after it.
        asked.clear()
        await asyncio.to_thread(keeper.export)
        await asyncio.sleep(EXPORT_AGAIN_S)
        await asyncio.to_thread(keeper.export)


async def say_keep(client: Client, trace_ids: Sequence[int]) -> None:
    """Tells every process to keep these traces."""
    await client.publish(TRACES_KEEP, json.dumps([f"{one:032x}" for one in trace_ids]).encode())


async def say_export(client: Client) -> None:
    """Has every process export what it is about to."""
    await client.publish(TRACES_EXPORT)


async def ask_held(
    client: Client, request_id: str = "", *, is_enough: Callable[[int], bool] = lambda _: False
) -> list[list[tuple[int, int]]]:
    """Asks the gateways which requests they hold.

    Args:
        client: connection to the broker.
        request_id: only this one; it may be a trace id. Empty: all.
        is_enough: given the number of answers with something in them, whether to wait no longer.

    Returns:
        For each gateway nanoseconds and trace of each, the latest first.
    """
    found: list[list[tuple[int, int]]] = []
    enough = asyncio.Event()

    async def on_answer(message: Msg) -> None:
        found.append([(int(ns), int(trace_id, 16)) for ns, trace_id in json.loads(message.data)])
        if is_enough(sum(map(bool, found))):
            enough.set()

    inbox = client.new_inbox()
    subscription = await client.subscribe(inbox, cb=on_answer)
    await client.publish(TRACES_HELD, request_id.encode(), reply=inbox)
    with suppress(TimeoutError):
        async with asyncio.timeout(ANSWER_WAIT_S):
            await enough.wait()
    await subscription.unsubscribe()
    return found


def _held(keeper: TraceKeeper, asked: bytes) -> bytes:
    held = keeper.latencies()
    if request_id := asked.decode(errors="replace"):
        trace_id = keeper.find(request_id)
        held = [one for one in held if one[1] == trace_id or f"{one[1]:032x}" == request_id]
    return json.dumps([[ns, f"{trace_id:032x}"] for ns, trace_id in held]).encode()


def _read_ids(payload: bytes) -> list[int]:
    try:
        return [int(one, 16) for one in json.loads(payload)]
    except (ValueError, TypeError):
        log.warning("trace.word_unreadable", num_bytes=len(payload))
        return []
