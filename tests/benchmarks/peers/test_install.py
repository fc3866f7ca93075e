import subprocess
import zipfile
from pathlib import Path

import pytest

from benchmarks.peers.catalogue import PEERS, Environment
from benchmarks.peers.install import PeerUnavailable, install

ADAPTERS = Path(__file__).parents[3] / "benchmarks" / "peers"


def tiny_wheel(directory: Path) -> Path:
    path = directory / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("tiny.py", "")
        about = "tiny-1.0.dist-info/"
        wheel.writestr(f"{about}METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        wheel.writestr(f"{about}WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{about}RECORD", "")
    return path


def test_an_environment_is_made_once(tmp_path: Path):
    wheel = tiny_wheel(tmp_path)
    tiny = Environment("tiny", ("--no-index", str(wheel)))
    python = install(tiny, tmp_path / "peers")
    assert subprocess.run([python, "-c", "import tiny"], check=False).returncode == 0
    wheel.unlink()
    assert install(tiny, tmp_path / "peers") == python


def test_a_peer_that_cannot_be_installed_says_why(tmp_path: Path):
    with pytest.raises(PeerUnavailable, match="no-such-peer"):
        install(Environment("none", ("--no-index", "no-such-peer==1.0")), tmp_path)


@pytest.mark.parametrize("spec", PEERS, ids=lambda spec: spec.name)
def test_every_peer_has_its_adapter(spec):
    assert (ADAPTERS / f"{spec.module}.py").is_file()
    assert set(spec.precisions) <= {"bf16", "int8"}


def test_a_dependency_that_does_not_load_is_taken_out_again(tmp_path: Path):
    tiny = Environment("tiny", ("--no-index", str(tiny_wheel(tmp_path))), unloadable=("tiny",))
    python = install(tiny, tmp_path / "peers")
    assert subprocess.run([python, "-c", "import tiny"], check=False).returncode != 0
