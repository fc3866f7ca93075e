"""What the device and precision settings mean on this machine."""

from __future__ import annotations

import structlog
import torch

log = structlog.get_logger(__name__)

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(name: str) -> torch.device:
    """The device that a setting means here."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """The precision that a setting means on this device; a substitute is logged."""
    if name == "auto":
        return torch.bfloat16
    if name == "fp16" and device.type == "cpu":
        log.info("dtype.substituted", requested="fp16", used="bf16", device="cpu")
        return torch.bfloat16
    return _DTYPES[name]
