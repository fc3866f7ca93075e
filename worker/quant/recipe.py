"""How a model is quantized, and where the result is kept so that it is done once."""

from __future__ import annotations

import time
from pathlib import Path

import structlog
import torch
from tokenizers import Tokenizer

from worker.engine.lean.config import NotLean, read_config
from worker.engine.lean.weights import num_values, quantization_of, read_weights
from worker.engine.model_files import model_revision
from worker.models.cache import build_once, default_cache_dir
from worker.progress import progress_bar
from worker.quant.calibrate import CALIBRATION_LENGTH, quantize_weights
from worker.quant.store import write_quantized

log = structlog.get_logger(__name__)

KINDS = ("int8", "int4")
RECIPE_VERSION = 6
"""Raised whenever the same model would come out otherwise."""

_MAX_CALIBRATION_TOKENS = 2048
_CALIBRATION_TEXT = Path(__file__).with_name("calibration.txt")


def quantized_dir(model_dir: Path, kind: str) -> Path:
    """A quantized copy of a model in the cache directory, made now if it is not there yet.

    Raises:
        NotLean: the lean path does not compute this model.
    """
    name = f"{model_revision(model_dir)}-{kind}-v{RECIPE_VERSION}"
    target = default_cache_dir() / "quantized" / name
    return build_once(target, lambda out_dir: quantize(model_dir, out_dir, kind))


def least_bytes(model_dir: Path, kind: str) -> int:
    """What a quantized copy takes on disk at least.

    Raises:
        NotLean: the lean path does not compute this model.
    """
    config = read_config(model_dir)
    bits_per_value = 8 if kind == "int8" else 4
    return num_values(config) * bits_per_value // 8


@torch.inference_mode()
def quantize(model_dir: Path, out_dir: Path, kind: str) -> None:
    """Writes a quantized copy of a model into an existing directory.

    Raises:
        NotLean: the lean path does not compute this model, or it is quantized already.
    """
    started = time.monotonic()
    config = read_config(model_dir)
    if quantization_of(model_dir) is not None:
        raise NotLean("weights that are quantized already")
    weights = read_weights(model_dir, config, torch.float32)
    token_ids = calibration_tokens(model_dir, config.vocab_size)
    log.info("quantization.started", kind=kind, num_calibration_tokens=len(token_ids))

    with progress_bar(f"quantizing to {kind}", config.num_layers) as advance:

        def tell(num_done: int) -> None:
            advance()
            if num_done % 5 == 0 or num_done == config.num_layers:
                log.info("quantization.advanced", num_layers=num_done, of=config.num_layers)

        rounded = quantize_weights(config, weights, token_ids, kind, tell)
    write_quantized(model_dir, out_dir, rounded, {"bits": kind, "recipe": RECIPE_VERSION})
    log.info("quantization.finished", kind=kind, duration_s=round(time.monotonic() - started, 1))


def calibration_tokens(model_dir: Path, vocab_size: int) -> list[int]:
    """A text that is in the public domain, in the model's tokens.

    A model without a tokenizer gets ids spread over its vocabulary.
    """
    path = model_dir / "tokenizer.json"
    if path.is_file():
        text = _CALIBRATION_TEXT.read_text(encoding="utf-8")
        token_ids = Tokenizer.from_file(str(path)).encode(text).ids[:_MAX_CALIBRATION_TOKENS]
        if len(token_ids) >= CALIBRATION_LENGTH:
            return token_ids
    return [(7919 * (i + 1)) % vocab_size for i in range(CALIBRATION_LENGTH)]
