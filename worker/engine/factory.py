"""Builds the engine that a worker was asked for."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from services.core.errors import InvalidRequest
from worker.engine.fake_engine import FakeEngine, FakeModel
from worker.engine.port import Engine
from worker.engine.settings import EngineSettings

ENGINE_KINDS = ("torch", "fake")


def build_engine(
    kind: str, model_dir: Path, settings: EngineSettings, fake_model: FakeModel | None = None
) -> Engine:
    """An engine, loaded and ready to start.

    Args:
        kind: one of ENGINE_KINDS.
        model_dir: Hugging Face directory. The fake engine takes vocabulary size, context length and
            end-of-sequence id from its config.json if there is one.
        settings: size and precision.
        fake_model: what the fake engine pretends to be; overrides model_dir.

    Raises:
        InvalidRequest: unknown kind.
        UnsupportedModel: the torch engine cannot run this model.
    """
    if kind == "torch":
        # Here, so that a worker with a fake engine starts without torch.
        from worker.engine.torch_engine import TorchEngine

        return TorchEngine(model_dir, settings)
    if kind == "fake":
        return FakeEngine(fake_model or fake_model_of(model_dir), settings)
    raise InvalidRequest(f"engine is {kind}; allowed: {', '.join(ENGINE_KINDS)}", field="engine")


def fake_model_of(model_dir: Path) -> FakeModel:
    """What the fake engine pretends to be beside a model: same vocabulary, context and end."""
    path = model_dir / "config.json"
    model = FakeModel()
    if not path.is_file():
        return model
    config = json.loads(path.read_text())
    eos = config.get("eos_token_id", model.eos_token_id)
    return dataclasses.replace(
        model,
        vocab_size=config.get("vocab_size", model.vocab_size),
        max_model_len=config.get("max_position_embeddings", model.max_model_len),
        eos_token_id=eos[0] if isinstance(eos, list) else eos,
    )
