"""From a real engine's pool to a real cache service and into another engine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path

import pytest
from tokenmill.v1.cache_pb2_grpc import add_CacheServiceServicer_to_server

from cache_service.block_store import BlockStore
from cache_service.policies.choice import PolicyChoice, PolicyName, PolicySettings
from cache_service.policies.simple import LruPolicy
from cache_service.servicer import CacheServicer, ServiceLimits
from cache_service.store_rules import StoreLimits
from cache_service.tiers import TieredStore
from services.core.blocks import BlockPayload, block_hashes, chain_root
from services.runtime.rpc_client import open_channel
from services.runtime.rpc_server import RpcServer
from tests.worker.conditions import until
from tests.worker.engine.listener import FakeListener, greedy
from tests.worker.engine.tiny_models import VOCAB_SIZE, save_tiny_model
from worker.cache.client import CacheClient
from worker.cache.offer import CacheOffers
from worker.delivery.circuit_breaker import CircuitBreaker
from worker.engine.port import SequenceOutput, SequenceSpec
from worker.engine.settings import EngineSettings
from worker.engine.torch_engine import TorchEngine
from worker.engine_bridge import EngineBridge, StepNews

SETTINGS = EngineSettings(
    dtype="bf16", path="lean", block_size=8, num_blocks=16, max_num_seqs=4, num_threads=1
)


def prompt_of(num_tokens: int, first: int = 3) -> tuple[int, ...]:
    return tuple(3 + (first + 7 * idx) % (VOCAB_SIZE - 3) for idx in range(num_tokens))


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model("llama", tmp_path_factory.mktemp("model"))


@dataclass
class Setting:
    """A real engine that offers its blocks to a real store, and what it told."""

    engine: TorchEngine
    store: BlockStore
    offers: CacheOffers
    breaker: CircuitBreaker
    outputs: list[SequenceOutput] = field(default_factory=list)
    preempted: set[str] = field(default_factory=set)

    def hear(self, news: StepNews) -> None:
        for blocks in news.full_blocks:
            self.offers.add(blocks, None)
        self.outputs += news.report.outputs
        self.preempted |= set(news.report.preempted_seq_ids)

    async def run(self, *specs: SequenceSpec) -> None:
        """Until all have ended and what they left was offered."""
        for spec in specs:
            self.engine.submit(spec)
        names = {spec.seq_id for spec in specs}
        await until(
            lambda: names <= {output.seq_id for output in self.outputs if output.finish_reason}
        )
        await self.offers.flush(5)

    def tokens(self, seq_id: str) -> list[int]:
        return [token for o in self.outputs if o.seq_id == seq_id for token in o.token_ids]

    def kept(self, token_ids: Sequence[int]) -> list[BlockPayload]:
        """Leading full blocks of these tokens that are in the store."""
        layout = self.engine.layout
        root = chain_root(
            model_revision=self.engine.model_revision, layout=layout.text(), adapter="", tenant=""
        )
        found = (
            self.store.get(block_hash, layout.text())
            for block_hash in block_hashes(root, token_ids, layout.block_size)
        )
        return [block for block in takewhile(lambda block: block is not None, found) if block]


@asynccontextmanager
async def running(model_dir: Path, num_blocks: int = 16) -> AsyncIterator[Setting]:
    store = BlockStore(StoreLimits(8 << 20), LruPolicy, time.monotonic)
    server = RpcServer()
    servicer = CacheServicer(
        TieredStore(store),
        ServiceLimits(64, 1 << 20, max_concurrent_puts=2, put_idle_timeout_s=5.0),
        PolicyChoice(PolicyName.LRU, PolicySettings()),
    )
    server.add(add_CacheServiceServicer_to_server, servicer, "tokenmill.v1.CacheService")
    port = await server.start("127.0.0.1", 0)
    engine, breaker = (
        TorchEngine(model_dir, replace(SETTINGS, num_blocks=num_blocks)),
        CircuitBreaker(),
    )
    async with open_channel(f"127.0.0.1:{port}") as channel:
        offers = CacheOffers(
            CacheClient(channel),
            breaker,
            max_bytes=1 << 20,
            lookup_timeout_s=5.0,
            put_timeout_s=5.0,
        )
        setting = Setting(engine, store, offers, breaker)
        engine.start(EngineBridge(asyncio.get_running_loop(), setting.hear, offers.has_room))
        running = asyncio.create_task(offers.run())
        yield setting
        engine.stop()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    await server.stop(0)


def answer_elsewhere(
    model_dir: Path, prompt: Sequence[int], blocks: Sequence[BlockPayload]
) -> tuple[list[int], int]:
    """What another engine says when it is given these blocks, and how much it found."""
    engine, listener = TorchEngine(model_dir, SETTINGS), FakeListener()
    engine.start(listener)
    engine.import_blocks(blocks)
    engine.submit(greedy("elsewhere", prompt, 6))
    listener.wait_finished("elsewhere")
    engine.stop()
    return listener.token_ids("elsewhere"), listener.cached_tokens("elsewhere")


async def test_what_a_finished_sequence_left_serves_another_engine(model_dir: Path) -> None:
    prompt = prompt_of(50)
    async with running(model_dir) as setting:
        await setting.run(greedy("a", prompt, 6))
        blocks = setting.kept(prompt)
        assert len(blocks) == 6
        assert answer_elsewhere(model_dir, prompt, blocks) == (setting.tokens("a"), 48)


async def test_what_was_preempted_and_evicted_is_kept_too(model_dir: Path) -> None:
    prompts = {f"s{idx}": prompt_of(20, first=idx) for idx in range(3)}
    async with running(model_dir, num_blocks=8) as setting:
        await setting.run(*(greedy(seq_id, prompt, 30) for seq_id, prompt in prompts.items()))
        assert setting.preempted
        for seq_id, prompt in prompts.items():
            # The last token has no K/V.
            tokens = [*prompt, *setting.tokens(seq_id)][:-1]
            assert len(setting.kept(tokens)) == len(tokens) // SETTINGS.block_size
        assert setting.offers.num_dropped == 0


async def test_blocks_dropped_at_the_end_go_out_when_the_pool_evicts_them(model_dir: Path) -> None:
    prompt = prompt_of(50)
    async with running(model_dir) as setting:
        for _ in range(3):
            setting.breaker.failed()
        await setting.run(greedy("a", prompt, 6))
        assert not setting.kept(prompt)
        setting.breaker.succeeded()
        # Takes every block of the pool.
        await setting.run(greedy("b", prompt_of(124, first=5), 4))
        blocks = setting.kept(prompt)
        assert len(blocks) == 6
        assert answer_elsewhere(model_dir, prompt, blocks) == (setting.tokens("a"), 48)


async def test_a_repeated_prompt_is_not_put_again(model_dir: Path) -> None:
    prompt = prompt_of(50)
    async with running(model_dir) as setting:
        await setting.run(greedy("a", prompt, 6))
        num_puts = setting.store.counters.num_puts
        # Evicted, computed again, and there already.
        await setting.run(greedy("b", prompt_of(124, first=5), 4))
        await setting.run(greedy("c", prompt, 6))
        assert setting.tokens("c") == setting.tokens("a")
        assert setting.store.counters.num_puts == num_puts + 15
