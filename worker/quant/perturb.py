"""`python -m worker.quant.perturb MODEL_DIR OUT_DIR`: weights that lie on no four-bit grid.

Weights that were once stored in four bits lie on a grid, which flatters every method that rounds to
a grid like it. Here each group of 32 gets noise of up to half of a 15th of its range.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from worker.quant.matrices import GROUP_SIZE

_SEED = 0


def main(model_dir: Path, out_dir: Path) -> None:
    """Writes the copy."""
    generator = torch.Generator().manual_seed(_SEED)
    for path in sorted(model_dir.iterdir()):
        if path.suffix != ".safetensors":
            (out_dir / path.name).write_bytes(path.read_bytes())
            continue
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        for name, tensor in tensors.items():
            if "_proj." in name and tensor.dim() == 2:
                tensors[name] = _moved(tensor, generator)
        save_file(tensors, out_dir / path.name, metadata={"format": "pt"})


def _moved(weight: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    groups = weight.to(torch.float32).view(-1, GROUP_SIZE)
    steps = (groups.amax(dim=1) - groups.amin(dim=1)) / 15
    noise = torch.rand(groups.shape, generator=generator) - 0.5
    return (groups + noise * steps[:, None]).view(weight.shape).to(weight.dtype)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
