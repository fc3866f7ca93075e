"""What `--model` may mean."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from worker.models.errors import ModelUnavailable

DEFAULT_MODEL = "SmolLM2-135M-Instruct"

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True, slots=True)
class DefaultModel:
    """The model that comes in a Python package, so that package registries are enough."""


@dataclass(frozen=True, slots=True)
class LocalDirectory:
    """A Hugging Face model directory, used as it is."""

    path: Path


@dataclass(frozen=True, slots=True)
class GgufFile:
    """A GGUF file, read where it lies."""

    path: Path


@dataclass(frozen=True, slots=True)
class HubModel:
    """A model on the Hugging Face Hub."""

    repo_id: str


ModelSource = DefaultModel | LocalDirectory | GgufFile | HubModel


def find_source(model: str) -> ModelSource:
    """Tells which kind of model is meant; a path that exists wins over a Hub id.

    Raises:
        ModelUnavailable: it is nothing that can be looked for.
    """
    if model == DEFAULT_MODEL:
        return DefaultModel()
    path = Path(model).expanduser()
    if model and path.is_dir():
        return LocalDirectory(path.resolve())
    if path.is_file():
        if path.suffix.lower() != ".gguf":
            raise ModelUnavailable(f"{path} is a file, but not a .gguf file")
        return GgufFile(path.resolve())
    looks_like_path = model.startswith(("/", "./", "../", "~")) or model.lower().endswith(".gguf")
    if not looks_like_path and _HUB_ID.fullmatch(model):
        return HubModel(model)
    raise ModelUnavailable(
        f"model {model!r}: no such directory or GGUF file; a Hub id looks like owner/name,"
        f" and the default model is {DEFAULT_MODEL}"
    )
