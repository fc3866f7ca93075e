"""`python -m worker.quant.quantize MODEL_DIR --to int8 --out DIR`."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from worker.engine.lean.config import NotLean
from worker.models.cache import built_aside, is_full, require_room, say
from worker.models.errors import ModelUnavailable
from worker.quant.recipe import KINDS, least_bytes, quantize

_INTERRUPTED = 130
"""Exit code, as of a process that SIGINT ended."""


def main(arguments: list[str] | None = None) -> int:
    """Quantizes a model directory; the exit code says whether that worked.

    The output directory appears whole at the end, or not at all.
    """
    parser = argparse.ArgumentParser(prog="python -m worker.quant.quantize", description=__doc__)
    parser.add_argument("model_dir", type=Path, help="Hugging Face directory")
    parser.add_argument("--to", choices=KINDS, required=True, help="precision of the weights")
    parser.add_argument("--out", type=Path, required=True, help="directory to write; new or empty")
    chosen = parser.parse_args(arguments)
    # Told to stop, we tidy up as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _quantize(chosen.model_dir, chosen.out.absolute(), chosen.to)
    except (NotLean, ModelUnavailable) as exc:
        return _fail(f"cannot quantize {chosen.model_dir}: {exc}")
    except OSError as exc:
        why = "the disk is full" if is_full(exc) else exc.strerror
        return _fail(f"cannot write {chosen.out}: {why}")
    except KeyboardInterrupt:
        _fail(f"interrupted; nothing was written to {chosen.out}")
        return _INTERRUPTED
    return 0


def _quantize(model_dir: Path, out_dir: Path, kind: str) -> None:
    if not (model_dir / "config.json").is_file():
        raise ModelUnavailable("it is no model directory: it has no config.json")
    if out_dir.exists() and not out_dir.is_dir():
        raise ModelUnavailable(f"--out {out_dir} is a file; it must be a new or empty directory")
    if out_dir.is_dir() and any(out_dir.iterdir()):
        raise ModelUnavailable(f"--out {out_dir} is not empty; choose a new directory")
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    require_room(out_dir.parent, least_bytes(model_dir, kind), "choose another --out")
    with built_aside(out_dir) as unfinished:
        quantize(model_dir, unfinished, kind)


def _fail(message: str) -> int:
    say(message)
    return 1


if __name__ == "__main__":
    sys.exit(main())
