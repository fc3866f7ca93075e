"""Tells the workers which shards of the cache service there are."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path


def shards_path(state_dir: Path) -> Path:
    """Where workers read it. Names last longer than ports: they say which shard has which chain."""
    return state_dir / "cache-shards.json"


def write_shards(state_dir: Path, addresses: Mapping[str, str]) -> None:
    """Says where each shard is, by its name; a reader sees all of it or what was there before."""
    path = shards_path(state_dir)
    fresh = path.with_suffix(".json.new")
    fresh.write_text(json.dumps(dict(addresses)))
    os.replace(fresh, path)
