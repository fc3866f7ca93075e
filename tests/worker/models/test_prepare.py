import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from tokenizers import Tokenizer

from tests.worker.models.tiny_gguf import TEMPLATE, write_tiny_gguf
from worker.models.conversion import convert_gguf
from worker.models.errors import ModelUnavailable
from worker.models.prepare import main, prepare_model


def run_prepare(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "worker.models.prepare", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def adopted(tmp_path_factory):
    """The directory made beside a tiny GGUF file."""
    root = tmp_path_factory.mktemp("gguf")
    write_tiny_gguf(root / "tiny.gguf")
    arguments = ("--model", str(root / "tiny.gguf"), "--cache-dir", str(root / "cache"))
    done = run_prepare(*arguments)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["name"] == "tiny"
    return Path(answer["dir"])


def test_converted_weights_are_the_files_own_in_float32(tmp_path):
    embedding = write_tiny_gguf(tmp_path / "tiny.gguf")
    convert_gguf(tmp_path / "tiny.gguf", tmp_path)
    with safe_open(tmp_path / "model.safetensors", "np") as weights:
        np.testing.assert_array_equal(weights.get_tensor("model.embed_tokens.weight"), embedding)
        assert {weights.get_tensor(name).dtype for name in weights.keys()} == {np.dtype("float32")}  # noqa: SIM118


def test_an_adopted_tokenizer_cuts_digits_apart_before_all_else(adopted):
    tokenizer = Tokenizer.from_file(str(adopted / "tokenizer.json"))
    assert tokenizer.encode("ab\n\n12").tokens == ["ab", "ĊĊ", "1", "2"]


def test_all_end_tokens_of_a_gguf_file_are_kept(adopted):
    generation = json.loads((adopted / "generation_config.json").read_text(encoding="utf-8"))
    assert generation["eos_token_id"] == [0, 2]


def test_the_chat_template_of_a_gguf_file_is_kept(adopted):
    assert (adopted / "chat_template.jinja").read_text(encoding="utf-8") == TEMPLATE


def test_an_adopted_file_is_found_again_without_torch(adopted):
    code = (
        "import sys; from worker.models.prepare import main; status = main(sys.argv[1:]);"
        " sys.exit(status or ('torch' in sys.modules))"
    )
    gguf_path, cache = adopted.parents[2] / "tiny.gguf", adopted.parents[1]
    done = subprocess.run(
        [sys.executable, "-c", code, "--model", str(gguf_path), "--cache-dir", str(cache)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["dir"] == str(adopted)


def test_a_damaged_gguf_file_is_said_and_leaves_nothing(tmp_path):
    path = tmp_path / "damaged.gguf"
    path.write_bytes(b"GGUF\x03\x00\x00\x00")
    done = run_prepare("--model", str(path), "--cache-dir", str(tmp_path / "cache"))
    assert done.returncode == 1
    assert "error: cannot read damaged.gguf" in done.stderr
    assert [left.suffix for left in (tmp_path / "cache" / "models").iterdir()] == [".lock"]


def test_a_local_directory_is_used_as_it_is(tmp_path, capsys):
    directory = tmp_path / "my-model"
    directory.mkdir()
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (directory / name).touch()
    assert main(["--model", str(directory)]) == 0
    assert json.loads(capsys.readouterr().out) == {"name": "my-model", "dir": str(directory)}


def test_an_incomplete_directory_names_what_is_missing(tmp_path):
    (tmp_path / "config.json").touch()
    with pytest.raises(ModelUnavailable, match=r"tokenizer\.json missing"):
        prepare_model(str(tmp_path))


def test_an_error_is_one_line_on_stderr_and_exit_status_one(capsys):
    assert main(["--model", "/no/such/model"]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: model '/no/such/model': no such directory")


def test_a_hub_model_without_network_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    done = run_prepare("--model", "owner/name")
    assert done.returncode == 1
    assert "the Hub cannot be reached" in done.stderr


@pytest.mark.model
def test_the_default_model_is_whole(model_dir):
    with safe_open(model_dir / "model.safetensors", "np") as weights:
        assert len(list(weights.keys())) == 272
    tokenizer = Tokenizer.from_file(str(model_dir / "tokenizer.json"))
    text = "Grüße, 世界! 🎉\n\n1. 2024"
    assert tokenizer.decode(tokenizer.encode(text).ids) == text
    generation = json.loads((model_dir / "generation_config.json").read_text(encoding="utf-8"))
    assert generation["eos_token_id"] == [tokenizer.token_to_id("<|im_end|>")]
