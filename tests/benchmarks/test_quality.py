from __future__ import annotations

from pathlib import Path

from benchmarks.quality import TEXT, compare, perturb


def test_the_text_is_long_enough():
    # The default model makes a token of four characters of English.
    assert len(TEXT.read_text(encoding="utf-8")) > 4 * 30_000


def test_precisions_are_compared_with_float32():
    figures = compare(
        {
            "fp32": {"perplexity": 20.0, "weight_bytes": 500, "float32_bytes": 400},
            "int8": {"perplexity": 21.0, "weight_bytes": 100, "float32_bytes": 400},
        }
    )
    assert figures["int8"]["perplexity_ratio"] == 1.05
    assert figures["int8"]["weight_bytes_ratio"] == 0.25


def test_int8_kv_is_compared_with_the_same_weights_over_plain_kv():
    figures = compare(
        {
            "bf16": {"perplexity": 20.0, "kv_block_bytes": 100},
            "bf16+kv8": {"perplexity": 20.5, "kv_block_bytes": 53},
        }
    )
    assert figures["bf16+kv8"]["perplexity_over_plain_kv"] == 1.025
    assert figures["bf16+kv8"]["kv_block_bytes_over_plain_kv"] == 0.53


def test_a_perturbed_copy_is_made_by_a_process_of_its_own(tmp_path: Path):
    model_dir, own_dir = tmp_path / "model", tmp_path / "own"
    model_dir.mkdir()
    own_dir.mkdir()
    (model_dir / "config.json").write_text("{}")
    assert perturb(model_dir, own_dir) == own_dir
    assert (own_dir / "config.json").read_text() == "{}"
