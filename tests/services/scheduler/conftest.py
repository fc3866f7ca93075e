from collections.abc import AsyncIterator

import pytest

from tests.services.scheduler.fake_cluster import FakeCluster, fake_cluster
from tests.support.nats import NatsServer


@pytest.fixture
async def cluster(nats_server: NatsServer) -> AsyncIterator[FakeCluster]:
    async with fake_cluster(nats_server.url) as cluster:
        yield cluster
