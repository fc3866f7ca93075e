from benchmarks.cache.misses import MissPlan, measure_misses


def test_both_kinds_of_misses_are_measured_and_nothing_is_found():
    report = measure_misses(MissPlan(num_pairs=3, num_lookups=20, num_prompts=2, prompt_tokens=64))
    assert report["there_us"] > 0
    assert report["nowhere_us"] > 0
    assert report["num_pairs"] == 3
