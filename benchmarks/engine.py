"""How fast the bare engine is, in each precision, beside what the machine could do.

Each precision is a child process with the workers' own settings. All are loaded before the first
measurement; then each round measures every cell in every precision, in another order each round,
so that a machine that slows down slows all of them. Figures are medians over rounds.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.engine_ratios import batch_8_over_1, int8_over_fp32
from benchmarks.kv_cache import KvCachePlan, Ordered, measure_kv_cache
from benchmarks.prose import TokenStream
from benchmarks.quiet import alone
from benchmarks.weights import WeightCount

BYTES_PER_WEIGHT = {"fp32": 4.0, "bf16": 2.0, "fp16": 2.0, "int8": 1.0, "int4": 0.5625}
"""Of one weight, with its share of a scale where a few weights share one (int4: groups of 32)."""

GEMM_OF = {"fp32": "fp32", "bf16": "bf16", "fp16": "bf16", "int8": "int8", "int4": "int8"}
PREFILL_TOKENS = 512
NUM_PROFILES = 3


@dataclass(frozen=True, slots=True)
class EnginePlan:
    """How much is measured.

    Attributes:
        num_rounds: how often each cell.
        batch_sizes: sequences that decode together.
        prompt_tokens, decode_tokens: of each of them; the context grows from one to their sum.
        kv_tokens: new tokens of the K/V cache comparison; 0 leaves it out.
        kv_samples: lengths at which a step without the cache is measured.
        with_shares: whether steps are profiled as well.
    """

    num_rounds: int = 3
    batch_sizes: Sequence[int] = (1, 8, 32)
    prompt_tokens: int = 128
    decode_tokens: int = 96
    kv_tokens: int = 512
    kv_samples: int = 5
    with_shares: bool = True


def measure_engine(
    children: Mapping[str, Ordered],
    plan: EnginePlan,
    stream: TokenStream,
    weights: WeightCount,
    report: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Measures all precisions in turn.

    Args:
        children: loaded engines by precision.
        plan: how much.
        stream: where prompts come from.
        weights: of the model.
        report: hears of progress.
    """
    cells = _cells(plan, stream)
    found: dict[str, dict[str, list[dict[str, Any]]]] = {
        name: {cell: [] for cell in cells} for name in children
    }
    machine: list[dict[str, Any]] = []
    names = list(children)
    for child in children.values():
        child.ask({"do": "generate", "prompts": stream.prompts(2, 64), "max_tokens": 4})
    for round_idx in range(plan.num_rounds):
        order = names if round_idx % 2 == 0 else names[::-1]
        with alone():
            machine.append(children[order[0]].ask({"do": "roofline"}))
        for cell, make_order in cells.items():
            for name in order:
                with alone():
                    found[name][cell].append(children[name].ask(make_order()))
        report(f"round {round_idx + 1} of {plan.num_rounds}")
    limits = _median_machine(machine)
    results: dict[str, Any] = {
        name: _summary(name, found[name], plan, weights, limits) for name in names
    }
    for name in names if plan.kv_tokens else ():
        with alone():
            cache = measure_kv_cache(
                children[name], KvCachePlan(plan.kv_tokens, plan.kv_samples), stream
            )
        results[name][f"kv_cache_speedup_{plan.kv_tokens}"] = cache["speedup"]
        results[name]["kv_cache"] = cache
        report(f"K/V cache, {name}")
    for name in names if plan.with_shares else ():
        with alone():
            results[name]["step_shares"] = {
                str(size): measure_shares(children[name], plan, stream, size)
                for size in plan.batch_sizes
            }
            results[name]["prefill_shares"] = measure_prefill_shares(children[name], stream)
        report(f"shares of a step, {name}")
    for result in results.values():
        result["batch_8_over_1"] = batch_8_over_1(result)
    results["int8_over_fp32"] = int8_over_fp32(results)
    results["machine"] = limits
    return results


