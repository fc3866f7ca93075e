from benchmarks.profiles import as_json, as_table
from benchmarks.tuning.figures import Figures


def loaded(tokens: int, memory_mib: float) -> Figures:
    return Figures(
        seconds=2.0,
        output_tokens=tokens,
        samples={"ttft": [100.0, 300.0], "itl": [10.0, 12.0]},
        memory_mib=memory_mib,
    )


FIGURES = {
    "default": {"chat": loaded(200, 900.0), "batch": loaded(400, 1_000.0)},
    "edge": {"chat": loaded(100, 500.0), "batch": loaded(300, 400.0)},
}
IDLE = {"default": 800.0, "edge": 300.0}


def test_the_table_sets_each_profile_beside_the_default():
    table = as_table(FIGURES, IDLE)
    assert table[2].startswith("| default | 100 / 300 | 10.0 | 100 (1.00x) |")
    assert table[3].endswith("| 50 (0.50x) | 100 / 300 | 10.0 | 150 (0.75x) | 300 / 500 |")
    assert all(line.count("|") == table[0].count("|") for line in table)


def test_the_figures_are_kept_by_profile_and_load():
    found = as_json(FIGURES, IDLE)
    assert found["edge"]["memory_mib"] == {"idle": 300, "loaded": 500}
    assert found["edge"]["batch"]["throughput"] == 150.0
