"""`python -m worker.quant.quantize MODEL_DIR --to int8 --out DIR`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from worker.engine.lean.config import NotLean
from worker.quant.recipe import KINDS, quantize


def main(arguments: list[str] | None = None) -> int:
    """Quantizes a model directory; the exit code says whether that worked."""
    parser = argparse.ArgumentParser(prog="python -m worker.quant.quantize", description=__doc__)
    parser.add_argument("model_dir", type=Path, help="Hugging Face directory")
    parser.add_argument("--to", choices=KINDS, required=True, help="precision of the weights")
    parser.add_argument("--out", type=Path, required=True, help="directory to write; new or empty")
    chosen = parser.parse_args(arguments)
    out_dir: Path = chosen.out
    if out_dir.exists() and any(out_dir.iterdir()):
        return _fail(f"{out_dir} is not empty")
    if not (chosen.model_dir / "config.json").is_file():
        return _fail(f"{chosen.model_dir} is no model directory: it has no config.json")
    out_dir.mkdir(parents=True, exist_ok=True)
    try:
        quantize(chosen.model_dir, out_dir, chosen.to)
    except NotLean as exc:
        return _fail(f"cannot quantize {chosen.model_dir}: {exc}")
    return 0


def _fail(message: str) -> int:
    print(message, file=sys.stderr)  # noqa: T201
    return 1


if __name__ == "__main__":
    sys.exit(main())
