"""Conformance and benchmarks on a machine with an NVIDIA GPU: `make gpu-check`.

Writes docs/benchmarks/gpu-<name of the GPU>.json.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

REPORTS = Path(__file__).parent.parent / "docs" / "benchmarks"
PRECISIONS = "bf16,fp16"
ENVIRONMENT = {"TOKENMILL_DEVICE": "cuda", "TOKENMILL_BLOCK_SIZE": "256"}


def main() -> int:
    """The program; returns its exit status."""
    import torch

    if not torch.cuda.is_available():
        print(
            "gpu-check: torch finds no CUDA device here. It needs an NVIDIA GPU of compute"
            " capability 8.0 or newer, its driver, and a CUDA build of torch"
            f" {torch.__version__.partition('+')[0]}; it writes nothing without one.",
            file=sys.stderr,
        )
        return 1
    properties = torch.cuda.get_device_properties(0)
    environment = {**os.environ, **ENVIRONMENT}
    print(f"gpu-check: {properties.name}", file=sys.stderr)
    tests = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests/gpu"],
        env=environment,
        check=False,
    )
    if tests.returncode != 0:
        print("gpu-check: conformance failed; nothing is measured", file=sys.stderr)
        return tests.returncode
    report: dict[str, Any] = {
        "gpu": properties.name,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "engine": _engine_figures(environment),
    }
    path = REPORTS / f"gpu-{_file_name(properties.name)}.json"
    path.write_text(json.dumps(report, indent=1) + "\n")
    print(f"gpu-check: wrote {path.relative_to(REPORTS.parent.parent)}", file=sys.stderr)
    return 0


def _engine_figures(environment: dict[str, str]) -> Any:
    command = [sys.executable, "-m", "services.cli.main", "bench", "engine", "--json"]
    done = subprocess.run(
        [*command, "--precisions", PRECISIONS],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def _file_name(gpu: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", gpu.lower()).strip("-")


if __name__ == "__main__":
    sys.exit(main())
