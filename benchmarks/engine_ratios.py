"""What `bench engine` compares: a batch with a sequence alone, int8 with float32."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def batch_8_over_1(result: Mapping[str, Any]) -> dict[str, float] | None:
    """Of one precision: output tokens per second and time of a step, 8 sequences against one.

    Returns:
        None if either was not measured.
    """
    rates, step_ms = result["decode_tps"], result["decode_step_ms"]
    if not {"1", "8"} <= rates.keys():
        return None
    return {
        "output_tps": round(rates["8"] / rates["1"], 2),
        "step_ms": round(step_ms["8"] / step_ms["1"], 2),
    }


def int8_over_fp32(results: Mapping[str, Mapping[str, Any]]) -> dict[str, float] | None:
    """How many times as fast int8 is, alone and in prefill.

    Returns:
        None if either was not measured.
    """
    if not {"int8", "fp32"} <= results.keys():
        return None
    int8, fp32 = results["int8"], results["fp32"]
    ratios = {"prefill_tps_512": round(int8["prefill_tps_512"] / fp32["prefill_tps_512"], 2)}
    if "1" in int8["decode_tps"]:
        ratios["decode_tps_1"] = round(int8["decode_tps"]["1"] / fp32["decode_tps"]["1"], 2)
    return ratios
