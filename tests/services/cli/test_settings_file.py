import tomllib
from pathlib import Path

import pytest

from services.cli.failure import CommandFailed
from services.cli.settings_file import apply_settings_file, settings_text


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "settings.toml"
    path.write_text(text)
    return path


def test_what_is_written_is_read_back(tmp_path: Path):
    fields = {"quantization": "int8", "max_num_seqs": "64", "trace_steps": "False", "workers": "2"}
    text = settings_text(fields, "why\nhow")
    assert text.startswith("# why\n# how\n")
    assert tomllib.loads(text)["worker"]["max_num_seqs"] == 64
    environment: dict[str, str] = {}
    assert apply_settings_file(written(tmp_path, text), environment) == {"workers": 2}
    assert environment == {
        "TOKENMILL_QUANTIZATION": "int8",
        "TOKENMILL_MAX_NUM_SEQS": "64",
        "TOKENMILL_TRACE_STEPS": "False",
    }


def test_what_the_user_set_stays(tmp_path: Path):
    environment = {"TOKENMILL_QUANTIZATION": "none"}
    apply_settings_file(written(tmp_path, '[worker]\nquantization = "int8"\n'), environment)
    assert environment == {"TOKENMILL_QUANTIZATION": "none"}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("no = toml = here", "is no TOML"),
        ("quantization = 1", "'quantization' outside of a section"),
        ("[worker]\nx = [1]", r"worker.x is \[1\]; allowed: text, number or true/false"),
        ("[cluster]\nworkers = 0", "cluster.workers is 0; allowed: 1 to 64"),
        ("[cluster]\nnodes = 1", "'nodes'; allowed: workers, gateways"),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_the_reason(tmp_path: Path, text: str, why: str):
    with pytest.raises(CommandFailed, match=why):
        apply_settings_file(written(tmp_path, text), {})


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(CommandFailed, match=r"gone\.toml cannot be read"):
        apply_settings_file(tmp_path / "gone.toml", {})
