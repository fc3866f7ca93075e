import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from services.cli.cluster.child import Child
from services.cli.cluster.events import ClusterEvent, EventKind
from services.cli.cluster.plan import ProcessSpec, Role
from services.cli.failure import CommandFailed

FAKE_CHILD = Path(__file__).with_name("fake_child.py")
WAIT_S = 30.0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class Running:
    """A child with its task, and what it said."""

    def __init__(
        self, mode: str, log_path: Path, *, grace_s: float = WAIT_S, nice: int = 0
    ) -> None:
        port = free_port()
        spec = ProcessSpec(
            name="child",
            role=Role.WORKER,
            command=(sys.executable, str(FAKE_CHILD), str(port), mode),
            http_port=port,
            grace_s=grace_s,
            nice=nice,
        )
        self.events: list[ClusterEvent] = []
        self.child = Child(spec, log_path, self.events.append, self._changed)
        self.hurry = asyncio.Event()
        self._change = asyncio.Event()

    def kinds(self) -> list[EventKind]:
        return [event.kind for event in self.events]

    async def wait_for(self, pid_other_than: int) -> None:
        """Until it is ready as another process."""
        async with asyncio.timeout(WAIT_S):
            while not self.child.state.is_ready or self.child.state.pid == pid_other_than:
                self._change.clear()
                await self._change.wait()

    def _changed(self) -> None:
        self._change.set()


@asynccontextmanager
async def running(
    mode: str, tmp_path: Path, *, grace_s: float = WAIT_S, nice: int = 0
) -> AsyncIterator[Running]:
    one = Running(mode, tmp_path / "child.log", grace_s=grace_s, nice=nice)
    task = asyncio.create_task(one.child.keep())
    try:
        yield one
    finally:
        await one.child.stop(one.hurry)
        await task


async def test_a_child_that_dies_is_said_and_started_again_on_the_same_port(tmp_path: Path):
    async with running("obedient", tmp_path) as one:
        await one.child.wait_ready(WAIT_S)
        before = one.child.state
        assert before.pid is not None
        os.kill(before.pid, signal.SIGKILL)
        await one.wait_for(before.pid)
        after = one.child.state
        assert after.num_restarts == 1
        assert after.http_port == before.http_port
        assert one.kinds() == [
            EventKind.PROCESS_READY,
            EventKind.PROCESS_DIED,
            EventKind.PROCESS_READY,
        ]
        assert one.events[1].detail == "killed by SIGKILL"


async def test_a_child_that_cannot_start_is_given_up_with_its_last_words(tmp_path: Path):
    async with running("broken", tmp_path) as one:
        with pytest.raises(CommandFailed, match=r"exit status 1.*\n.*never meant to work"):
            await one.child.wait_ready(WAIT_S)


async def test_a_stubborn_child_is_killed_after_its_grace_time(tmp_path: Path):
    async with running("stubborn", tmp_path, grace_s=0.2) as one:
        await one.child.wait_ready(WAIT_S)
    assert one.kinds()[-1] is EventKind.PROCESS_KILLED


async def test_hurry_kills_without_waiting_for_the_grace_time(tmp_path: Path):
    async with running("stubborn", tmp_path) as one:
        await one.child.wait_ready(WAIT_S)
        one.hurry.set()
    assert one.kinds()[-1] is EventKind.PROCESS_KILLED


async def test_a_child_runs_at_its_own_priority_in_its_own_group(tmp_path: Path):
    async with running("obedient", tmp_path, nice=5) as one:
        await one.child.wait_ready(WAIT_S)
        pid = one.child.state.pid
        assert pid is not None
        assert os.getpriority(os.PRIO_PROCESS, pid) == os.getpriority(os.PRIO_PROCESS, 0) + 5
        assert os.getpgid(pid) == pid
        assert os.getsid(pid) == os.getsid(0)
