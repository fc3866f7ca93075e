"""Compiles the native kernels, once per source and compiler flags.

`python -m worker.kernels.build` does so ahead of the first worker; `--out DIR` for an image, whose
workers find them by TOKENMILL_KERNELS_DIR.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from pathlib import Path
from types import ModuleType

import structlog
import torch
from torch.utils import cpp_extension

from worker.models.cache import build_once, default_cache_dir, say
from worker.models.errors import ModelUnavailable

log = structlog.get_logger(__name__)

MODULE_NAME = "tokenmill_stack"
NEEDED_FEATURES = ("avx512_f", "avx512_bw", "avx512_vl", "avx512_dq", "avx512_vnni", "avx512_bf16")
BUILD_TIMEOUT_S = 300

_SOURCES = Path(__file__).parent / "native"
_FLAGS = (
    "-O3",
    "-std=c++20",
    "-fPIC",
    "-fvisibility=hidden",
    # A sum and a product must round as they are written, whatever the compiler's version.
    "-ffp-contract=off",
    "-mavx512f",
    "-mavx512bw",
    "-mavx512vl",
    "-mavx512dq",
    "-mavx512vnni",
    "-mavx512bf16",
    "-mfma",
    f"-DTOKENMILL_MODULE={MODULE_NAME}",
)


class KernelsUnavailable(Exception):
    """This machine cannot run, or cannot compile, the native kernels."""


def kernels_dir() -> Path:
    """`TOKENMILL_KERNELS_DIR`, else a directory in the cache."""
    if chosen := os.environ.get("TOKENMILL_KERNELS_DIR"):
        return Path(chosen).expanduser()
    return default_cache_dir() / "kernels"


def load_kernels() -> ModuleType:
    """The compiled module; compiles it first (about 20 s) where no other process has yet.

    Raises:
        KernelsUnavailable: says what is missing.
    """
    capabilities = torch.cpu.get_capabilities()
    missing = [name for name in NEEDED_FEATURES if not capabilities.get(name)]
    if missing:
        raise KernelsUnavailable(f"this CPU lacks {', '.join(missing)}")
    directory = build_kernels(kernels_dir())
    spec = importlib.util.spec_from_file_location(MODULE_NAME, directory / f"{MODULE_NAME}.so")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build_kernels(directory: Path) -> Path:
    """Compiles the kernels into a directory below `directory`, unless they are there.

    Raises:
        KernelsUnavailable: there is no compiler, or no place to write to.
    """
    try:
        return build_once(directory / kernels_digest(), _compile)
    except ModelUnavailable as exc:
        raise KernelsUnavailable(str(exc)) from exc


def kernels_digest() -> str:
    """Names the source, and the Python that the module is for."""
    digest = blake2b(digest_size=8)
    for path in sorted(_SOURCES.iterdir()):
        digest.update(path.read_bytes())
    suffix = str(sysconfig.get_config_var("EXT_SUFFIX"))
    digest.update(" ".join((*_FLAGS, suffix)).encode())
    return digest.hexdigest()


def _compile(directory: Path) -> None:
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        raise KernelsUnavailable("there is no C++ compiler")
    log.info("kernels.compiling", compiler=compiler)
    # Of torch only its copy of pybind11: the kernels take numpy's arrays and bind to no torch.
    includes = [
        f"-isystem{path}"
        for path in (*cpp_extension.include_paths(), sysconfig.get_path("include"))
    ]
    with tempfile.TemporaryDirectory(dir=directory) as objects:
        units = {path: Path(objects) / f"{path.stem}.o" for path in _SOURCES.glob("*.cpp")}
        _run_all(
            [compiler, *_FLAGS, *includes, "-c", str(source), "-o", str(unit)]
            for source, unit in units.items()
        )
        module = directory / f"{MODULE_NAME}.so"
        _run_all([[compiler, "-shared", *map(str, units.values()), "-o", str(module)]])


def _run_all(commands: Iterable[list[str]]) -> None:
    """Runs commands side by side; waits for all."""
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for command in commands]
    for process in running:
        try:
            _, said = process.communicate(timeout=BUILD_TIMEOUT_S)
        except subprocess.TimeoutExpired as exc:
            for each in running:
                each.kill()
            raise KernelsUnavailable(f"the compiler took more than {BUILD_TIMEOUT_S} s") from exc
        if process.returncode != 0:
            first_error = next((line for line in said.splitlines() if "error" in line), "?")
            raise KernelsUnavailable(f"the kernels do not compile: {first_error}")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m worker.kernels.build", description=__doc__)
    parser.add_argument(
        "--out",
        type=Path,
        default=None,
        help="where (default: TOKENMILL_KERNELS_DIR, else the cache directory)",
    )
    chosen = parser.parse_args(arguments)
    try:
        say(f"kernels: {build_kernels(chosen.out or kernels_dir())}")
    except KernelsUnavailable as exc:
        say(f"no native kernels: {exc}; workers compute by torch's operations instead")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
