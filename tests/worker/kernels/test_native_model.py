"""The native kernels against the plain path, and against themselves in other company."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    Qwen2Config,
    Qwen3Config,
)

from tests.support.kernels import BUILDS, require_kernels
from worker.engine.model_paths import load_step_model
from worker.engine.settings import EngineSettings
from worker.engine.step_layout import Segment, StepLayout
from worker.engine.step_model import StepModel
from worker.engine.step_phases import timed
from worker.quant.matrices import Int4Matrix, dequantize, int8_codes

BLOCK_SIZE = 32
PROMPT = torch.arange(3, 103)
SHAPE: dict[str, Any] = {
    "vocab_size": 128,
    "hidden_size": 64,
    "intermediate_size": 192,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,
}
HEADS: dict[str, Any] = {"head_dim": 32}
ONE_KV_HEAD: dict[str, Any] = {"num_attention_heads": 2, "num_key_value_heads": 1}


@pytest.fixture(scope="module", params=BUILDS)
def kernels(request: pytest.FixtureRequest) -> str:
    """A build of the kernels, by name."""
    require_kernels(request.param)
    return request.param


@pytest.fixture(scope="module", params=["llama", "qwen2", "qwen3", "gemma3"])
def tiny_dir(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    match request.param:
        case "llama":
            config = LlamaConfig(**SHAPE, **HEADS, tie_word_embeddings=True)
        case "qwen2":
            config = Qwen2Config(**(SHAPE | ONE_KV_HEAD))
        case "qwen3":
            config = Qwen3Config(**SHAPE, **HEADS)
        case _:
            layer_types = ["sliding_attention", "full_attention"]
            config = Gemma3TextConfig(
                **SHAPE,
                **HEADS,
                sliding_window=24,
                layer_types=layer_types,
                query_pre_attn_scalar=20,
            )
    torch.manual_seed(7)
    path = tmp_path_factory.mktemp(request.param)
    AutoModelForCausalLM.from_config(config).save_pretrained(path)
    return path


def load(
    tiny_dir: Path, kernels: str | None, dtype: str = "fp32", kv_dtype: str = "auto"
) -> StepModel:
    """On a build of the kernels; None: on the plain path."""
    settings = EngineSettings(
        path="native" if kernels else "lean",
        kernels=kernels or "auto",
        dtype=dtype,
        kv_dtype=kv_dtype,
        block_size=BLOCK_SIZE,
        num_blocks=32,
    )
    return load_step_model(tiny_dir, settings)


def step_of(model: StepModel, pieces: list[tuple[int, int, int]]) -> StepLayout:
    """A step of (first block of the sequence, start, end) pieces, all of the same prompt."""
    segments, token_ids, positions, slots, blocks = [], [], [], [], []
    for first_block, start, end in pieces:
        segments.append(Segment(len(token_ids), start, end, len(blocks) * BLOCK_SIZE))
        token_ids += PROMPT[start:end].tolist()
        positions += range(start, end)
        slots += range(first_block * BLOCK_SIZE + start, first_block * BLOCK_SIZE + end)
        blocks += range(first_block, first_block + -(-end // BLOCK_SIZE))
    return StepLayout(
        pool=model.pool,
        token_ids=torch.tensor(token_ids),
        positions=torch.tensor(positions),
        slots=torch.tensor(slots),
        block_ids=torch.tensor(blocks),
        decodes=[],
        prefills=segments,
    )


def logits_of(model: StepModel, pieces: list[tuple[int, int, int]], row: int = -1) -> torch.Tensor:
    step = step_of(model, pieces)
    rows = [row % len(step.token_ids)]
    with torch.inference_mode():
        return model.compute_logits(step, rows)


@pytest.mark.parametrize(
    ("dtype", "kv_dtype", "tolerance"),
    [("fp32", "auto", 1e-4), ("bf16", "auto", 0.15), ("fp32", "int8", 0.05)],
)
def test_logits_are_those_of_the_plain_path(
    tiny_dir: Path, kernels: str, dtype: str, kv_dtype: str, tolerance: float
):
    wanted = logits_of(load(tiny_dir, None, dtype, kv_dtype), [(0, 0, 100)])
    got = logits_of(load(tiny_dir, kernels, dtype, kv_dtype), [(0, 0, 100)])
    assert (got - wanted).abs().max() <= tolerance * wanted.abs().max()


@pytest.mark.parametrize(
    ("dtype", "kv_dtype"), [("fp32", "auto"), ("bf16", "auto"), ("bf16", "int8")]
)
def test_no_company_chunk_or_thread_changes_a_bit(
    tiny_dir: Path, kernels: str, dtype: str, kv_dtype: str
):
    model = load(tiny_dir, kernels, dtype, kv_dtype)
    alone = logits_of(model, [(0, 0, 100)])
    for start in range(0, 100, 13):
        chunked = logits_of(model, [(8, start, min(100, start + 13))])
    assert torch.equal(chunked, alone)
    logits_of(model, [(16, 0, 99)])
    decoded = logits_of(model, [(0, 0, 37), (16, 99, 100), (24, 0, 5)], row=37)
    assert torch.equal(decoded, alone)
    torch.set_num_threads(1)
    try:
        one_thread = logits_of(load(tiny_dir, kernels, dtype, kv_dtype), [(0, 0, 100)])
    finally:
        torch.set_num_threads(2)
    assert torch.equal(one_thread, alone)


def test_rows_of_a_long_prompt_are_shared_out_without_a_bit_changed(tiny_dir: Path, kernels: str):
    model = load(tiny_dir, kernels, "bf16")
    alone = logits_of(model, [(0, 0, 100)])
    assert torch.equal(logits_of(model, [(8, 0, 77), (0, 0, 100)]), alone)
    # Each thread's share in more than one go.
    several = [(8, 0, 100), (16, 0, 100), (24, 0, 99), (0, 0, 100)]
    assert torch.equal(logits_of(model, several), alone)


def test_many_sequences_that_decode_wait_for_each_others_rows(tiny_dir: Path, kernels: str):
    model = load(tiny_dir, kernels, "bf16")
    alone = logits_of(model, [(0, 0, 100)])
    for _ in range(20):
        step = step_of(model, [(0, 99, 100)] * 160)
        with torch.inference_mode():
            logits = model.compute_logits(step, range(160))
        assert torch.equal(logits, alone.expand_as(logits))


def test_phases_are_timed_for_whoever_asks(tiny_dir: Path, kernels: str):
    model = load(tiny_dir, kernels)
    with timed() as seconds:
        logits_of(model, [(0, 0, 40)])
    logits_of(model, [(0, 0, 40)])
    assert seconds.keys() > {"qkv", "attention", "gate_up", "down", "output", "waiting"}
    assert all(step_s >= 0 for step_s in seconds.values())
    assert seconds["attention"] > 0


def test_what_a_block_held_before_reaches_nobody(tiny_dir: Path, kernels: str):
    for kv_dtype in ("auto", "int8"):
        model = load(tiny_dir, kernels, "bf16", kv_dtype)
        clean = logits_of(model, [(0, 0, 45)])
        pool: Any = model.pool
        spoilt = ("key_scales", "value_scales") if kv_dtype == "int8" else ("keys", "values")
        for name in spoilt:
            getattr(pool, name).fill_(float("nan"))
        assert torch.equal(logits_of(model, [(0, 0, 45)]), clean)


@pytest.mark.parametrize("num_rows", [1, 3, 4, 9])
@pytest.mark.parametrize("is_precise", [False, True])
def test_int8_products_are_close_and_rows_do_not_feel_each_other(
    kernels: str, num_rows: int, is_precise: bool
):
    torch.manual_seed(num_rows)
    stack = small_stack(kernels)
    codes = torch.randint(-127, 128, (41, 128), dtype=torch.int8)
    scales = torch.rand(41) + 0.5
    matrix = stack.add_matrix(codes.numpy(), scales.numpy(), None, is_precise, False)
    rows, norm = torch.randn(num_rows, 128), torch.ones(128)
    got = torch.from_numpy(stack.project(matrix, rows.numpy(), norm.numpy()))
    normed = torch.nn.functional.rms_norm(rows, (128,), norm, 1e-6)
    wanted = normed @ (codes.float() * scales[:, None]).T
    tolerance = 1e-4 if is_precise else 2e-2
    assert (got - wanted).abs().max() <= tolerance * wanted.abs().max()
    alone = torch.from_numpy(stack.project(matrix, rows[:1].numpy(), norm.numpy()))
    assert torch.equal(alone, got[:1])
    looked_up = torch.from_numpy(stack.look_up(matrix, numpy.array([5])))
    assert torch.equal(looked_up[0], codes[5].float() * scales[5])


@pytest.mark.parametrize("num_rows", [1, 7, 30])
@pytest.mark.parametrize("is_precise", [False, True])
def test_int4_products_are_those_of_the_int8_codes_that_they_stand_for(
    kernels: str, num_rows: int, is_precise: bool
):
    torch.manual_seed(num_rows)
    stack = small_stack(kernels)
    packed = torch.randint(0, 256, (41, 64), dtype=torch.uint8)
    steps = torch.randint(1, 18, (41, 4), dtype=torch.uint8)
    bases = torch.randint(-128, 128, (41, 4), dtype=torch.int8)
    four = Int4Matrix(packed, steps, bases, torch.rand(41) + 0.5, is_precise)
    parts = {name: getattr(four, name).numpy() for name in ("packed", "steps", "bases", "scales")}
    matrix = stack.add_int4(**parts, biases=None, is_precise=is_precise, is_paired=False)
    codes = int8_codes(four)
    eight = stack.add_matrix(codes.numpy(), parts["scales"], None, is_precise, False)
    rows, norm = torch.randn(num_rows, 128).numpy(), numpy.ones(128, numpy.float32)
    got, wanted = stack.project(matrix, rows, norm), stack.project(eight, rows, norm)
    assert numpy.array_equal(got, wanted)
    ids = numpy.arange(41)
    assert numpy.array_equal(stack.look_up(matrix, ids), dequantize(four).numpy())


def small_stack(kernels: str) -> Any:
    return require_kernels(kernels).Stack(
        hidden=128,
        ffn=128,
        num_heads=1,
        num_kv_heads=1,
        head_dim=32,
        eps=1e-6,
        attention_scale=1.0,
        score_softcap=0.0,
        is_gelu=False,
        num_threads=2,
    )


def test_the_door_refuses_what_the_kernels_could_not_survive(tiny_dir: Path, kernels: str):
    stack = small_stack(kernels)
    weight = numpy.zeros((32, 128), numpy.float32)
    with pytest.raises(ValueError, match="weight is not a contiguous array"):
        stack.add_matrix(weight[:, ::2], None, None, False, False)
    with pytest.raises(ValueError, match="neither float32"):
        stack.add_matrix(weight.astype(numpy.float64), None, None, False, False)
    with pytest.raises(ValueError, match="int8 weights have scales"):
        stack.add_matrix(weight.astype(numpy.int8), None, None, False, False)
    matrix = stack.add_matrix(weight, None, None, False, False)
    with pytest.raises(ValueError, match="row_ids holds 32; allowed: 0 to 31"):
        stack.look_up(matrix, numpy.array([32]))
    with pytest.raises(IndexError):
        stack.look_up(matrix + 1, numpy.array([0]))
    with pytest.raises(ValueError, match=r"rows is not a contiguous array of shape \(1, 128\)"):
        stack.project(matrix, numpy.zeros((1, 64), numpy.float32), weight[0])
    model = load(tiny_dir, kernels)
    step = step_of(model, [(0, 0, 40)])
    step.slots[7] = 32 * BLOCK_SIZE
    with pytest.raises(ValueError, match="slots holds 1024; allowed: 0 to 1023"):
        model.compute_logits(step, [0])
    step = step_of(model, [(0, 0, 40)])
    step.block_ids = step.block_ids[:1]
    with pytest.raises(ValueError, match="a block table ends before its row"):
        model.compute_logits(step, [0])
