"""Loads a Hugging Face directory for the paged attention, or says why it cannot."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint
from transformers.utils.logging import disable_progress_bar

from worker.engine.device import choose_device, choose_dtype
from worker.engine.errors import UnsupportedModel
from worker.engine.model_files import find_gguf
from worker.engine.settings import EngineSettings

log = structlog.get_logger(__name__)

_LENGTH_DEPENDENT_ROPES = ("dynamic", "longrope")
"""Rotary embeddings whose frequencies follow the longest sequence of the batch."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model ready to be asked for packed logits, still with the attention it came with.

    Attributes:
        max_model_len: positions that the model may be asked for.
        can_keep_logits: its forward computes logits of chosen rows only.
    """

    module: PreTrainedModel
    architecture: str
    num_layers: int
    vocab_size: int
    max_model_len: int
    can_keep_logits: bool


def load_model(model_dir: Path, settings: EngineSettings) -> LoadedModel:
    """Reads config and weights.

    Raises:
        UnsupportedModel: the model lacks the attention backend.
    """
    disable_progress_bar()
    config = AutoConfig.from_pretrained(model_dir, local_files_only=True)
    text_config = config.get_text_config()
    architecture = (config.architectures or [type(config).__name__])[0]
    device = choose_device(settings.device)
    module = _read_module(model_dir, config, choose_dtype(settings.dtype, device))
    if not getattr(module, "_supports_attention_backend", False):
        raise UnsupportedModel(
            architecture=architecture, why="its code does not use the attention backend"
        )
    module.to(device).eval()
    parameters = inspect.signature(type(module).forward).parameters
    return LoadedModel(
        module=module,
        architecture=architecture,
        num_layers=text_config.num_hidden_layers,
        vocab_size=text_config.vocab_size,
        max_model_len=_max_model_len(text_config, settings.max_model_len),
        can_keep_logits="logits_to_keep" in parameters,
    )


def _read_module(model_dir: Path, config: Any, dtype: torch.dtype) -> Any:
    # The plainest attention honours everything; the self-check compares with it.
    eager: dict[str, Any] = {"dtype": dtype, "attn_implementation": "eager"}
    gguf = find_gguf(model_dir)
    if gguf is None:
        return AutoModelForCausalLM.from_pretrained(model_dir, local_files_only=True, **eager)
    # Not from_pretrained: for this it wants a package that nothing else here needs.
    module: Any = AutoModelForCausalLM.from_config(config, **eager)
    weights = load_gguf_checkpoint(
        str(gguf), return_tensors=True, model_to_load=module, torch_dtype=dtype
    )["tensors"]
    missing = set(module.load_state_dict(weights, strict=False).missing_keys)
    missing &= {name for name, _ in module.named_parameters()}
    if missing:
        raise UnsupportedModel(
            architecture=type(module).__name__, why=f"its GGUF file lacks {min(missing)}"
        )
    return module


def _max_model_len(text_config: Any, wanted: int | None) -> int:
    limit = int(text_config.max_position_embeddings)
    rope = getattr(text_config, "rope_parameters", None) or {}
    # Gemma keeps one set of parameters per kind of layer.
    ropes = [r for r in (rope, *rope.values()) if isinstance(r, dict)]
    for parameters in ropes:
        if parameters.get("rope_type") in _LENGTH_DEPENDENT_ROPES:
            # Past this length one long request would change everybody's keys and cached blocks.
            original = parameters.get("original_max_position_embeddings", limit)
            limit = min(limit, int(original))
            log.info("context.capped", rope_type=parameters["rope_type"], max_model_len=limit)
    return limit if wanted is None else min(limit, wanted)
