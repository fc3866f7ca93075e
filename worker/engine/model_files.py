"""What a model's own files say: its digest and how an answer ends."""

from __future__ import annotations

import json
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path
from typing import Any

_SAMPLE_BYTES = 1 << 20
_WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt")
_EOS_FILES = ("generation_config.json", "config.json")


def model_revision(model_dir: Path) -> str:
    """Digest of a model directory's weights.

    Reading every byte of a large model would take as long as loading it. So the digest covers
    config.json whole and, of every weight file, its name, its size, its first MiB (which holds the
    header of a safetensors file: all names, shapes and offsets) and its last MiB. Two fine-tunes
    that differ only in the middle of files of equal size would not be told apart.
    """
    digest = blake2b(digest_size=16, person=b"tokenmill-model")
    digest.update((model_dir / "config.json").read_bytes())
    for path in sorted(model_dir.iterdir()):
        if path.suffix not in _WEIGHT_SUFFIXES:
            continue
        size_bytes = path.stat().st_size
        digest.update(f"{path.name}:{size_bytes}:".encode())
        with path.open("rb") as file:
            digest.update(file.read(_SAMPLE_BYTES))
            file.seek(max(0, size_bytes - _SAMPLE_BYTES))
            digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()


def eos_token_ids(model_dir: Path) -> frozenset[int]:
    """All ids that end an answer: of the generation config, the config and the tokenizer."""
    ids: set[int] = set()
    for name in _EOS_FILES:
        config = _read_json(model_dir / name)
        for part in (config, config.get("text_config") or {}):
            ids.update(_as_ids(part.get("eos_token_id")))
    token = _read_json(model_dir / "tokenizer_config.json").get("eos_token")
    content = token.get("content") if isinstance(token, dict) else token
    if content is not None:
        added = _read_json(model_dir / "tokenizer.json").get("added_tokens") or []
        ids.update(entry["id"] for entry in added if entry.get("content") == content)
    return frozenset(ids)


def _as_ids(value: int | Iterable[int] | None) -> list[int]:
    if value is None:
        return []
    return [value] if isinstance(value, int) else list(value)


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
