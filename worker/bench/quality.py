"""`python -m worker.bench.quality --text FILE`: one precision's figures, as one line of JSON.

Settings come from the environment, as a worker's do.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from pathlib import Path

import structlog
import torch
from tokenizers import Tokenizer
from torch.nn import functional

from services.core.sampling import SamplingParams
from services.runtime.settings import read_settings
from worker.engine.lean.model import LeanModel
from worker.engine.lean.native_model import NativeModel
from worker.engine.model_paths import load_step_model
from worker.engine.port import SequenceSpec
from worker.engine.sequence import LiveSequence
from worker.engine.step_layout import lay_out
from worker.engine.step_model import StepModel
from worker.engine.step_plan import SequenceSlice
from worker.settings import WorkerSettings

WINDOW = 512
"""Tokens that are scored together; each window starts anew."""

_NUM_DECODED = 64


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=None)
    chosen = parser.parse_args()
    # stdout belongs to the result.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    settings = read_settings(WorkerSettings)
    if settings.num_threads is not None:
        torch.set_num_threads(settings.num_threads)
    model = load_step_model(settings.model_dir, settings.engine_settings())
    if not isinstance(model, LeanModel | NativeModel):
        print("neither the native nor the lean path computes this model", file=sys.stderr)  # noqa: T201
        return 1
    _prefill(model, _sequence(model, list(range(1, 33))))
    first_token_s = process_age_s()
    tokenizer = Tokenizer.from_file(str(settings.model_dir / "tokenizer.json"))
    token_ids = tokenizer.encode(chosen.text.read_text(encoding="utf-8")).ids
    if chosen.tokens is not None:
        token_ids = token_ids[: chosen.tokens]
    decode_tps = measure_decode(model, token_ids[:32])
    figures = {
        "precision": model.numerics,
        "first_token_s": first_token_s,
        "weight_bytes": model.weight_bytes,
        "float32_bytes": 4 * model.num_weights,
        "disk_bytes": model.disk_bytes,
        "kv_block_bytes": len(model.pool.export_block(0)),
        "rss_bytes": resident_bytes(),
        "decode_tps": decode_tps,
    }
    started = time.perf_counter()
    figures["perplexity"] = measure_perplexity(model, token_ids)
    figures["num_tokens"] = len(token_ids)
    figures["scored_tps"] = len(token_ids) / (time.perf_counter() - started)
    print(json.dumps(figures))  # noqa: T201
    return 0


@torch.inference_mode()
def measure_perplexity(model: StepModel, token_ids: list[int]) -> float:
    """Of the tokens of a text but for each window's first."""
    total, num_scored = 0.0, 0
    for start in range(0, len(token_ids) - 1, WINDOW):
        window = token_ids[start : start + WINDOW]
        if len(window) < 2:
            continue
        seq = _sequence(model, window)
        prefill = SequenceSlice(seq, 0, len(window), is_prefill=True, samples=False)
        rows = range(len(window) - 1)
        logits = model.compute_logits(lay_out([prefill], model.pool), rows)
        wanted = torch.tensor(window[1:])
        total += functional.cross_entropy(logits, wanted, reduction="sum").item()
        num_scored += len(window) - 1
    return math.exp(total / num_scored)


@torch.inference_mode()
def measure_decode(model: StepModel, prompt: list[int]) -> float:
    """Tokens per second of one sequence, greedy, the first token not counted."""
    seq = _sequence(model, prompt)
    _prefill(model, seq)
    seq.token_ids.append(prompt[-1])
    started = time.perf_counter()
    for position in range(len(prompt), len(prompt) + _NUM_DECODED):
        decode = SequenceSlice(seq, position, 1, is_prefill=False, samples=True)
        logits = model.compute_logits(lay_out([decode], model.pool), [0])
        seq.token_ids.append(int(logits.argmax()))
    return _NUM_DECODED / (time.perf_counter() - started)


def process_age_s() -> float:
    """Seconds since this process was started, imports and all."""
    # Fields count from behind the name, which may hold spaces: man 5 proc, starttime.
    fields = Path("/proc/self/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    started_s = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started_s


def resident_bytes() -> int:
    """Memory of this process now."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


@torch.inference_mode()
def _prefill(model: StepModel, seq: LiveSequence) -> None:
    num_rows = seq.num_prompt
    prefill = SequenceSlice(seq, 0, num_rows, is_prefill=True, samples=True)
    model.compute_logits(lay_out([prefill], model.pool), [num_rows - 1])


def _sequence(model: StepModel, token_ids: list[int]) -> LiveSequence:
    spec = SequenceSpec("quality", tuple(token_ids), SamplingParams())
    seq = LiveSequence(spec, arrival_idx=0, root=b"", max_model_len=model.max_model_len)
    num_blocks = -(-(len(token_ids) + _NUM_DECODED + 1) // model.pool.layout.block_size)
    seq.block_table = list(range(num_blocks))
    return seq


if __name__ == "__main__":
    sys.exit(main())
