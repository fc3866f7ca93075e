"""The torch engine on small random models: what it says, and that company changes none of it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM

from services.core.request import FinishReason
from services.core.sampling import SamplingParams
from tests.worker.engine.listener import FakeListener, greedy
from tests.worker.engine.tiny_models import VOCAB_SIZE, generate
from worker.engine.port import SequenceSpec
from worker.engine.settings import EngineSettings
from worker.engine.speculation.speculator import Speculator
from worker.engine.torch_engine import TorchEngine

# One thread: layers this small lose more by waiting for each other than they gain.
FP32 = EngineSettings(
    dtype="fp32", block_size=8, num_blocks=256, max_batched_tokens=64, num_threads=1
)
ARCHITECTURES = ("llama", "qwen2", "qwen3", "gemma2", "gemma3")

ModelDir = Callable[[str], Path]


def _prompt(num_tokens: int, seed: int = 0) -> list[int]:
    source = random.Random(seed * 1000 + num_tokens)
    return [source.randrange(3, VOCAB_SIZE) for _ in range(num_tokens)]


@contextmanager
def _running(path: Path, settings: EngineSettings) -> Iterator[tuple[TorchEngine, FakeListener]]:
    engine, listener = TorchEngine(path, settings), FakeListener()
    engine.start(listener)
    yield engine, listener
    engine.stop()


def _answers(
    path: Path, settings: EngineSettings, specs: Sequence[SequenceSpec]
) -> dict[str, list[int]]:
    with _running(path, settings) as (engine, listener):
        for spec in specs:
            engine.submit(spec)
        listener.wait_finished(*(spec.seq_id for spec in specs))
        return {spec.seq_id: listener.token_ids(spec.seq_id) for spec in specs}


@pytest.mark.parametrize(
    ("path", "name"),
    [("general", name) for name in ARCHITECTURES]
    + [("lean", name) for name in ARCHITECTURES if name != "gemma2"],
)
def test_greedy_equals_generate(path: str, name: str, tiny_model_dir: ModelDir):
    prompts = {f"s{n}": _prompt(n) for n in (1, 7, 8, 33, 64, 90)}
    answers = _answers(
        tiny_model_dir(name),
        replace(FP32, path=path),
        [greedy(i, prompt, 12) for i, prompt in prompts.items()],
    )
    model = AutoModelForCausalLM.from_pretrained(tiny_model_dir(name))
    for seq_id, prompt in prompts.items():
        assert answers[seq_id] == generate(model, prompt, 12), seq_id


def _mixed_specs() -> list[SequenceSpec]:
    specs: list[SequenceSpec] = []
    for i, num_tokens in enumerate((5, 40, 70, 17, 33, 8)):
        sampling = SamplingParams(
            max_tokens=25,
            temperature=0.9 * (i % 2),
            seed=i,
            top_k=20 * (i % 3),
            ignore_eos=True,
            repetition_penalty=1.3 if i == 2 else 1.0,
            frequency_penalty=0.4 * (i == 3),
            presence_penalty=0.2 * (i >= 4),
            logit_bias=((5, 2.0), (6, -3.0)) if i == 4 else (),
        )
        specs.append(SequenceSpec(f"s{i}", _prompt(num_tokens), sampling))
    return specs


PRECISIONS = [
    {"path": "general", "dtype": "fp32"},
    {"path": "general", "dtype": "bf16"},
    {"path": "lean", "dtype": "fp32"},
    {"path": "lean", "dtype": "bf16"},
    {"path": "lean", "quantization": "int8"},
    {"path": "lean", "quantization": "int8", "kv_dtype": "int8"},
    {"path": "lean", "quantization": "int4"},
]
"""Settings of every path and precision that computes."""


@pytest.mark.parametrize("precision", PRECISIONS, ids=lambda p: "-".join(p.values()))
@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_company_chunks_and_preemption_change_no_token(
    precision: dict[str, Any], name: str, tiny_model_dir: ModelDir
):
    path, specs = tiny_model_dir(name), _mixed_specs()
    settings = replace(FP32, **precision)
    with _running(path, settings) as (engine, listener):
        for spec in specs:
            engine.submit(spec)
            listener.wait_finished(spec.seq_id)
        alone = {spec.seq_id: listener.token_ids(spec.seq_id) for spec in specs}
    assert _answers(path, settings, specs) == alone
    assert _answers(path, settings, specs[::-1]) == alone
    small_steps = replace(settings, max_batched_tokens=11, max_num_seqs=3)
    assert _answers(path, small_steps, specs) == alone
    with _running(path, replace(settings, num_blocks=16)) as (engine, listener):
        for spec in specs:
            engine.submit(spec)
        listener.wait_finished(*alone)
        assert listener.preempted()
        assert {seq_id: listener.token_ids(seq_id) for seq_id in alone} == alone


@pytest.mark.parametrize("precision", PRECISIONS, ids=lambda p: "-".join(p.values()))
def test_a_resumed_sequence_continues_as_if_nothing_had_happened(
    precision: dict[str, Any], tiny_model_dir: ModelDir
):
    path, specs = tiny_model_dir("llama"), _mixed_specs()
    settings = replace(FP32, **precision)
    whole = _answers(path, settings, specs)
    for num_delivered in (1, 5, 20):
        resumed = [
            replace(spec, delivered_token_ids=tuple(whole[spec.seq_id][:num_delivered]))
            for spec in specs
        ]
        rest = _answers(path, settings, resumed)
        assert rest == {seq_id: tokens[num_delivered:] for seq_id, tokens in whole.items()}


@pytest.mark.parametrize("precision", PRECISIONS, ids=lambda p: "-".join(p.values()))
def test_guesses_change_no_token(
    precision: dict[str, Any],
    tiny_model_dir: ModelDir,
    monkeypatch: pytest.MonkeyPatch,
):
    # Whatever it costs: here it is only about what comes out.
    monkeypatch.setattr(Speculator, "_least_share", lambda *_: 0.0)
    path, settings = tiny_model_dir("llama"), replace(FP32, **precision)
    specs = [
        replace(spec, prompt_token_ids=[5, 6, 7, 8, 9] * 8 + list(spec.prompt_token_ids))
        for spec in _mixed_specs()
    ]
    specs = [
        replace(spec, sampling=replace(spec.sampling, max_tokens=60, logit_bias=((7, 6.0),)))
        for spec in specs
    ]
    plain = _answers(path, settings, specs)
    assert _answers(path, replace(settings, speculation="ngram"), specs) == plain
    crowded = replace(settings, speculation="ngram", num_blocks=40, max_batched_tokens=40)
    assert _answers(path, crowded, specs) == plain


def test_a_prefix_hit_gives_the_same_answer(tiny_model_dir: ModelDir):
    path, prompt = tiny_model_dir("qwen3"), _prompt(70)
    with _running(path, FP32) as (engine, listener):
        for seq_id in ("cold", "warm"):
            engine.submit(greedy(seq_id, prompt, 10))
            listener.wait_finished(seq_id)
        assert listener.cached_tokens("warm") == 64
        assert listener.token_ids("warm") == listener.token_ids("cold")


def test_exported_blocks_serve_another_engine(tiny_model_dir: ModelDir):
    path, prompt = tiny_model_dir("llama"), _prompt(50)
    settings = replace(FP32, dtype="bf16")
    with _running(path, settings) as (engine, listener):
        engine.submit(greedy("a", prompt, 10))
        listener.wait_finished("a")
        blocks, expected = listener.blocks, listener.token_ids("a")
    assert len(blocks) == (50 + 9) // 8
    with _running(path, settings) as (engine, listener):
        engine.import_blocks(blocks)
        engine.submit(greedy("b", prompt, 10))
        listener.wait_finished("b")
        assert listener.cached_tokens("b") == 48
        assert listener.token_ids("b") == expected
        # What came from the cache is not offered to it again.
        assert {b.block_hash for b in listener.blocks} <= {b.block_hash for b in blocks[6:]}


def test_an_end_of_sequence_token_ends_the_answer(tiny_model_dir: ModelDir, tmp_path: Path):
    path = tiny_model_dir("llama")
    prompt = _prompt(9)
    answer = _answers(path, FP32, [greedy("a", prompt, 8)])["a"]
    ended = tmp_path / "ended"
    ended.mkdir()
    for file in path.iterdir():
        (ended / file.name).symlink_to(file)
    (ended / "generation_config.json").unlink()
    (ended / "generation_config.json").write_text(f'{{"eos_token_id": [1, {answer[5]}]}}')
    with _running(ended, FP32) as (engine, listener):
        engine.submit(SequenceSpec("a", prompt, SamplingParams(max_tokens=8, temperature=0)))
        listener.wait_finished("a")
        assert listener.finish_reason("a") is FinishReason.STOP
        assert listener.token_ids("a") == answer[: answer.index(answer[5]) + 1]


def test_an_answer_ends_at_the_context_window(tiny_model_dir: ModelDir):
    settings = replace(FP32, max_model_len=30)
    with _running(tiny_model_dir("llama"), settings) as (engine, listener):
        sampling = SamplingParams(temperature=0, ignore_eos=True)
        engine.submit(SequenceSpec("a", _prompt(20), sampling))
        listener.wait_finished("a")
        assert listener.finish_reason("a") is FinishReason.LENGTH
        assert len(listener.token_ids("a")) == 10


def test_precision_and_weights_are_in_the_names_of_blocks(tiny_model_dir: ModelDir):
    engine = TorchEngine(tiny_model_dir("llama"), replace(FP32, dtype="fp16"))
    other = TorchEngine(tiny_model_dir("qwen3"), FP32)
    assert engine.layout.dtype == "bfloat16"
    assert other.layout.dtype == "float32"
    assert engine.model_revision != other.model_revision
