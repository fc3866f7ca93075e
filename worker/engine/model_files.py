"""What a model's own files say: its digest and how an answer ends."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path
from typing import Any

_SAMPLE_BYTES = 64 << 10
_NUM_SAMPLES = 512
_WHOLE_BYTES = 2 * _NUM_SAMPLES * _SAMPLE_BYTES
"""Up to this size reading everything costs no more than seeking."""

GGUF_NAME = "model.gguf"
"""How a directory calls a GGUF file that it was made for; a link to the user's own."""

_WEIGHT_SUFFIXES = (".safetensors", ".gguf", ".bin", ".pt")
_EOS_FILES = ("generation_config.json", "config.json")


def model_revision(model_dir: Path, numerics: str = "") -> str:
    """Digest of a model directory's weights and of how they are computed.

    Reading every byte of a large model would take as long as loading it. So the digest covers
    config.json whole, every weight file's name and size, small weight files whole, and of larger
    ones the head (which names all tensors of a safetensors file), the tail and pieces evenly spaced
    between them. A fine-tune changes values all over a tensor, so it shows in any piece of it.

    Args:
        model_dir: Hugging Face directory.
        numerics: what else decides a token's bits, such as precision and kernels.
    """
    digest = blake2b(digest_size=16, person=b"tokenmill-model")
    digest.update(f"{len(numerics)}:{numerics}".encode())
    digest.update((model_dir / "config.json").read_bytes())
    for path in sorted(model_dir.iterdir()):
        if path.suffix not in _WEIGHT_SUFFIXES:
            continue
        size_bytes = path.stat().st_size
        digest.update(f"{path.name}:{size_bytes}:".encode())
        with path.open("rb", buffering=0) as file:
            for start, num_bytes in _pieces(size_bytes):
                digest.update(os.pread(file.fileno(), num_bytes, start))
    return digest.hexdigest()


def find_gguf(model_dir: Path) -> Path | None:
    """The GGUF file that holds a directory's weights; None if safetensors do."""
    path = model_dir / GGUF_NAME
    return path if path.exists() else None


def weight_bytes_on_disk(model_dir: Path) -> int:
    """Size of a directory's weight files."""
    return sum(p.stat().st_size for p in model_dir.iterdir() if p.suffix in _WEIGHT_SUFFIXES)


def _pieces(size_bytes: int) -> list[tuple[int, int]]:
    """Where to look in a file: (start, number of bytes) of each piece."""
    if size_bytes <= _WHOLE_BYTES:
        return [(start, _SAMPLE_BYTES) for start in range(0, size_bytes, _SAMPLE_BYTES)]
    last = size_bytes - _SAMPLE_BYTES
    return [(last * i // (_NUM_SAMPLES - 1), _SAMPLE_BYTES) for i in range(_NUM_SAMPLES)]


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
