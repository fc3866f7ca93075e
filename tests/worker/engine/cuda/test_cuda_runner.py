"""The runner for GPUs on the CPU, with the reference attention: all but kernels and graphs."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.worker.engine.listener import FakeListener, greedy
from tests.worker.engine.tiny_models import VOCAB_SIZE, generate
from worker.engine.cuda import runner as runner_module
from worker.engine.cuda.attention import check_served, reference_attention
from worker.engine.cuda.runner import CudaRunner
from worker.engine.engine_loop import LoopEngine
from worker.engine.lean.config import NotLean
from worker.engine.port import SequenceSpec
from worker.engine.settings import EngineSettings

SETTINGS = EngineSettings(
    dtype="fp32", block_size=8, num_blocks=64, max_batched_tokens=48, max_num_seqs=8, num_threads=1
)

ModelDir = Callable[[str], Path]


def prompt(num_tokens: int) -> list[int]:
    source = random.Random(num_tokens)
    return [source.randrange(3, VOCAB_SIZE) for _ in range(num_tokens)]


def answers(
    model_dir: Path, settings: EngineSettings, specs: Sequence[SequenceSpec]
) -> dict[str, list[int]]:
    runner = CudaRunner(model_dir, settings, torch.device("cpu"), reference_attention)
    engine, listener = LoopEngine(runner, settings), FakeListener()
    for spec in specs:
        engine.submit(spec)
    engine.start(listener)
    try:
        listener.wait_finished(*(spec.seq_id for spec in specs))
        return {spec.seq_id: listener.token_ids(spec.seq_id) for spec in specs}
    finally:
        engine.stop()


@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3", "gemma3"])
def test_greedy_equals_generate_alone_and_in_company(name: str, tiny_model_dir: ModelDir):
    model_dir = tiny_model_dir(name)
    # Longer than a step, shorter than one, and as long as blocks are.
    prompts = {f"seq-{n}": prompt(n) for n in (3, 8, 17, 70)}
    specs = [greedy(seq_id, ids, 20) for seq_id, ids in prompts.items()]
    together = answers(model_dir, SETTINGS, specs)
    model = AutoModelForCausalLM.from_pretrained(model_dir, attn_implementation="eager")
    for seq_id, ids in prompts.items():
        assert together[seq_id] == generate(model, ids, 20)
    assert answers(model_dir, SETTINGS, specs[:1])["seq-3"] == together["seq-3"]


def test_preempted_sequences_say_the_same(tiny_model_dir: ModelDir):
    model_dir = tiny_model_dir("llama")
    specs = [greedy(f"seq-{n}", prompt(20 + n), 30) for n in range(6)]
    roomy = answers(model_dir, SETTINGS, specs)
    assert answers(model_dir, replace(SETTINGS, num_blocks=14), specs) == roomy


def test_most_decode_steps_were_laid_out_before_they_came(
    tiny_model_dir: ModelDir, monkeypatch: pytest.MonkeyPatch
):
    laid_out_late = 0
    plain = runner_module.arrays_of

    def counting(*arguments: object) -> object:
        nonlocal laid_out_late
        laid_out_late += 1
        return plain(*arguments)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(runner_module, "arrays_of", counting)
    specs = [greedy("seq", prompt(5), 32)]
    answers(tiny_model_dir("llama"), SETTINGS, specs)
    # The prefill, the step after it, and each step that needs a new block of 8.
    assert laid_out_late <= 2 + 32 // 8 + 1


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"block_size": 32}, "block_size"),
        ({"head_dim": 260}, "head_dim"),
        ({"dtype": torch.float32}, "dtype"),
        ({"softcap": True}, "soft cap"),
    ],
)
def test_what_the_kernel_does_not_serve_is_said(changed: dict[str, object], why: str):
    served = {"block_size": 256, "head_dim": 64, "dtype": torch.bfloat16, "softcap": False}
    check_served(**served)  # pyright: ignore[reportArgumentType]
    with pytest.raises(NotLean, match=why):
        check_served(**{**served, **changed})  # pyright: ignore[reportArgumentType]
