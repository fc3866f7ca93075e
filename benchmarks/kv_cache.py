"""New tokens with the K/V cache, and without: everything recomputed for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from benchmarks.prose import TokenStream

KV_PROMPT_TOKENS = 32
CHECK_TOKENS = 48
"""New tokens that are really made without the cache, beside what samples say of them."""


class Ordered(Protocol):
    """Something that carries out orders (benchmarks.children.Child)."""

    def ask(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """Gives an order and waits for the answer."""
        ...


@dataclass(frozen=True, slots=True)
class KvCachePlan:
    """How much is measured.

    Attributes:
        new_tokens: of the comparison.
        samples: lengths at which a step without the cache is measured.
    """

    new_tokens: int = 512
    samples: int = 5


def measure_kv_cache(child: Ordered, plan: KvCachePlan, stream: TokenStream) -> dict[str, Any]:
    """Seconds with and without.

    With the cache all tokens are generated. Without it a step costs a prefill of all tokens so
    far: measured at some lengths, summed over all with straight lines between them, and checked
    against the last CHECK_TOKENS steps done one by one.
    """
    on = child.ask(
        {"do": "generate", "prompts": [stream.cut(KV_PROMPT_TOKENS)], "max_tokens": plan.new_tokens}
    )
    last = KV_PROMPT_TOKENS + plan.new_tokens - 1
    gaps = max(1, plan.samples - 1)
    lengths = [KV_PROMPT_TOKENS + (last - KV_PROMPT_TOKENS) * i // gaps for i in range(gaps + 1)]
    step_s = [_off_step_s(child, stream, length) for length in lengths]

    def from_samples(begin: int) -> float:
        return sum(between(lengths, step_s, length) for length in range(begin, last + 1))

    off_s = from_samples(KV_PROMPT_TOKENS)
    checked = max(KV_PROMPT_TOKENS, last + 1 - CHECK_TOKENS)
    run_s = sum(_off_step_s(child, stream, length) for length in range(checked, last + 1))
    return {
        "new_tokens": plan.new_tokens,
        "prompt_tokens": KV_PROMPT_TOKENS,
        "on_s": round(on["wall_s"], 3),
        "off_s_from_samples": round(off_s, 3),
        "off_step_ms": {
            str(length): round(s * 1000, 1) for length, s in zip(lengths, step_s, strict=True)
        },
        "off_run_over_samples": round(run_s / from_samples(checked), 3),
        "speedup": round(off_s / on["wall_s"], 2),
    }


def between(lengths: Sequence[int], seconds: Sequence[float], length: int) -> float:
    """Seconds at a length, on straight lines between the measured ones."""
    for idx in range(1, len(lengths)):
        left, right = lengths[idx - 1], lengths[idx]
        if length <= right:
            share = (length - left) / (right - left)
            return seconds[idx - 1] + share * (seconds[idx] - seconds[idx - 1])
    return seconds[-1]


def _off_step_s(child: Ordered, stream: TokenStream, length: int) -> float:
    order = {"do": "generate", "prompts": [stream.cut(length)], "max_tokens": 1}
    wall_s: float = child.ask(order)["wall_s"]
    return wall_s
