from benchmarks.scheduler.decisions import DecisionPlan, measure_decisions


def test_placements_refusals_and_expiries_are_timed():
    plan = DecisionPlan(num_workers=4, num_blocks=400, num_prompt_blocks=8, num_decisions=5)
    figures = measure_decisions(plan)
    assert figures["indexed_blocks"] == 400
    for name in ("place_us", "refuse_us", "expire_us"):
        assert 0 < figures[name]["p50"] <= figures[name]["p99"]
