"""The engine on a GPU: the same answers however requests meet, and those of transformers."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from services.core.sampling import SamplingParams
from tests.conformance.prompts import PROMPTS
from tests.worker.engine.listener import FakeListener
from worker.engine.cuda.runner import CudaRunner
from worker.engine.engine_loop import LoopEngine
from worker.engine.port import SequenceSpec
from worker.engine.settings import EngineSettings

pytestmark = [pytest.mark.gpu, pytest.mark.model]

SETTINGS = EngineSettings(dtype="bf16", device="cuda", block_size=256, num_blocks=128)
NUM_TOKENS = 48


def specs_of(model_dir: Path) -> list[SequenceSpec]:
    """Greedy and seeded requests in turn."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    return [
        SequenceSpec(
            f"s{idx}",
            tokenizer.encode(prompt),
            SamplingParams(
                max_tokens=NUM_TOKENS, temperature=0.8 * (idx % 2), seed=idx, ignore_eos=True
            ),
            tenant=str(idx),
        )
        for idx, prompt in enumerate(PROMPTS)
    ]


def answers(
    runner: CudaRunner, settings: EngineSettings, specs: Sequence[SequenceSpec]
) -> dict[str, list[int]]:
    engine, listener = LoopEngine(runner, settings), FakeListener()
    for spec in specs:
        engine.submit(spec)
    engine.start(listener)
    try:
        listener.wait_finished(*(spec.seq_id for spec in specs))
        return {spec.seq_id: listener.token_ids(spec.seq_id) for spec in specs}
    finally:
        engine.stop()


@pytest.fixture(scope="module")
def runner(model_dir: Path) -> CudaRunner:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return CudaRunner(model_dir, SETTINGS, torch.device("cuda"))


def test_company_order_chunks_and_graphs_change_no_token(runner: CudaRunner, model_dir: Path):
    specs = specs_of(model_dir)
    alone = {spec.seq_id: answers(runner, SETTINGS, [spec])[spec.seq_id] for spec in specs}
    for seed in range(5):
        shuffled = random.Random(seed).sample(specs, len(specs))
        assert answers(runner, SETTINGS, shuffled) == alone
    # Never more than 16 tokens a step: prompts come in other chunks, batches in other sizes.
    small = replace(SETTINGS, max_batched_tokens=16, max_num_seqs=5)
    assert answers(runner, small, specs) == alone


def test_greedy_answers_agree_with_transformers(runner: CudaRunner, model_dir: Path):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32).to("cuda")
    specs = [spec for spec in specs_of(model_dir) if spec.sampling.temperature == 0]
    found = answers(runner, SETTINGS, specs)
    for spec in specs:
        ids = torch.tensor([[*spec.prompt_token_ids, *found[spec.seq_id]]], device="cuda")
        with torch.inference_mode():
            logits = model(ids).logits[0, len(spec.prompt_token_ids) - 1 : -1]
        chosen = logits.gather(1, ids[0, len(spec.prompt_token_ids) :, None])[:, 0]
        # bf16 may choose another of two near-equal tokens, never one that float32 finds unlikely.
        assert (logits.amax(dim=-1) - chosen).max() < 0.5
