"""A request's tokens, and the bits of their logits, depend on nothing but the request: the default
model in bfloat16 on each build of the native kernels, 64 requests in 20 orders, on four different
engines."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from services.core.logprobs import TokenLogprobs
from services.core.sampling import SamplingParams
from tests.conformance.prompts import PROMPTS
from tests.support.kernels import BUILDS, require_kernels
from tests.worker.engine.listener import FakeListener
from worker.engine.port import SequenceSpec
from worker.engine.settings import EngineSettings
from worker.engine.torch_engine import TorchEngine

pytestmark = [pytest.mark.model, pytest.mark.timeout(600)]

NUM_REQUESTS = 64
NUM_NEW_TOKENS = 4
MAX_PROMPT_TOKENS = 20

WIDE = EngineSettings(path="native", dtype="bf16", num_blocks=256, num_threads=1, itl_target_ms=0)
ENGINES = {
    "wide": (WIDE, 8),
    "two threads": (replace(WIDE, num_threads=2), 6),
    "small chunks": (replace(WIDE, max_num_seqs=11, max_batched_tokens=13), 3),
    # 8 sequences, of which some grow into a second block: some are preempted and computed again.
    "few blocks": (replace(WIDE, num_threads=2, max_num_seqs=8, num_blocks=8), 3),
}
"""Settings, and how many orders: 20 in all."""


@dataclass(frozen=True)
class Answer:
    """Token ids, and each one's log-probability with those of the three likeliest: floats that
    differ if any of the row's logits does, near enough."""

    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprobs, ...]


@pytest.fixture(scope="module")
def prompts(model_dir: Path) -> list[tuple[int, ...]]:
    tokenizer: Any = AutoTokenizer.from_pretrained(model_dir)
    return [tuple(tokenizer(text)["input_ids"][:MAX_PROMPT_TOKENS]) for text in PROMPTS]


@pytest.fixture(scope="module", params=BUILDS)
def kernels(request: pytest.FixtureRequest) -> str:
    """A build of the kernels, by name: each has bits of its own."""
    require_kernels(request.param)
    return request.param


@pytest.fixture(scope="module")
def alone(model_dir: Path, prompts: list[tuple[int, ...]], kernels: str) -> list[Answer]:
    """Each request's answer with no other in the engine, and none of its blocks there before."""
    with Answering(model_dir, replace(WIDE, kernels=kernels)) as answers_of:
        return [answers_of([spec])[0] for spec in requests(prompts, "alone", own_tenants=True)]


@pytest.mark.parametrize("name", ENGINES)
def test_no_order_and_no_engine_changes_a_bit(
    model_dir: Path, prompts: list[tuple[int, ...]], alone: list[Answer], kernels: str, name: str
):
    settings, num_orders = ENGINES[name]
    with Answering(model_dir, replace(settings, kernels=kernels)) as answers_of:
        for number in range(num_orders):
            order = list(range(NUM_REQUESTS))
            random.Random(f"{name}{number}").shuffle(order)
            # Every second order finds the blocks that the one before it left.
            specs = requests(prompts, f"order {number} ", tenant=f"pair {number // 2}")
            answers = answers_of([specs[i] for i in order])
            assert answers == [alone[i] for i in order]
        if name == "few blocks":
            assert answers_of.listener.preempted()


def requests(
    prompts: Sequence[tuple[int, ...]], tag: str, *, tenant: str = "", own_tenants: bool = False
) -> list[SequenceSpec]:
    """Half greedy, half seeded; some with penalties; a third nearly fill a block and outgrow it."""
    specs: list[SequenceSpec] = []
    for i in range(NUM_REQUESTS):
        sampling = SamplingParams(
            max_tokens=NUM_NEW_TOKENS * (3 if i % 3 == 0 else 1),
            temperature=0.0 if i % 2 else 0.9,
            top_p=1.0 if i % 3 else 0.9,
            frequency_penalty=0.5 if i % 5 == 0 else 0.0,
            seed=i,
            ignore_eos=True,
            logprobs=3,
        )
        whose = f"{tag}{i}" if own_tenants else tenant
        prompt = prompts[i % len(prompts)]
        if i % 3 == 0:
            prompt = (prompt * 32)[: 24 + i % 9]
        specs.append(SequenceSpec(f"{tag}{i}", prompt, sampling, tenant=whose))
    return specs


class Answering:
    """An engine for the time of a with statement: called with requests, it answers all at once."""

    def __init__(self, model_dir: Path, settings: EngineSettings) -> None:
        self._engine = TorchEngine(model_dir, settings)
        self.listener = FakeListener()

    def __enter__(self) -> Answering:
        self._engine.start(self.listener)
        return self

    def __exit__(self, *_: object) -> None:
        self._engine.stop()

    def __call__(self, specs: Sequence[SequenceSpec]) -> list[Answer]:
        for spec in specs:
            self._engine.submit(spec)
        self.listener.wait_finished(*(spec.seq_id for spec in specs))
        return [self._answer(spec.seq_id) for spec in specs]

    def _answer(self, seq_id: str) -> Answer:
        outputs = self.listener.outputs(seq_id)
        return Answer(
            tuple(token_id for output in outputs for token_id in output.token_ids),
            tuple(entry for output in outputs for entry in output.logprobs),
        )
