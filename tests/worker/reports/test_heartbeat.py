"""Heartbeats over a real nats-server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import nats
import pytest

from services.core.load import WorkerHeartbeat, WorkerLoad, WorkerState
from services.runtime.bus import connect_bus
from services.wire.heartbeat import decode_heartbeat
from services.wire.subjects import HEARTBEATS_WILDCARD
from tests.support.nats import NatsServer
from tests.worker.conditions import until
from worker.reports.heartbeat import Heart, WorkerIdentity, worker_state
from worker.reports.load_signal import LoadSignal

LOAD = WorkerLoad(8, 1, 2, 30, 40, 32, 100)


@dataclass
class Listening:
    """What a scheduler hears, and the worker's levers."""

    heard: list[WorkerHeartbeat] = field(default_factory=list)
    states: list[WorkerState] = field(default_factory=list)
    state: WorkerState = WorkerState.READY
    signal: LoadSignal = field(default_factory=LoadSignal)


@pytest.fixture
async def listening(nats_server: NatsServer) -> AsyncIterator[Listening]:
    there = Listening()
    client = await nats.connect(nats_server.url)

    async def hear(message: nats.aio.msg.Msg) -> None:
        there.heard.append(decode_heartbeat(message.data))

    async def state_changed(state: WorkerState) -> None:
        there.states.append(state)

    await client.subscribe(HEARTBEATS_WILDCARD, cb=hear)
    await client.flush()
    async with connect_bus(nats_server.url, name="worker-1") as bus:
        heart = Heart(
            WorkerIdentity("worker-1", "127.0.0.1:5", "a-model"),
            bus,
            there.signal,
            load=lambda: LOAD,
            state=lambda: there.state,
            state_changed=state_changed,
            interval_s=0.2,
        )
        beating = asyncio.create_task(heart.run())
        await until(lambda: bool(there.heard))
        yield there
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)
    await client.close()


async def test_a_heartbeat_says_who_where_what_and_how_busy(listening: Listening) -> None:
    beat = listening.heard[0]
    assert (beat.worker_id, beat.address, beat.model) == ("worker-1", "127.0.0.1:5", "a-model")
    assert (beat.state, beat.load) == (WorkerState.READY, LOAD)


async def test_heartbeats_come_at_the_interval_with_rising_numbers(listening: Listening) -> None:
    await until(lambda: len(listening.heard) >= 3)
    indices = [beat.heartbeat_idx for beat in listening.heard]
    assert indices == sorted(set(indices))


async def test_a_change_of_load_is_said_at_once_and_many_changes_as_one(
    listening: Listening,
) -> None:
    await until(lambda: len(listening.heard) >= 2)
    num_before = len(listening.heard)
    for _ in range(50):
        listening.signal.changed()
    await until(lambda: len(listening.heard) > num_before, timeout_s=0.15)
    assert len(listening.heard) <= num_before + 2


async def test_a_new_state_reaches_health_and_schedulers(listening: Listening) -> None:
    listening.state = WorkerState.STALLED
    listening.signal.changed()
    await until(lambda: listening.heard[-1].state is WorkerState.STALLED)
    assert listening.states == [WorkerState.READY, WorkerState.STALLED]


async def test_a_broker_that_comes_back_hears_the_worker_again(
    listening: Listening, nats_server: NatsServer
) -> None:
    nats_server.restart()
    num_before = len(listening.heard)
    await until(lambda: len(listening.heard) > num_before)


@pytest.mark.parametrize(
    ("is_draining", "seconds_since_progress", "expected"),
    [
        (False, 0.0, WorkerState.READY),
        (False, 30.5, WorkerState.STALLED),
        (True, 0.0, WorkerState.DRAINING),
        (True, 30.5, WorkerState.DRAINING),
    ],
)
def test_the_state_tells_of_progress_and_drain(
    is_draining: bool, seconds_since_progress: float, expected: WorkerState
) -> None:
    state = worker_state(
        is_draining=is_draining,
        seconds_since_progress=seconds_since_progress,
        stall_after_s=30.0,
    )
    assert state is expected
