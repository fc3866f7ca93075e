"""Every path of the engine on the default model, in float32, against transformers.generate, token
for token."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from services.core.sampling import SamplingParams
from tests.conformance.prompts import PROMPTS
from tests.support.kernels import BUILDS, require_kernels
from tests.worker.engine.listener import FakeListener, greedy
from worker.engine.port import SequenceSpec
from worker.engine.settings import EngineSettings
from worker.engine.torch_engine import TorchEngine

pytestmark = [pytest.mark.model, pytest.mark.timeout(600)]

NUM_NEW_TOKENS = 12
# One thread: as fast as two where memory is the limit, and not slowed by a busy neighbour.
SETTINGS = EngineSettings(dtype="fp32", num_blocks=256, max_num_seqs=16, num_threads=1)


@dataclass
class Reference:
    """Prompts and what transformers.generate makes of them."""

    prompts: list[list[int]]
    answers: list[list[int]]

    def specs(self, tag: str, indices: Sequence[int]) -> list[SequenceSpec]:
        # A tenant of its own: no blocks are shared with another test, so prefill really happens.
        return [greedy(f"{tag}{i}", self.prompts[i], NUM_NEW_TOKENS, tenant=tag) for i in indices]


@pytest.fixture(scope="module")
def reference(model_dir: Path) -> Reference:
    torch.set_num_threads(1)
    tokenizer: Any = AutoTokenizer.from_pretrained(model_dir)
    model: Any = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    prompts = [tokenizer(text)["input_ids"] for text in PROMPTS]
    answers = []
    for prompt in prompts:
        out = model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=NUM_NEW_TOKENS,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
        answers.append(out[0, len(prompt) :].tolist())
    return Reference(prompts, answers)


class Rig:
    def __init__(self, model_dir: Path, settings: EngineSettings) -> None:
        self.engine, self.listener = TorchEngine(model_dir, settings), FakeListener()
        self.engine.start(self.listener)

    def answers(self, specs: Sequence[SequenceSpec]) -> list[list[int]]:
        for spec in specs:
            self.engine.submit(spec)
        self.listener.wait_finished(*(spec.seq_id for spec in specs))
        return [self.listener.token_ids(spec.seq_id) for spec in specs]


@pytest.fixture(scope="module", params=["general", "lean", *BUILDS])
def settings(request: pytest.FixtureRequest) -> EngineSettings:
    if request.param not in BUILDS:
        return replace(SETTINGS, path=request.param)
    require_kernels(request.param)
    return replace(SETTINGS, path="native", kernels=request.param)


@pytest.fixture(scope="module")
def rig(model_dir: Path, settings: EngineSettings) -> Iterator[Rig]:
    rig = Rig(model_dir, settings)
    yield rig
    rig.engine.stop()


def test_there_are_enough_prompts(reference: Reference):
    assert len(reference.prompts) >= 20
    lengths = [len(prompt) for prompt in reference.prompts]
    assert min(lengths) <= 5
    assert max(lengths) >= 90


def test_every_prompt_alone(rig: Rig, reference: Reference):
    for i, expected in enumerate(reference.answers):
        assert rig.answers(reference.specs("alone", [i])) == [expected], PROMPTS[i]


@pytest.mark.parametrize("seed", [1, 2])
def test_a_mixed_batch_of_16_in_any_order(rig: Rig, reference: Reference, seed: int):
    order = list(range(len(reference.prompts)))
    random.Random(seed).shuffle(order)
    expected = [reference.answers[i] for i in order]
    assert rig.answers(reference.specs(f"mixed{seed}-", order)) == expected
    assert max(len(r.decode_seq_ids) for r in rig.listener.reports) == 16


def test_a_prefix_hit(rig: Rig, reference: Reference):
    longest = max(range(len(reference.prompts)), key=lambda i: len(reference.prompts[i]))
    for seq_id in ("cold", "warm"):
        spec = greedy(seq_id, reference.prompts[longest], NUM_NEW_TOKENS, tenant="prefix")
        assert rig.answers([spec]) == [reference.answers[longest]]
    assert rig.listener.cached_tokens("warm") >= 64


@pytest.mark.parametrize("num_delivered", [1, 7, 11])
def test_resumption(rig: Rig, reference: Reference, num_delivered: int):
    indices = range(0, len(reference.prompts), 4)
    specs = [
        replace(spec, delivered_token_ids=tuple(reference.answers[i][:num_delivered]))
        for i, spec in zip(
            indices, reference.specs(f"resume{num_delivered}-", indices), strict=True
        )
    ]
    assert rig.answers(specs) == [reference.answers[i][num_delivered:] for i in indices]


def test_chunked_prefill_and_preemption(
    model_dir: Path, settings: EngineSettings, reference: Reference
):
    tight = replace(settings, num_blocks=8, max_num_seqs=8, max_batched_tokens=48)
    rig = Rig(model_dir, tight)
    indices = range(len(reference.prompts))
    try:
        assert rig.answers(reference.specs("tight", indices)) == reference.answers
        assert rig.listener.preempted()
    finally:
        rig.engine.stop()


def test_seeded_sampling_does_not_feel_its_mates(rig: Rig, reference: Reference):
    def specs(tag: str) -> list[SequenceSpec]:
        return [
            SequenceSpec(
                f"{tag}{i}",
                reference.prompts[i],
                SamplingParams(
                    max_tokens=NUM_NEW_TOKENS, temperature=0.9, top_p=0.95, seed=i, ignore_eos=True
                ),
                tenant=tag,
            )
            for i in range(8)
        ]

    alone = [rig.answers([spec])[0] for spec in specs("solo")]
    assert rig.answers(specs("choir")[::-1])[::-1] == alone
