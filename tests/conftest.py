import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def model_dir() -> Path:
    """The default model, made ready in the default cache."""
    done = subprocess.run(
        [sys.executable, "-m", "worker.models.prepare"],
        stdout=subprocess.PIPE,
        text=True,
        timeout=900,
        check=True,
    )
    return Path(json.loads(done.stdout)["dir"])
