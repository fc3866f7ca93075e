from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import pytest

from gateway.main import Gateway, build
from gateway.settings import GatewaySettings
from gateway.stores import Stores
from tests.gateway.fake_cluster import FakeCluster


@dataclass
class Served:
    """A gateway behind real sockets, in a cluster that is played."""

    gateway: Gateway
    cluster: FakeCluster
    url: str
    grpc_target: str
    tasks: asyncio.TaskGroup

    def start_worker(self) -> asyncio.Task[None]:
        return self.tasks.create_task(self.cluster.work(self.grpc_target))


@pytest.fixture
def settings() -> GatewaySettings:
    return GatewaySettings(
        http_port=0, grpc_port=0, drain_timeout_s=5, max_body_bytes=64 << 10, max_live_requests=8
    )


@pytest.fixture
async def served(settings: GatewaySettings) -> AsyncIterator[Served]:
    """Ready, without a worker."""
    cluster = FakeCluster()
    async with asyncio.TaskGroup() as tasks:
        gateway = build(
            settings,
            bus=cluster.queue,
            is_bus_connected=lambda: True,
            stores=Stores(
                *(cluster.store, cluster.access, cluster.store, cluster.store, cluster.store),
                results=cluster.results,
            ),
            tokenizer=cluster.tokenizer,
            tasks=tasks,
        )
        http_port, grpc_port = await gateway.listen()
        await gateway.catalog.load_until_known(gateway.tokenizer)
        gateway.readiness.has_queue = True
        if gateway.ring is not None:
            background_ring = tasks.create_task(gateway.ring.follow(cluster.access))
            while not gateway.ring.is_loaded:
                await asyncio.sleep(0.001)
        serving = tasks.create_task(gateway.http.serve())
        background = set(tasks._tasks)
        yield Served(
            gateway, cluster, f"http://127.0.0.1:{http_port}", f"127.0.0.1:{grpc_port}", tasks
        )
        for task in set(tasks._tasks) - background:
            task.cancel()
        if gateway.ring is not None:
            background_ring.cancel()
        gateway.http.stop()
        await serving
        await gateway.rpc.stop(0)


@pytest.fixture
async def working(served: Served) -> Served:
    """Ready, with a worker that answers the alphabet."""
    served.start_worker()
    return served


@pytest.fixture
async def client(served: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=served.url, timeout=10) as client:
        yield client
