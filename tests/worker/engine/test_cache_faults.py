"""Whatever a cache service does, the engine says the same tokens: a real model, a lying cache."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from opentelemetry.context import Context

from services.core.blocks import BlockPayload
from services.runtime.rpc_client import open_channel
from tests.worker.engine.listener import FakeListener, greedy
from tests.worker.engine.tiny_models import VOCAB_SIZE, save_tiny_model
from tests.worker.fake_cache import FakeCache, flipped, of_another_layout, renamed, shortened
from tests.worker.rig import make_request
from worker.cache.client import CacheClient
from worker.cache.fetch import CacheFetcher, FetchTimeouts
from worker.delivery.circuit_breaker import CircuitBreaker
from worker.engine.settings import EngineSettings
from worker.engine.torch_engine import TorchEngine

SETTINGS = EngineSettings(dtype="fp32", block_size=8, num_blocks=32, num_threads=1, path="lean")
PROMPT = tuple(3 + 7 * idx % (VOCAB_SIZE - 3) for idx in range(50))
NUM_FULL_BLOCKS = 6
TENANT = "default"

Answer = tuple[list[int], int]
Computed = tuple[list[int], list[BlockPayload]]
Fault = Callable[[FakeCache], None]


def lies(lie: Callable[[BlockPayload], BlockPayload]) -> Fault:
    def apply(cache: FakeCache) -> None:
        cache.lie = lie

    return apply


def hangs_in(method: str) -> Fault:
    def apply(cache: FakeCache) -> None:
        cache.hang_in = method

    return apply


def is_empty_and_claims_all(cache: FakeCache) -> None:
    cache.blocks.clear()
    cache.claims_all = True


def is_killed(cache: FakeCache) -> None:
    cache.address = "127.0.0.1:1"


def holds_only_its_end(cache: FakeCache) -> None:
    """As after a restart that lost the beginning."""
    del cache.blocks[next(iter(cache.blocks))]


FAULTS: dict[str, Fault] = {
    "flipped bits": lies(flipped),
    "a shorter block": lies(shortened),
    "another block": lies(renamed),
    "another layout": lies(of_another_layout),
    "empty, claims all": is_empty_and_claims_all,
    "killed": is_killed,
    "beginning lost": holds_only_its_end,
    "slow to find": hangs_in("Lookup"),
}


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model("llama", tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def computed(model_dir: Path) -> Computed:
    """The answer without any cache, and the blocks that it left."""
    engine, listener = TorchEngine(model_dir, SETTINGS), FakeListener()
    engine.start(listener)
    engine.submit(greedy("a", PROMPT, 12, tenant=TENANT))
    listener.wait_finished("a")
    engine.stop()
    return listener.token_ids("a"), listener.blocks[:NUM_FULL_BLOCKS]


async def answer(model_dir: Path, blocks: list[BlockPayload], fault: Fault) -> Answer:
    """Tokens of a fresh engine beside a cache with these blocks, and how many it found."""
    engine, listener = TorchEngine(model_dir, SETTINGS), FakeListener()
    engine.start(listener)
    try:
        async with FakeCache() as cache:
            cache.keep(*blocks)
            fault(cache)
            async with open_channel(cache.address) as channel:
                timeouts = FetchTimeouts(lookup_s=0.3, get_s=2.0, per_block_s=0.0)
                client = CacheClient(channel)
                fetcher = CacheFetcher(engine, client, CircuitBreaker(), timeouts)
                request = make_request("a", "", prompt_token_ids=PROMPT, tenant=TENANT)
                await fetcher.fetch(request, Context())
        engine.submit(greedy("a", PROMPT, 12, tenant=TENANT))
        listener.wait_finished("a")
        return listener.token_ids("a"), listener.cached_tokens("a")
    finally:
        engine.stop()


async def test_blocks_of_another_worker_give_the_same_tokens(model_dir: Path, computed: Computed):
    expected, blocks = computed
    assert await answer(model_dir, blocks, lambda cache: None) == (expected, 48)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_a_fault_ends_in_a_recompute_with_the_same_tokens(
    model_dir: Path, computed: Computed, fault: Fault
):
    expected, blocks = computed
    assert await answer(model_dir, blocks, fault) == (expected, 0)


async def test_a_slow_transfer_costs_the_rest_of_it(model_dir: Path, computed: Computed):
    expected, blocks = computed
    tokens, num_found = await answer(model_dir, blocks, hangs_in("Get"))
    assert (tokens, num_found) == (expected, 8)


async def test_blocks_of_other_weights_are_of_no_use(
    model_dir: Path, computed: Computed, tmp_path_factory: pytest.TempPathFactory
):
    _, blocks = computed
    other_dir = save_tiny_model("llama", tmp_path_factory.mktemp("other"))
    config = other_dir / "config.json"
    # Weights are alike: it is the revision that tells models apart.
    config.write_text(config.read_text().replace('"rms_norm_eps": 1e-06', '"rms_norm_eps": 1e-05'))
    _, num_found = await answer(other_dir, blocks, lambda cache: None)
    assert num_found == 0
