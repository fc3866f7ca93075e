"""Compiles the native kernels, once per source, instruction set and compiler flags.

`python -m worker.kernels.build` does so ahead of the first worker, for this machine; `--out DIR`
for an image, for every instruction set: its workers find them by TOKENMILL_KERNELS_DIR.
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
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from types import ModuleType

import structlog
import torch
from torch.utils import cpp_extension

from worker.models.cache import build_once, default_cache_dir, say
from worker.models.errors import ModelUnavailable

log = structlog.get_logger(__name__)

BUILD_TIMEOUT_S = 300

_SOURCES = Path(__file__).parent / "native"
_FLAGS = (
    "-O3",
    "-std=c++20",
    "-fPIC",
    "-fvisibility=hidden",
    # A sum and a product must round as they are written, whatever the compiler's version.
    "-ffp-contract=off",
)


@dataclass(frozen=True, slots=True)
class InstructionSet:
    """What a build of the kernels is for. Each has bits of its own.

    Attributes:
        name: by which it is chosen.
        needed: what the CPU must have, in torch's words.
        flags: of the compiler.
    """

    name: str
    needed: tuple[str, ...]
    flags: tuple[str, ...]

    @property
    def module_name(self) -> str:
        """Of the compiled module: a process may have loaded several."""
        return f"tokenmill_{self.name}"

    @property
    def all_flags(self) -> tuple[str, ...]:
        """Of the compiler, those of every build included."""
        return (*_FLAGS, *self.flags, f"-DTOKENMILL_MODULE={self.module_name}")


INSTRUCTION_SETS = (
    InstructionSet(
        "avx512",
        ("avx512_f", "avx512_bw", "avx512_vl", "avx512_dq", "avx512_vnni", "avx512_bf16"),
        (*(f"-mavx512{part}" for part in ("f", "bw", "vl", "dq", "vnni", "bf16")), "-mfma"),
    ),
    InstructionSet("avx2", ("avx2", "fma3"), ("-mavx2", "-mfma")),
)
"""The fastest first."""


class KernelsUnavailable(Exception):
    """This machine cannot run, or cannot compile, the native kernels."""


def kernels_dir() -> Path:
    """`TOKENMILL_KERNELS_DIR`, else a directory in the cache."""
    if chosen := os.environ.get("TOKENMILL_KERNELS_DIR"):
        return Path(chosen).expanduser()
    return default_cache_dir() / "kernels"


def choose_instruction_set(name: str = "auto") -> InstructionSet:
    """The one of this name; auto: the fastest that this CPU has.

    Raises:
        KernelsUnavailable: says what the CPU lacks.
    """
    capabilities = torch.cpu.get_capabilities()
    lacking: dict[str, list[str]] = {}
    for each in INSTRUCTION_SETS:
        if name not in ("auto", each.name):
            continue
        missing = [feature for feature in each.needed if not capabilities.get(feature)]
        if not missing:
            return each
        lacking[each.name] = missing
    reasons = "; ".join(f"{which}: {', '.join(missing)}" for which, missing in lacking.items())
    raise KernelsUnavailable(f"this CPU lacks what the kernels need ({reasons})")


def load_kernels(instruction_set: InstructionSet) -> ModuleType:
    """The compiled module; compiles it first (about 20 s) where no other process has yet.

    Raises:
        KernelsUnavailable: says what is missing.
    """
    directory = build_kernels(kernels_dir(), instruction_set)
    name = instruction_set.module_name
    spec = importlib.util.spec_from_file_location(name, directory / f"{name}.so")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build_kernels(directory: Path, instruction_set: InstructionSet) -> Path:
    """Compiles the kernels into a directory below `directory`, unless they are there.

    Raises:
        KernelsUnavailable: there is no compiler, or no place to write to.
    """
    try:
        return build_once(
            directory / kernels_digest(instruction_set),
            lambda target: _compile(target, instruction_set),
        )
    except ModelUnavailable as exc:
        raise KernelsUnavailable(str(exc)) from exc


def kernels_digest(instruction_set: InstructionSet) -> str:
    """Names the source, the instructions, and the Python that the module is for."""
    digest = blake2b(digest_size=8)
    for path in sorted(_SOURCES.iterdir()):
        digest.update(path.read_bytes())
    suffix = str(sysconfig.get_config_var("EXT_SUFFIX"))
    digest.update(" ".join((*instruction_set.all_flags, suffix)).encode())
    return digest.hexdigest()


def _compile(directory: Path, instruction_set: InstructionSet) -> None:
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        raise KernelsUnavailable("there is no C++ compiler")
    log.info("kernels.compiling", compiler=compiler, instruction_set=instruction_set.name)
    # Of torch only its copy of pybind11: the kernels take numpy's arrays and bind to no torch.
    includes = [
        f"-isystem{path}"
        for path in (*cpp_extension.include_paths(), sysconfig.get_path("include"))
    ]
    with tempfile.TemporaryDirectory(dir=directory) as objects:
        units = {path: Path(objects) / f"{path.stem}.o" for path in _SOURCES.glob("*.cpp")}
        _run_all(
            [compiler, *instruction_set.all_flags, *includes, "-c", str(source), "-o", str(unit)]
            for source, unit in units.items()
        )
        module = directory / f"{instruction_set.module_name}.so"
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
        help="for all instruction sets, into this directory (default: for this machine, into"
        " TOKENMILL_KERNELS_DIR, else the cache directory)",
    )
    chosen = parser.parse_args(arguments)
    try:
        sets = INSTRUCTION_SETS if chosen.out else (choose_instruction_set(),)
        for each in sets:
            say(f"kernels for {each.name}: {build_kernels(chosen.out or kernels_dir(), each)}")
    except KernelsUnavailable as exc:
        say(f"no native kernels: {exc}; workers compute by torch's operations instead")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
