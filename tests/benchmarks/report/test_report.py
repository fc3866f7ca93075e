from pathlib import Path
from typing import Any

import pytest

from benchmarks.report.claims import CLAIMS, Claim, Reading, reading_of
from benchmarks.report.page import as_markdown, readings
from benchmarks.report.parts import PARTS, Result
from benchmarks.report.plot import plot
from services.cli.bench.report import report
from services.cli.failure import CommandFailed

FIGURES: dict[str, dict[str, Any]] = {
    "kv-cache": {
        "bf16": {"kv_cache_speedup_512": 8.0, "kv_cache": {"new_tokens": 512, "on_s": 4.0}},
        "machine": {"read_gb_per_s": 30.0},
    },
    "precisions": {
        "fp32": {"decode_tps": {"1": 20.0, "32": 300.0}, "prefill_tps_512": 500.0},
        "bf16": {
            "decode_tps": {"1": 50.0, "8": 310.0},
            "decode_step_ms": {"1": 20.0, "8": 25.0},
            "batch_8_over_1": {"output_tps": 6.2, "step_ms": 1.25},
        },
        "int8": {"decode_tps": {"1": 80.0, "32": 1200.0}, "prefill_tps_512": 1500.0},
        "int8_over_fp32": {"decode_tps_1": 4.0, "prefill_tps_512": 3.0},
        "machine": {"read_gb_per_s": 30.0},
    },
    "quality": {
        "fp32": {"perplexity": 20.0, "weight_bytes": 400},
        "int8": {"perplexity": 20.1, "weight_bytes": 102},
    },
    "conversations": {"hit_share": 0.9, "identical": True, "num_conversations": 20},
}


def results() -> dict[str, Result]:
    found = {
        name: Result(f"tokenmill bench {name}", figures, machine="2 CPUs", unix_s=1e9, seconds=9.0)
        for name, figures in FIGURES.items()
    }
    return {**found, "users": Result("tokenmill bench gateway", reason="it fell over")}


def reading(name: str) -> Reading:
    claim: Claim = next(claim for claim in CLAIMS if claim.name == name)
    found = reading_of(claim, FIGURES[claim.part])
    assert found is not None
    return found


def test_every_claim_has_a_part_that_measures_it():
    assert {claim.part for claim in CLAIMS} == {part.name for part in PARTS}


def test_a_claim_that_holds_and_one_that_does_not():
    assert reading("throughput").is_met
    short = reading("K/V cache on against off")
    assert (short.ours, short.share, short.is_met) == ("8.0x", 0.8, False)
    assert (short.before, short.after) == ("16.0 tokens/s", "128.0 tokens/s")


def test_a_batch_must_gain_as_much_and_cost_as_little_as_claimed():
    gain = reading("batch of 8 against 1, a step")
    assert gain.ours == "6.20x at +25%"
    assert not gain.is_met


def test_less_loss_than_claimed_is_no_shortfall():
    assert reading("int8 against fp32: perplexity").is_met


def test_figures_without_the_figure_are_not_measured():
    assert reading_of(CLAIMS[0], {"bf16": {}}) is None


def test_the_page_says_what_holds_what_does_not_and_what_is_missing():
    page = as_markdown(results(), has_plot=True)
    assert "| throughput | > 1,000 tokens/s | 300 tokens/s | 1,200 tokens/s |" in page
    assert "- K/V cache on against off: 8.0x, 80% of what is claimed (10-50x)." in page
    assert "| users at once | 1,000 | | | | not yet | users |" in page
    assert "left out: it fell over" in page
    assert "](report.svg)" in page


def test_the_picture_is_the_same_for_the_same_figures(tmp_path: Path):
    pytest.importorskip("matplotlib")
    found = readings(results())
    assert plot(found, tmp_path / "a.svg")
    assert plot(found, tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_an_unknown_part_is_refused_with_those_that_exist(tmp_path: Path):
    with pytest.raises(CommandFailed, match="--parts is 'speed'; allowed: kv-cache, precisions"):
        report(tmp_path, names=["speed"], minutes=1, measures_again=False)


def test_without_time_every_part_is_left_for_the_next_call(tmp_path: Path):
    found = report(tmp_path, names=[], minutes=0.1, measures_again=False)
    assert set(found["left_out"]) == {part.name for part in PARTS}
    assert "the next call goes on here" in (tmp_path / "report.md").read_text()
