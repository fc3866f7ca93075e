import pytest

from worker.models.errors import ModelUnavailable
from worker.models.sources import (
    DEFAULT_MODEL,
    DefaultModel,
    GgufFile,
    HubModel,
    LocalDirectory,
    find_source,
)


def test_the_default_name_means_the_default_model():
    assert find_source(DEFAULT_MODEL) == DefaultModel()


def test_a_directory_is_taken_as_it_is(tmp_path):
    assert find_source(str(tmp_path)) == LocalDirectory(tmp_path)


def test_a_gguf_file_is_known_by_its_ending(tmp_path):
    path = tmp_path / "tiny.GGUF"
    path.touch()
    assert find_source(str(path)) == GgufFile(path)


def test_owner_and_name_mean_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_source("Qwen/Qwen3-0.6B") == HubModel("Qwen/Qwen3-0.6B")


def test_a_path_that_exists_wins_over_a_hub_id(tmp_path, monkeypatch):
    (tmp_path / "owner" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert find_source("owner/name") == LocalDirectory(tmp_path / "owner" / "name")


@pytest.mark.parametrize("model", ["", "unheard-of", "./owner/name", "/no/such", "some/file.gguf"])
def test_nothing_that_exists_is_refused_by_name(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelUnavailable, match="no such directory or GGUF file"):
        find_source(model)


def test_another_kind_of_file_is_refused(tmp_path):
    path = tmp_path / "model.bin"
    path.touch()
    with pytest.raises(ModelUnavailable, match=r"not a \.gguf file"):
        find_source(str(path))
