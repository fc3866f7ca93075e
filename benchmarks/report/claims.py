"""What the document claims, and how each claim is read off the figures. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Figures = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Reading:
    """One claim as it is here.

    Attributes:
        before, after: without and with what is claimed to help.
        ours: the figure to hold against the document's.
        share: of what the document claims at least; 1 and more: it holds.
        note: what a reader must know beside it.
    """

    before: str
    after: str
    ours: str
    share: float
    note: str = ""

    @property
    def is_met(self) -> bool:
        """Whether the claim holds here."""
        return self.share >= 1.0


@dataclass(frozen=True, slots=True)
class Claim:
    """One line of the document.

    Attributes:
        document: its figure, in its words.
        part: name of the part that measures it.
        read: the reading; KeyError, TypeError or ZeroDivisionError where a figure is missing.
    """

    name: str
    document: str
    part: str
    read: Callable[[Figures], Reading]


def reading_of(claim: Claim, figures: Figures) -> Reading | None:
    """The claim's reading; None if these figures do not hold what it needs."""
    try:
        return claim.read(figures)
    except (KeyError, TypeError, ZeroDivisionError):
        return None


def _machine(found: Figures) -> str:
    # A machine that others use too shows here: the same one reads 35 GB/s when it is left alone.
    return f"memory read at {found['machine']['read_gb_per_s']:.0f} GB/s in the same run"


def _kv_cache(found: Figures) -> Reading:
    cache = found["bf16"]["kv_cache"]
    speedup = found["bf16"]["kv_cache_speedup_512"]
    num_new = cache["new_tokens"]
    on_s = cache["on_s"]
    return Reading(
        f"{num_new / (on_s * speedup):,.1f} tokens/s",
        f"{num_new / on_s:,.1f} tokens/s",
        f"{speedup:.1f}x",
        speedup / 10,
        f"{num_new} new tokens, bf16, one sequence; longer answers gain more; {_machine(found)}",
    )


def _batch_gain(found: Figures) -> Reading:
    gain = found["gain"]["8"]
    alone, eight = (found[size] for size in ("1", "8"))
    return Reading(
        f"{alone['requests_per_s']:.2f} requests/s, {alone['latency_ms_p50']:,.0f} ms",
        f"{eight['requests_per_s']:.2f} requests/s, {eight['latency_ms_p50']:,.0f} ms",
        f"{gain['requests_per_s']:.2f}x at {gain['latency'] - 1:+.0%}",
        min(gain["requests_per_s"] / 6, 1.2 / gain["latency"]),
        "8 at once against one at a time, through the whole cluster",
    )


def _batch_step(found: Figures) -> Reading:
    bf16 = found["bf16"]
    gain = bf16["batch_8_over_1"]
    rates, steps = bf16["decode_tps"], bf16["decode_step_ms"]
    return Reading(
        f"{rates['1']:,.0f} tokens/s, {steps['1']:.1f} ms a step",
        f"{rates['8']:,.0f} tokens/s, {steps['8']:.1f} ms a step",
        f"{gain['output_tps']:.2f}x at {gain['step_ms'] - 1:+.0%}",
        min(gain["output_tps"] / 6, 1.2 / gain["step_ms"]),
        f"the same in the bare engine, decoding alone, bf16; {_machine(found)}",
    )


def _size(found: Figures) -> Reading:
    fp32, int8 = found["fp32"], found["int8"]
    times = fp32["weight_bytes"] / int8["weight_bytes"]
    return Reading(
        f"{fp32['weight_bytes'] / 1e6:,.0f} MB",
        f"{int8['weight_bytes'] / 1e6:,.0f} MB",
        f"{times:.2f}x smaller",
        # A scale for each row of weights is part of the price of any int8.
        round(times, 1) / 4,
        "weights in memory, embeddings included",
    )


def _int8_speed(cell: str, name: str) -> Callable[[Figures], Reading]:
    def read(found: Figures) -> Reading:
        times = found["int8_over_fp32"][cell]

        def rate(precision: str) -> str:
            rates = found[precision]
            value = rates["prefill_tps_512"] if "prefill" in cell else rates["decode_tps"]["1"]
            return f"{value:,.0f} tokens/s"

        return Reading(rate("fp32"), rate("int8"), f"{times:.2f}x", times / 2.5, name)

    return read


def _perplexity(found: Figures) -> Reading:
    fp32, int8 = found["fp32"]["perplexity"], found["int8"]["perplexity"]
    rise = int8 / fp32 - 1
    # Its claim is an interval: what is below it is better still.
    return Reading(
        f"{fp32:.3f}", f"{int8:.3f}", f"{rise:+.2%}", 1.0 if rise <= 0.03 else 0.03 / rise
    )


