"""From a directory and settings to weights in the precision that was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import structlog

from worker.engine.device import choose_device, choose_dtype
from worker.engine.lean.config import LeanConfig, read_config
from worker.engine.lean.weights import LeanWeights, quantization_of, read_weights
from worker.engine.model_files import weight_bytes_on_disk
from worker.engine.settings import EngineSettings
from worker.quant.recipe import quantized_dir
from worker.quant.store import read_quantized

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LoadedWeights:
    """What a LeanModel is made of.

    Attributes:
        precision: of the weights, for people and for the model's revision.
        kv_dtype: of the K/V blocks, as their layout names it.
        disk_bytes: size of the weight files.
    """

    config: LeanConfig
    weights: LeanWeights
    precision: str
    kv_dtype: str
    disk_bytes: int


def load_lean(model_dir: Path, settings: EngineSettings) -> LoadedWeights:
    """Reads a model; quantizes it first, once, where that was asked for.

    Raises:
        NotLean: the general path may compute it; this one does not.
    """
    config = read_config(model_dir)
    device = choose_device(settings.device)
    dtype = choose_dtype(settings.dtype, device)
    dtype_name = str(dtype).removeprefix("torch.")
    kv_dtype = {"auto": dtype_name, "bf16": "bfloat16", "int8": "int8"}[settings.kv_dtype]
    stored = quantization_of(model_dir)
    if stored is None and settings.quantization == "none":
        weights = read_weights(model_dir, config, dtype)
        return LoadedWeights(config, weights, dtype_name, kv_dtype, weight_bytes_on_disk(model_dir))
    if stored is None:
        model_dir = quantized_dir(model_dir, settings.quantization)
    weights, precision = read_quantized(model_dir, config)
    return LoadedWeights(config, weights, precision, kv_dtype, weight_bytes_on_disk(model_dir))
