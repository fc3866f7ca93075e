from __future__ import annotations

import dataclasses
import errno
import json
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from tests.worker.engine.tiny_models import save_tiny_model
from worker.engine.lean.config import LeanConfig, read_config
from worker.engine.lean.load import load_lean
from worker.engine.lean.model import LeanModel
from worker.engine.lean.weights import LeanWeights, read_weights
from worker.engine.settings import EngineSettings
from worker.quant.calibrate import quantize_weights
from worker.quant.dense_layer import rms_norm, run_layer
from worker.quant.matrices import Int4Matrix, dequantize
from worker.quant.quantize import main
from worker.quant.smoothing import smooth

TOKENS = [(31 * i) % 211 for i in range(512)]
SETTINGS = EngineSettings(num_blocks=4, num_threads=1, path="lean")


@pytest.fixture(scope="module", params=["llama", "qwen2", "gemma3"])
def model_dir(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(request.param, tmp_path_factory.mktemp(request.param))


def _hidden(config: LeanConfig, weights: LeanWeights) -> torch.Tensor:
    hidden = dequantize(weights.embedding)[torch.tensor(TOKENS)][None] * config.embedding_scale
    for layer_idx, layer in enumerate(weights.layers):

        def multiply(name: str, rows: torch.Tensor, layer=layer) -> torch.Tensor:
            return functional.linear(rows, dequantize(getattr(layer, name)))

        hidden = run_layer(config, layer_idx, layer, hidden, multiply)
    return rms_norm(hidden, weights.norm, config.norm_eps)


def test_smoothing_changes_nothing_but_the_numbers(model_dir: Path):
    config = read_config(model_dir)
    weights = read_weights(model_dir, config, torch.float32)
    generator = torch.Generator().manual_seed(0)
    rows = {
        name: torch.randn(32, size, generator=generator) * torch.linspace(0.1, 9, size)
        for name, size in (("qkv", 64), ("gate_up", 64), ("down", 96))
    }
    smoothed = dataclasses.replace(
        weights, layers=[smooth(layer, rows)[0] for layer in weights.layers]
    )
    torch.testing.assert_close(
        _hidden(config, smoothed), _hidden(config, weights), rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize(("kind", "limit"), [("int8", 0.15), ("int4", 0.8)])
def test_quantized_weights_say_nearly_the_same(model_dir: Path, kind: str, limit: float):
    config = read_config(model_dir)
    weights = read_weights(model_dir, config, torch.float32)
    expected = _hidden(config, weights)
    rounded = quantize_weights(config, weights, TOKENS, kind)
    # Wide random weights multiply every error from layer to layer.
    error = (_hidden(config, rounded) - expected).norm() / expected.norm()
    assert error < limit


def test_a_quantized_directory_loads_without_quantizing_again(model_dir: Path, tmp_path: Path):
    out_dir = tmp_path / "out"
    assert main([str(model_dir), "--to", "int4", "--out", str(out_dir)]) == 0
    loaded = load_lean(out_dir, SETTINGS)
    assert isinstance(loaded.weights.layers[0].down, Int4Matrix)
    assert loaded.precision == "int4"
    assert LeanModel(loaded, SETTINGS).numerics == "lean:int4:bfloat16"


def test_a_directory_that_is_not_empty_is_left_alone(model_dir: Path, tmp_path: Path):
    (tmp_path / "mine").write_text("precious")
    assert main([str(model_dir), "--to", "int8", "--out", str(tmp_path)]) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_an_out_that_is_a_file_is_left_alone(
    model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "mine").write_text("precious")
    assert main([str(model_dir), "--to", "int8", "--out", str(tmp_path / "mine")]) == 1
    assert "mine is a file" in capsys.readouterr().err
    assert (tmp_path / "mine").read_text() == "precious"


def test_what_is_no_model_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main([str(tmp_path), "--to", "int8", "--out", str(tmp_path / "out")]) == 1
    assert "it has no config.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("fault", "exit_code", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), 1, "the disk is full"),
        (PermissionError(errno.EACCES, "Permission denied"), 1, "Permission denied"),
        (KeyboardInterrupt(), 130, "interrupted; nothing was written"),
    ],
)
def test_what_was_half_written_is_removed(
    model_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fault: BaseException,
    exit_code: int,
    said: str,
):
    def fail(_model_dir: Path, out_dir: Path, _kind: str) -> None:
        (out_dir / "model.safetensors").write_bytes(b"half")
        raise fault

    monkeypatch.setattr("worker.quant.quantize.quantize", fail)
    assert main([str(model_dir), "--to", "int8", "--out", str(tmp_path / "out")]) == exit_code
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_config_tells_other_loaders(model_dir: Path, tmp_path: Path):
    out_dir = tmp_path / "out"
    assert main([str(model_dir), "--to", "int8", "--out", str(out_dir)]) == 0
    config = json.loads((out_dir / "config.json").read_text())
    assert config["quantization_config"]["quant_method"] == "tokenmill"
    # Quantized twice would be rounded twice.
    assert main([str(out_dir), "--to", "int8", "--out", str(tmp_path / "again")]) == 1
