"""A cache service and its readers on one host, as real processes, killed in the midst of it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from services.core.blocks import BlockPayload
from services.core.errors import TokenmillError
from services.runtime.checksum import crc32, is_intact
from services.runtime.rpc_client import open_channel
from services.runtime.shared_memory import SHARED_DIR
from services.wire.cache import BlockQuery
from worker.cache.client import CacheClient

pytestmark = pytest.mark.flow

LAYOUT, TENANT, SIZE = "kv1:test", "tenant", 700_000
TIMEOUT_S = 20.0

PUT_AND_SAY = """
import asyncio, sys, time
from tests.flow.test_shared_blocks import chain, client_of
async def main():
    async with client_of(int(sys.argv[1])) as client:
        print(await client.put(chain(4), timeout_s=20), flush=True)
        time.sleep(600)
asyncio.run(main())
"""


def chain(num_blocks: int) -> list[BlockPayload]:
    blocks: list[BlockPayload] = []
    parent = b""
    for idx in range(num_blocks):
        content = idx.to_bytes(4, "little") * (SIZE // 4)
        block_hash = idx.to_bytes(16, "big")
        blocks.append(BlockPayload(block_hash, parent, LAYOUT, TENANT, content, crc32(content)))
        parent = block_hash
    return blocks


@contextmanager
def running_cache(
    *wrapper: str, said: list[str] | None = None, **environment: str
) -> Iterator[tuple[subprocess.Popen[str], int]]:
    process = subprocess.Popen(
        [*wrapper, sys.executable, "-m", "cache_service.main"],
        env={**os.environ, "TOKENMILL_CAPACITY_BYTES": str(64 << 20), **environment},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if said is not None:
                said.append(line)
            if '"rpc.listening"' in line:
                break
        yield process, json.loads(line)["port"]
    finally:
        process.kill()
        process.communicate()


@asynccontextmanager
async def client_of(port: int):
    async with AsyncExitStack() as stack:
        client = CacheClient(await stack.enter_async_context(open_channel(f"127.0.0.1:{port}")))
        stack.callback(client.close)
        # Whoever has looked once knows where the service keeps its blocks.
        await client.lookup(query(1), timeout_s=TIMEOUT_S)
        yield client


def query(num_blocks: int) -> BlockQuery:
    hashes = tuple(block.block_hash for block in chain(num_blocks))
    return BlockQuery(hashes, LAYOUT, TENANT, is_offer=True)


async def read(client: CacheClient, num_blocks: int) -> list[BlockPayload]:
    found = await client.lookup(query(num_blocks), timeout_s=TIMEOUT_S)
    hashes = query(num_blocks).hashes[: found.num_blocks]
    if not hashes:
        return []
    blocks = client.get(hashes, head=hashes[0], layout=LAYOUT, timeout_s=TIMEOUT_S)
    return [block async for block in blocks]


def contents(blocks: Sequence[BlockPayload]) -> list[tuple[bytes, bytes]]:
    return [(block.block_hash, bytes(block.data)) for block in blocks]


def start_writer(port: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PUT_AND_SAY, str(port)], stdout=subprocess.PIPE, text=True
    )


def arenas() -> set[Path]:
    return set(SHARED_DIR.glob("tokenmill-*"))


async def test_blocks_lie_in_memory_that_both_see():
    with running_cache() as (_, port):
        async with client_of(port) as client:
            assert await client.put(chain(5), timeout_s=TIMEOUT_S) == 5
            blocks = await read(client, 5)
            assert contents(blocks) == contents(chain(5))
            assert all(isinstance(block.data, memoryview) for block in blocks)
            assert all(is_intact(block) and block.is_current() for block in blocks)


async def test_a_service_that_may_not_share_sends_messages():
    with running_cache(TOKENMILL_CACHE_TRANSPORT="grpc") as (_, port):
        async with client_of(port) as client:
            assert await client.put(chain(5), timeout_s=TIMEOUT_S) == 5
            blocks = await read(client, 5)
            assert contents(blocks) == contents(chain(5))
            owners = [memoryview(block.data).obj for block in blocks]
            assert all(isinstance(owner, bytes | bytearray) for owner in owners)


async def test_a_service_killed_under_its_reader_leaves_the_bytes_and_no_file_for_long():
    with running_cache() as (process, port):
        async with client_of(port) as client:
            await client.put(chain(5), timeout_s=TIMEOUT_S)
            blocks = await read(client, 5)
            process.kill()
            process.wait()
            left = arenas()
            assert all(is_intact(block) and block.is_current() for block in blocks)
            with pytest.raises(TokenmillError):
                await client.lookup(query(5), timeout_s=TIMEOUT_S)
            # The next life: found empty, filled again, and what the last one left is gone.
            with running_cache(TOKENMILL_GRPC_PORT=str(port)):
                assert await first_answer(client) == 0
                assert await client.put(chain(5), timeout_s=TIMEOUT_S) == 5
                assert contents(await read(client, 5)) == contents(chain(5))
                assert any(not path.exists() for path in left)


async def first_answer(client: CacheClient) -> int:
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            try:
                return (await client.lookup(query(5), timeout_s=TIMEOUT_S)).num_blocks
            except TokenmillError:
                await asyncio.sleep(0.05)


async def test_a_writer_that_is_killed_leaves_what_it_has_put():
    with running_cache() as (_, port):
        writer = start_writer(port)
        assert writer.stdout is not None
        assert "4\n" in writer.stdout
        staged = {path for path in arenas() if "staging" in path.name}
        writer.kill()
        writer.communicate()
        async with client_of(port) as client:
            assert contents(await read(client, 5)) == contents(chain(4))
            await client.put(chain(5), timeout_s=TIMEOUT_S)
            assert contents(await read(client, 5)) == contents(chain(5))
            assert any(not path.exists() for path in staged)


def small_shm(size_bytes: int) -> list[str]:
    """Runs what follows with a /dev/shm of its own, as a container has."""
    mount = f"mount -t tmpfs -o size={size_bytes} tmpfs {SHARED_DIR}"
    if subprocess.run(["unshare", "-m", "sh", "-c", mount], check=False).returncode:
        pytest.skip("mounting is for root")
    return ["unshare", "-m", "sh", "-c", f'{mount} && exec "$0" "$@"']


def fill_shm(pid: int, size_bytes: int) -> None:
    """Leaves a process's /dev/shm without room."""
    fill = f"head -c {size_bytes} /dev/zero > {SHARED_DIR}/other; true"
    command = ["nsenter", "-t", str(pid), "-m", "sh", "-c", fill]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)


async def test_where_shared_memory_is_too_small_blocks_go_in_messages():
    """Docker gives 64 MB."""
    said: list[str] = []
    with running_cache(*small_shm(8 << 20), said=said) as (process, port):
        async with client_of(port) as client:
            assert await client.put(chain(20), timeout_s=TIMEOUT_S) == 20
            assert contents(await read(client, 20)) == contents(chain(20))
        process.terminate()
        assert process.wait() == 0
    assert [line for line in said if "arena.unavailable" in line and "no room for" in line]


async def test_shared_memory_that_others_fill_kills_nobody():
    """A page that the system does not have would be a SIGBUS."""
    room = ["env", f"TOKENMILL_CAPACITY_BYTES={24 << 20}"]
    with running_cache(*small_shm(40 << 20), *room) as (process, port):
        fill_shm(process.pid, 40 << 20)
        async with client_of(port) as client:
            assert await client.put(chain(20), timeout_s=TIMEOUT_S) == 20
            assert contents(await read(client, 20)) == contents(chain(20))
        assert process.poll() is None
