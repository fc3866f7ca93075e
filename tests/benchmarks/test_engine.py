import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmarks.engine import EnginePlan, measure_engine, measure_shares
from benchmarks.engine_ratios import batch_8_over_1, int8_over_fp32
from benchmarks.kv_cache import KvCachePlan, measure_kv_cache
from benchmarks.prose import TokenStream
from benchmarks.weights import WeightCount, count_weights

PLAN = EnginePlan(num_rounds=2, batch_sizes=(1, 8), kv_tokens=64, kv_samples=3)
WEIGHTS = WeightCount(num_total=1000, num_embedding=400, is_tied=True)


class FakeEngineChild:
    """Decodes a token of each sequence in step_s, prefills at a rate."""

    def __init__(self, name: str, log: list[str], step_s: float = 0.01) -> None:
        self.name, self.log, self.step_s = name, log, step_s
        self.prompts: list[tuple[int, ...]] = []

    def ask(self, order: Mapping[str, Any]) -> dict[str, Any]:
        if order["do"] == "roofline":
            return {"read_gb_per_s": 10.0, "gemm_gop_per_s": {"bf16": 100.0}, "num_threads": 2}
        self.log.append(self.name)
        prompts, num_steps = order["prompts"], order["max_tokens"] - 1
        self.prompts += [tuple(ids) for ids in prompts]
        first_s = sum(map(len, prompts)) / 1000
        decode_s = num_steps * self.step_s
        return {
            "wall_s": first_s + decode_s,
            "first_token_s": first_s,
            "operations": {"linear": first_s + decode_s / 2},
            "decode": {
                "num_tokens": len(prompts) * num_steps,
                "seconds": decode_s,
                "step_s": [self.step_s] * num_steps,
            },
        }


def stream() -> TokenStream:
    return TokenStream(range(7168))


def test_rates_shares_and_rooflines_are_those_of_the_steps():
    child = FakeEngineChild("bf16", [])
    figures = measure_engine({"bf16": child}, PLAN, stream(), WEIGHTS)["bf16"]
    assert figures["decode_tps"] == {"1": 100.0, "8": 800.0}
    assert figures["prefill_tps_512"] == 1000.0
    assert figures["step_shares"]["1"] == {"linear": 0.5, "between operations": 0.5}
    assert figures["weight_bytes_per_step"] == 2000


def test_one_disturbed_run_does_not_show_in_the_shares():
    child = DisturbedOnce("bf16", [])
    assert measure_shares(child, PLAN, stream(), 1) == {"linear": 0.5, "between operations": 0.5}


class DisturbedOnce(FakeEngineChild):
    """Takes a second longer the first time that it is profiled."""

    def ask(self, order: Mapping[str, Any]) -> dict[str, Any]:
        figures = super().ask(order)
        if len(self.log) == 1:
            figures["wall_s"] += 1
            figures["operations"]["linear"] += 1
        return figures


def test_precisions_take_turns_and_each_goes_first_as_often():
    log: list[str] = []
    children = {name: FakeEngineChild(name, log) for name in ("bf16", "int8")}
    plan = EnginePlan(num_rounds=2, batch_sizes=(1,), kv_tokens=0, with_shares=False)
    measure_engine(children, plan, stream(), WEIGHTS)
    warm_up, first, second = log[:2], log[2:6], log[6:]
    assert warm_up == ["bf16", "int8"]
    assert first == ["bf16", "int8"] * 2
    assert second == ["int8", "bf16"] * 2


def test_without_the_cache_every_token_costs_a_prefill_of_all_before_it():
    figures = measure_kv_cache(FakeEngineChild("bf16", []), KvCachePlan(64, 3), stream())
    # 32 prompt tokens, then 64 steps over 32, 33, ... 95 tokens at 1 ms each.
    assert figures["off_s_from_samples"] == pytest.approx(sum(range(32, 96)) / 1000, abs=0.002)
    assert figures["on_s"] == pytest.approx(0.032 + 63 * 0.01)
    assert figures["off_run_over_samples"] == pytest.approx(1.0)


def test_a_batch_and_int8_are_compared_with_what_they_replace():
    fp32: dict[str, Any] = {
        "decode_tps": {"1": 50.0, "8": 200.0},
        "decode_step_ms": {"1": 20.0, "8": 40.0},
        "prefill_tps_512": 500.0,
    }
    assert batch_8_over_1(fp32) == {"output_tps": 4.0, "step_ms": 2.0}
    assert batch_8_over_1({"decode_tps": {"1": 50.0}, "decode_step_ms": {"1": 20.0}}) is None
    int8 = {"decode_tps": {"1": 200.0}, "prefill_tps_512": 1500.0}
    ratios = {"decode_tps_1": 4.0, "prefill_tps_512": 3.0}
    assert int8_over_fp32({"fp32": fp32, "int8": int8}) == ratios
    assert int8_over_fp32({"int8": int8}) is None


def test_no_two_prompts_begin_alike():
    prompts = stream().prompts(60, 128)
    assert len({tuple(ids[:1]) for ids in prompts}) == 60


def test_weights_are_counted_once_and_the_tied_output_layer_is_the_embedding(tmp_path: Path):
    header = {
        "model.embed_tokens.weight": {"shape": [10, 4]},
        "model.layers.0.w.weight": {"shape": [4, 4]},
        "__metadata__": {"format": "pt"},
    }
    encoded = json.dumps(header).encode()
    file = tmp_path / "model.safetensors"
    file.write_bytes(struct.pack("<Q", len(encoded)) + encoded)
    count = count_weights(tmp_path)
    assert count == WeightCount(56, 40, is_tied=True)
    assert (count.num_read_per_step, count.num_per_prompt_token) == (56, 16)
