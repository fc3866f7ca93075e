import json
from pathlib import Path

import pytest

from worker.engine.model_files import eos_token_ids, model_revision


def _model(path: Path, weights: bytes = b"w" * 100, config: str = "{}") -> Path:
    path.mkdir()
    (path / "config.json").write_text(config)
    (path / "model.safetensors").write_bytes(weights)
    return path


def test_equal_files_have_equal_revisions(tmp_path: Path):
    assert model_revision(_model(tmp_path / "a")) == model_revision(_model(tmp_path / "b"))


def test_weights_size_and_config_each_change_the_revision(tmp_path: Path):
    revisions = {
        model_revision(_model(tmp_path / "a")),
        model_revision(_model(tmp_path / "b", weights=b"w" * 99 + b"x")),
        model_revision(_model(tmp_path / "c", weights=b"w" * 101)),
        model_revision(_model(tmp_path / "d", config='{"a": 1}')),
    }
    assert len(revisions) == 4


def test_every_file_may_name_ends(tmp_path: Path):
    path = _model(tmp_path / "m", config=json.dumps({"text_config": {"eos_token_id": 1}}))
    (path / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 3]}))
    (path / "tokenizer_config.json").write_text(json.dumps({"eos_token": {"content": "<end>"}}))
    added = [{"id": 7, "content": "<end>"}, {"id": 8, "content": "<other>"}]
    (path / "tokenizer.json").write_text(json.dumps({"added_tokens": added}))
    assert eos_token_ids(path) == {1, 2, 3, 7}


def test_a_model_may_have_no_end(tmp_path: Path):
    assert eos_token_ids(_model(tmp_path / "m")) == frozenset()


def test_numerics_change_the_revision(tmp_path: Path):
    path = _model(tmp_path / "m")
    assert model_revision(path, "lean:int8") != model_revision(path, "lean:bfloat16")


@pytest.mark.parametrize("size_bytes", [100_000, 70 << 20])
def test_a_fine_tune_of_one_tensor_changes_the_revision(tmp_path: Path, size_bytes: int):
    # A tensor of 1 % of the file, away from head and tail, all of whose values moved.
    start, end = size_bytes * 60 // 100, size_bytes * 61 // 100
    tuned = bytearray(size_bytes)
    tuned[start:end] = b"t" * (end - start)
    before = model_revision(_model(tmp_path / "a", weights=bytes(size_bytes)))
    assert model_revision(_model(tmp_path / "b", weights=bytes(tuned))) != before