def _throughput(found: Figures) -> Reading:
    fp32, int8 = found["fp32"]["decode_tps"]["32"], found["int8"]["decode_tps"]["32"]
    return Reading(
        f"{fp32:,.0f} tokens/s",
        f"{int8:,.0f} tokens/s",
        f"{int8:,.0f} tokens/s",
        int8 / 1_000,
        f"32 sequences decoding, before: fp32, after: int8; {_machine(found)}",
    )


def _second_turn(place: str, note: str) -> Callable[[Figures], Reading]:
    def read(found: Figures) -> Reading:
        times = found["times_faster"][place]
        return Reading(
            f"{found['cold_ttft_ms']:,.0f} ms",
            f"{found[f'{place}_ttft_ms']:,.0f} ms",
            f"{times:.1f}x",
            times / 7.7,
            note,
        )

    return read


def _hits(found: Figures) -> Reading:
    share = found["hit_share"]
    num = found["num_conversations"]
    note = f"{num} conversations of 10 turns on 3 workers; share of full blocks of prompts found"
    if found.get("identical"):
        note += "; answers equal those without caches"
    return Reading("-", f"{share:.1%}", f"{share:.1%}", share / 0.8, note)


def _users(found: Figures) -> Reading:
    done, wanted = found["completed"], found["streams"]
    return Reading(
        "-",
        f"{done:,} of {wanted:,} streams complete, {found['gaps']:,} tokens missing",
        f"{done:,}",
        done / 1_000 if not found["gaps"] else 0.0,
        f"one gateway, fake workers at 10 tokens/s each; {found['tokens_per_s']:,.0f} tokens/s,"
        f" {found['cpu_us_per_token']:.0f} us of its CPU per token, 99th percentile of the gaps"
        f" {found['itl_p99_ratio']:.1f} times the workers' pace",
    )


def _memory(found: Figures) -> Reading:
    before = found["default"]["memory_mib"]["loaded"]
    after = found["edge"]["memory_mib"]["loaded"]
    return Reading(
        f"{before:,.0f} MiB",
        f"{after:,.0f} MiB",
        f"{before / after:.2f}x less",
        before / after,
        "all processes under load, default against `--profile edge`; claimed: less",
    )


def _profile_speed(load: str) -> Callable[[Figures], Reading]:
    def read(found: Figures) -> Reading:
        before, after = found["default"][load], found[load][load]
        return Reading(
            f"{before['throughput']:,.0f} tokens/s, TTFT p50 {before['p50 ttft']:,.0f} ms",
            f"{after['throughput']:,.0f} tokens/s, TTFT p50 {after['p50 ttft']:,.0f} ms",
            f"{after['throughput'] / before['throughput']:.2f}x",
            after["throughput"] / before["throughput"],
            f"load `{load}`, default against `--profile {load}`; claimed: faster",
        )

    return read


CLAIMS: tuple[Claim, ...] = (
    Claim("K/V cache on against off", "10-50x", "kv-cache", _kv_cache),
    Claim("batch of 8 against 1", "6x at +20 % latency", "batching", _batch_gain),
    Claim("batch of 8 against 1, a step", "6x at +20 % latency", "precisions", _batch_step),
    Claim("int8 weights: size", "4x smaller", "quality", _size),
    Claim(
        "int8 against fp32: one sequence", "2.5-4x faster", "precisions",
        _int8_speed("decode_tps_1", "decoding alone"),
    ),
    Claim(
        "int8 against fp32: prompts", "2.5-4x faster", "precisions",
        _int8_speed("prefill_tps_512", "prefill of 512 tokens"),
    ),
    Claim("int8 against fp32: perplexity", "+1-3 %", "quality", _perplexity),
    Claim(
        "session cache, same worker", "7.7x", "second-turns",
        _second_turn("same_worker", "TTFT of a second turn of 1,500 tokens"),
    ),
    Claim(
        "session cache, another worker", "7.7x", "second-turns",
        _second_turn("other_worker", "the first worker is gone"),
    ),
    Claim("session cache: hits", "> 80 %", "conversations", _hits),
    Claim("users at once", "1,000", "users", _users),
    Claim("throughput", "> 1,000 tokens/s", "precisions", _throughput),
    Claim("throughput of a batch job", "more", "profiles", _profile_speed("batch")),
    Claim("latency and throughput of a chat", "more", "profiles", _profile_speed("chat")),
    Claim("memory", "less", "profiles", _memory),
)  # fmt: skip
