"""Where Prometheus finds the metrics of a local cluster: a file for its `file_sd_configs`."""

from __future__ import annotations

import json
import os
from pathlib import Path

from services.cli.cluster.options import LOOPBACK
from services.cli.cluster.state import ClusterState


def targets_path(state_dir: Path) -> Path:
    """Where they are kept; Prometheus reads the file again when it changes."""
    return state_dir / "prometheus-targets.json"


def write_targets(state_dir: Path, state: ClusterState) -> None:
    """Replaces the file if something changed in it."""
    groups = [
        {
            "targets": [f"{LOOPBACK}:{process.metrics_port}"],
            "labels": {"service": process.role, "process": process.name},
        }
        for process in state.processes
        if process.metrics_port is not None
    ]
    text = json.dumps(groups, indent=1)
    path = targets_path(state_dir)
    if path.is_file() and path.read_text() == text:
        return
    fresh = path.with_suffix(".json.new")
    fresh.write_text(text)
    os.replace(fresh, path)


def forget_targets(state_dir: Path) -> None:
    """Removes the file. Twice is safe."""
    targets_path(state_dir).unlink(missing_ok=True)
