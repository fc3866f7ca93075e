"""Where a model directory's tensors are read from, whichever kind of file holds them."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch
from safetensors import safe_open

from worker.engine.lean.config import LeanConfig, NotLean
from worker.engine.model_files import find_gguf

_IGNORED_SUFFIX = "rotary_emb.inv_freq"


class TensorSource(Protocol):
    """Tensors by their Hugging Face names, and which of them were asked for."""

    def get(self, name: str) -> torch.Tensor:
        """A tensor that must be there."""
        ...

    def find(self, name: str) -> torch.Tensor | None:
        """A tensor that may be there."""
        ...

    def check_all_read(self) -> None:
        """What nobody asked for would change the answers: such a model is not ours to run."""
        ...


class TensorFiles:
    """A TensorSource over a directory's safetensors files, mapped."""

    def __init__(self, model_dir: Path) -> None:
        paths = sorted(model_dir.glob("*.safetensors"))
        if not paths:
            raise NotLean("no safetensors files")
        self._files = [safe_open(path, framework="pt") for path in paths]
        self._file_of = {name: file for file in self._files for name in file.keys()}  # noqa: SIM118
        self._unread = set(self._file_of)

    def get(self, name: str) -> torch.Tensor:
        """A tensor that must be there."""
        tensor = self.find(name)
        if tensor is None:
            raise NotLean(f"tensor {name} is missing")
        return tensor

    def find(self, name: str) -> torch.Tensor | None:
        """A tensor that may be there."""
        file = self._file_of.get(name)
        if file is None:
            return None
        self._unread.discard(name)
        return file.get_tensor(name)

    def check_all_read(self) -> None:
        """What nobody asked for would change the answers: such a model is not ours to run."""
        left = {name for name in self._unread if not name.endswith(_IGNORED_SUFFIX)}
        if left:
            raise NotLean(f"{len(left)} unknown tensors, {min(left)} among them")


def open_tensors(model_dir: Path, config: LeanConfig) -> TensorSource:
    """The tensors of a directory.

    Raises:
        NotLean: it holds no weights that can be read.
    """
    path = find_gguf(model_dir)
    if path is None:
        return TensorFiles(model_dir)
    # Here: most directories have no use for it.
    from worker.engine.lean.gguf_tensors import GgufTensors

    return GgufTensors(path, config)
