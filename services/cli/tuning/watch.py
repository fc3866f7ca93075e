"""Looks at a cluster while a load is on it: heartbeats off the bus, CPU and memory of /proc."""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field

from nats.aio.msg import Msg

from benchmarks.tuning.bottleneck import Observation
from benchmarks.tuning.figures import Figures
from benchmarks.usage import cpu_s, machine_cpu_s, memory_mib
from services.cli.cluster.state import ClusterState
from services.core.load import WorkerHeartbeat
from services.runtime.bus import connect_bus
from services.wire.heartbeat import decode_heartbeat
from services.wire.queue import BadPayload
from services.wire.subjects import HEARTBEATS_WILDCARD


@dataclass(slots=True)
class Watch:
    """What was seen since it began.

    Args:
        state: of the cluster.
        num_places: sequences in a step of each worker.
    """

    state: ClusterState
    num_places: int
    _heard: dict[str, list[WorkerHeartbeat]] = field(
        default_factory=lambda: defaultdict(list[WorkerHeartbeat])
    )
    _began_s: float = field(default_factory=time.perf_counter)
    _machine_before: tuple[float, float] = field(default_factory=machine_cpu_s)
    _own_before_s: float = field(default_factory=time.process_time)
    _cpu_before: Mapping[str, float] = field(default_factory=dict[str, float])

    def __post_init__(self) -> None:
        self._cpu_before = self._cpu_s()

    def hear(self, payload: bytes) -> None:
        """Takes a heartbeat; one that cannot be read tells nothing."""
        with contextlib.suppress(BadPayload):
            heartbeat = decode_heartbeat(payload)
            self._heard[heartbeat.worker_id].append(heartbeat)

    def memory_mib(self) -> float:
        """Of all processes now."""
        return sum(memory_mib(p.pid) for p in self.state.processes if p.pid is not None)

    def observation(self, figures: Figures) -> Observation:
        """All that was seen, beside what the load's clients measured in the same time."""
        workers = list(self._heard.values())
        running = sum(statistics.fmean(h.load.num_running for h in heard) for heard in workers)
        # Little's law: requests under way are the sum of their times over the time.
        under_way = sum(figures.samples.get("latency", ())) / 1000 / max(1e-9, figures.seconds)
        each = [heartbeat for heard in workers for heartbeat in heard]
        held = [1 - h.load.num_free_blocks / max(1, h.load.num_blocks) for h in each]
        num_answers = max(1, len(figures.samples.get("latency", ())))
        seconds = max(1e-9, time.perf_counter() - self._began_s)
        after = self._cpu_s()
        cluster_s = {role: after[role] - self._cpu_before.get(role, 0.0) for role in after}
        used_s, idle_s = (
            now - before for now, before in zip(machine_cpu_s(), self._machine_before, strict=True)
        )
        own_s = sum(cluster_s.values()) + time.process_time() - self._own_before_s
        return Observation(
            seconds=seconds,
            output_tokens=figures.output_tokens,
            prompt_tokens=figures.prompt_tokens - figures.cached_tokens,
            num_running=running,
            num_waiting=max(0.0, under_way - running),
            num_places=self.num_places * max(1, len(workers)),
            full_share=_share(h.load.num_running >= self.num_places for h in each),
            kv_used_peak=max(held, default=0.0),
            context_tokens=(figures.prompt_tokens + figures.output_tokens / 2) / num_answers,
            cpu_s=cluster_s,
            num_cpus=os.cpu_count() or 1,
            free_cpus=idle_s / seconds,
            foreign_cpus=max(0.0, (used_s - own_s) / seconds),
            step_time=next((h.step_time for h in reversed(each) if h.step_time), None),
            num_workers=max(1, len(workers)),
        )

    def _cpu_s(self) -> dict[str, float]:
        used: dict[str, float] = defaultdict(float)
        for process in self.state.processes:
            if process.pid is not None:
                used[process.role] += cpu_s(process.pid)
        return dict(used)


@contextlib.asynccontextmanager
async def watching(state: ClusterState, num_places: int) -> AsyncIterator[Watch]:
    """Watches a cluster for the time of a block."""
    async with connect_bus(state.nats_url, name="tokenmill-tune") as bus:
        watch = Watch(state, num_places)

        async def hear(message: Msg) -> None:
            watch.hear(message.data)

        subscription = await bus.client.subscribe(HEARTBEATS_WILDCARD, cb=hear)
        await bus.client.flush()
        try:
            yield watch
        finally:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(subscription.unsubscribe(), 1.0)


def _share(each: Iterable[bool]) -> float:
    found = list(each)
    return sum(found) / len(found) if found else 0.0
