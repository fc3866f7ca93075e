"""Log-probabilities as an engine reports them, against transformers' own logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from services.core.logprobs import TokenLogprobs
from services.core.sampling import SamplingParams
from tests.worker.engine.listener import FakeListener
from worker.engine.port import SequenceSpec
from worker.engine.settings import EngineSettings
from worker.engine.torch_engine import TorchEngine

SETTINGS = EngineSettings(
    dtype="fp32", block_size=8, max_num_seqs=8, num_blocks=64, max_batched_tokens=16, num_threads=1
)
PROMPT = [(7 * i) % 200 + 3 for i in range(40)]


def _spec(seq_id: str, **fields: object) -> SequenceSpec:
    sampling = SamplingParams(  # type: ignore[arg-type]
        max_tokens=6, temperature=0.0, seed=0, ignore_eos=True, **fields
    )
    return SequenceSpec(seq_id, PROMPT, sampling)


def _run(
    path: Path, settings: EngineSettings, specs: Sequence[SequenceSpec], *, one_by_one: bool = False
) -> FakeListener:
    engine, listener = TorchEngine(path, settings), FakeListener()
    engine.start(listener)
    for spec in specs:
        engine.submit(spec)
        if one_by_one:
            listener.wait_finished(spec.seq_id)
    listener.wait_finished(*(spec.seq_id for spec in specs))
    engine.stop()
    return listener


def _prompt_logprobs(listener: FakeListener, seq_id: str) -> list[TokenLogprobs]:
    first, *rest = listener.outputs(seq_id)
    assert not any(output.prompt_logprobs for output in rest)
    return list(first.prompt_logprobs)


@pytest.mark.parametrize("engine_path", ["general", "lean"])
def test_prompt_and_answer_logprobs_equal_a_whole_forward(
    engine_path: str, tiny_model_dir: Callable[[str], Path]
):
    path = tiny_model_dir("llama")
    settings = replace(SETTINGS, path=engine_path)
    # The second finds the first one's blocks, and must compute its prompt all the same.
    specs = [_spec("plain"), _spec("a", logprobs=2, prompt_logprobs=3, presence_penalty=1.5)]
    listener = _run(path, settings, specs, one_by_one=True)
    assert all(not output.logprobs for output in listener.outputs("plain"))
    ids = PROMPT + listener.token_ids("a")
    model = AutoModelForCausalLM.from_pretrained(path)
    with torch.inference_mode():
        expected = model(torch.tensor([ids])).logits[0].log_softmax(dim=-1)
    answered = [entry for output in listener.outputs("a") for entry in output.logprobs]
    found = _prompt_logprobs(listener, "a") + answered
    assert len(found) == len(ids) - 1
    for position, entry in enumerate(found):
        row = expected[position]
        num_top = 3 if position + 1 < len(PROMPT) else 2
        assert entry.logprob == pytest.approx(float(row[ids[position + 1]]), abs=1e-3)
        assert entry.top_logprobs == pytest.approx(row.topk(num_top).values.tolist(), abs=1e-3)


def test_company_and_preemption_change_no_bit_of_them(tiny_model_dir: Callable[[str], Path]):
    path = tiny_model_dir("llama")
    mine = _spec("mine", logprobs=1, prompt_logprobs=1)
    alone = _run(path, SETTINGS, [mine])
    mates = [replace(_spec(f"mate-{i}"), prompt_token_ids=PROMPT[i:]) for i in range(5)]
    crowded = _run(path, replace(SETTINGS, num_blocks=12), [*mates, mine])
    assert _prompt_logprobs(crowded, "mine") == _prompt_logprobs(alone, "mine")
    told = [[e for o in run.outputs("mine") for e in o.logprobs] for run in (alone, crowded)]
    assert told[0] == told[1]


def test_a_resumed_sequence_tells_nothing_of_its_prompt(tiny_model_dir: Callable[[str], Path]):
    resumed = replace(_spec("a", prompt_logprobs=0), delivered_token_ids=(5, 6))
    listener = _run(tiny_model_dir("llama"), SETTINGS, [resumed])
    assert _prompt_logprobs(listener, "a") == []
