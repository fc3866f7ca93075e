from __future__ import annotations

from pathlib import Path

import gguf
import pytest
import torch
from gguf import GGMLQuantizationType as Type
from transformers import AutoModelForCausalLM

from tests.worker.models.tiny_gguf import HEADS, TOKENS, write_tiny_gguf
from worker.bench.quality import measure_perplexity
from worker.engine.lean.config import read_config
from worker.engine.lean.gguf_tensors import GgufTensors
from worker.engine.lean.load import load_lean
from worker.engine.lean.model import LeanModel
from worker.engine.lean.weights import read_weights
from worker.engine.model_files import GGUF_NAME, model_revision
from worker.engine.model_loader import load_model
from worker.engine.settings import EngineSettings
from worker.models.conversion import adopt_gguf, convert_gguf
from worker.quant.matrices import FloatMatrix

SETTINGS = EngineSettings(dtype="fp32", path="lean", num_blocks=4, num_threads=1)
MODEL_TOKENS = [(5 * i) % len(TOKENS) for i in range(40)]


def _adopted(directory: Path, **what: object) -> Path:
    write_tiny_gguf(directory / "tiny.gguf", **what)  # type: ignore[arg-type]
    model_dir = directory / "model"
    model_dir.mkdir()
    adopt_gguf(directory / "tiny.gguf", model_dir)
    return model_dir


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3", "gemma3"])
def test_weights_are_those_that_transformers_reads(tmp_path: Path, architecture: str):
    model_dir = _adopted(tmp_path, architecture=architecture)
    converted_dir = tmp_path / "converted"
    converted_dir.mkdir()
    convert_gguf(tmp_path / "tiny.gguf", converted_dir)
    config = read_config(model_dir)
    ours = read_weights(model_dir, config, torch.float32)
    theirs = read_weights(converted_dir, config, torch.float32)
    for layer, expected in zip(ours.layers, theirs.layers, strict=True):
        for name in layer.__slots__:
            _check_equal(getattr(layer, name), getattr(expected, name))
    _check_equal(ours.embedding, theirs.embedding)
    _check_equal(ours.norm, theirs.norm)


def _check_equal(ours: object, expected: object) -> None:
    if isinstance(ours, FloatMatrix):
        assert isinstance(expected, FloatMatrix)
        ours, expected = ours.weight, expected.weight
    if isinstance(ours, torch.Tensor):
        assert isinstance(expected, torch.Tensor)
        assert torch.equal(ours, expected)
    else:
        assert ours is expected


@pytest.mark.parametrize("precision", [Type.F16, Type.Q8_0, Type.Q4_0, Type.Q4_1, Type.Q4_K])
def test_values_are_those_of_the_blocks(tmp_path: Path, precision: Type):
    model_dir = _adopted(tmp_path, precision=precision, hidden=256)
    tensors = GgufTensors(model_dir / GGUF_NAME, read_config(model_dir))
    blocks = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "tiny.gguf").tensors}
    for name, own_name in (
        ("model.layers.1.mlp.down_proj.weight", "blk.1.ffn_down.weight"),
        ("model.embed_tokens.weight", "token_embd.weight"),
    ):
        expected = gguf.dequantize(blocks[own_name].data, precision)
        assert torch.equal(tensors.get(name), torch.from_numpy(expected))


def test_both_paths_say_what_transformers_says(tmp_path: Path):
    model_dir = _adopted(tmp_path, precision=Type.Q8_0)
    ids = torch.tensor([MODEL_TOKENS])
    converted_dir = tmp_path / "converted"
    converted_dir.mkdir()
    convert_gguf(tmp_path / "tiny.gguf", converted_dir)
    reference = AutoModelForCausalLM.from_pretrained(converted_dir)
    expected = reference(ids, labels=ids).loss.exp().item()
    lean = LeanModel(load_lean(model_dir, SETTINGS), SETTINGS)
    assert measure_perplexity(lean, MODEL_TOKENS) == pytest.approx(expected, rel=1e-4)
    general = load_model(model_dir, SETTINGS).module
    assert general(ids, labels=ids).loss.exp().item() == pytest.approx(expected, rel=1e-4)


def test_nothing_is_written_but_a_link(tmp_path: Path):
    model_dir = _adopted(tmp_path, precision=Type.Q4_0)
    assert not list(model_dir.glob("*.safetensors"))
    assert (model_dir / GGUF_NAME).samefile(tmp_path / "tiny.gguf")
    assert read_config(model_dir).num_heads == HEADS


def test_the_revision_follows_the_weights(tmp_path: Path):
    revisions = set[str]()
    for precision in (Type.Q4_0, Type.Q8_0):
        directory = tmp_path / precision.name
        directory.mkdir()
        revisions.add(model_revision(_adopted(directory, precision=precision)))
    assert len(revisions) == 2