def measure_shares(
    child: Ordered, plan: EnginePlan, stream: TokenStream, batch_size: int
) -> dict[str, float]:
    """Shares of decode steps by phase or kind of operation; torch's profiler slows steps a little.

    The prefill is taken out by measuring it alone; of a large batch it takes longer than the steps,
    so that one disturbed run would show in all shares: medians of several.
    """
    lengths = {"whole": max(2, plan.decode_tokens // 3), "first": 1}
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in lengths}
    for _ in range(NUM_PROFILES):
        for name, max_tokens in lengths.items():
            prompts = stream.prompts(batch_size, plan.prompt_tokens)
            runs[name].append(
                child.ask({"do": "profile", "prompts": prompts, "max_tokens": max_tokens})
            )

    def median(name: str, seconds_of: Callable[[dict[str, Any]], float]) -> float:
        return statistics.median(seconds_of(run) for run in runs[name])

    def own_s(name: str, kind: str) -> float:
        return median(name, lambda run: run["operations"].get(kind, 0.0))

    kinds = {kind for run in runs["whole"] for kind in run["operations"]}
    seconds = {kind: max(0.0, own_s("whole", kind) - own_s("first", kind)) for kind in kinds}
    walls = (median(name, lambda run: run["wall_s"]) for name in ("whole", "first"))
    return _shares(seconds, next(walls) - next(walls))


def measure_prefill_shares(child: Ordered, stream: TokenStream) -> dict[str, float]:
    """Shares of one prompt's prefill, its first token included."""
    order = {"do": "profile", "prompts": [stream.cut(PREFILL_TOKENS)], "max_tokens": 1}
    figures = child.ask(order)
    return _shares(figures["operations"], figures["wall_s"])


def _shares(seconds: Mapping[str, float], wall_s: float) -> dict[str, float]:
    shares = {kind: round(own_s / wall_s, 3) for kind, own_s in sorted(seconds.items())}
    shares["between operations"] = round(max(0.0, 1 - sum(seconds.values()) / wall_s), 3)
    return shares


def _cells(plan: EnginePlan, stream: TokenStream) -> dict[str, Callable[[], dict[str, Any]]]:
    def decode(size: int) -> Callable[[], dict[str, Any]]:
        return lambda: {
            "do": "generate",
            "prompts": stream.prompts(size, plan.prompt_tokens),
            "max_tokens": plan.decode_tokens,
        }

    def prefill() -> dict[str, Any]:
        return {"do": "generate", "prompts": [stream.cut(PREFILL_TOKENS)], "max_tokens": 1}

    cells: dict[str, Callable[[], dict[str, Any]]] = {
        str(size): decode(size) for size in plan.batch_sizes
    }
    return {**cells, "prefill": prefill}


def _summary(
    name: str,
    found: Mapping[str, Sequence[dict[str, Any]]],
    plan: EnginePlan,
    weights: WeightCount,
    limits: Mapping[str, Any],
) -> dict[str, Any]:
    rates = {
        str(size): [run["decode"]["num_tokens"] / run["decode"]["seconds"] for run in runs]
        for size in plan.batch_sizes
        for runs in (found[str(size)],)
    }
    step_ms = {
        size: statistics.median(s * 1000 for run in found[size] for s in run["decode"]["step_s"])
        for size in rates
    }
    prefills = [PREFILL_TOKENS / run["first_token_s"] for run in found["prefill"]]
    weight_bytes = weights.num_read_per_step * BYTES_PER_WEIGHT[name]
    gemm = limits["gemm_gop_per_s"].get(GEMM_OF[name])
    prefill_gops = statistics.median(prefills) * 2 * weights.num_per_prompt_token / 1e9
    first = next(iter(step_ms))
    read_gb_per_s = weight_bytes / step_ms[first] * 1000 / 1e9
    return {
        "decode_tps": {size: round(statistics.median(values), 1) for size, values in rates.items()},
        "decode_tps_range": {size: _range(values) for size, values in rates.items()},
        "decode_step_ms": {size: round(value, 2) for size, value in step_ms.items()},
        "prefill_tps_512": round(statistics.median(prefills), 1),
        "prefill_tps_512_range": _range(prefills),
        "weight_bytes_per_step": round(weight_bytes),
        "roofline": {
            f"decode_{first}_gb_per_s": round(read_gb_per_s, 1),
            f"decode_{first}_share": round(read_gb_per_s / limits["read_gb_per_s"], 3),
            "prefill_gop_per_s": round(prefill_gops, 1),
            "prefill_share": round(prefill_gops / gemm, 3) if gemm else None,
        },
    }


def _median_machine(measured: Sequence[dict[str, Any]]) -> dict[str, Any]:
    products = measured[0]["gemm_gop_per_s"]
    return {
        "read_gb_per_s": round(statistics.median(m["read_gb_per_s"] for m in measured), 1),
        "gemm_gop_per_s": {
            name: round(statistics.median(m["gemm_gop_per_s"][name] for m in measured), 1)
            for name in products
        },
        "num_threads": measured[0]["num_threads"],
    }


def _range(values: Sequence[float]) -> list[float]:
    return [round(min(values), 1), round(max(values), 1)]
