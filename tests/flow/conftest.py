from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster import LocalCluster, running_cluster


@pytest.fixture(scope="session")
def real_cluster(
    tmp_path_factory: pytest.TempPathFactory, model_dir: Path
) -> Iterator[LocalCluster]:
    """Two workers with the real model, two gateways."""
    with running_cluster(
        tmp_path_factory.mktemp("real"), "--workers", "2", "--gateways", "2"
    ) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def fake_cluster(
    tmp_path_factory: pytest.TempPathFactory, model_dir: Path
) -> Iterator[LocalCluster]:
    """Three workers with the fake engine, 20 ms a step, two gateways."""
    with running_cluster(
        tmp_path_factory.mktemp("fake"),
        "--engine",
        "fake",
        "--workers",
        "3",
        "--gateways",
        "2",
        environment={
            "TOKENMILL_FAKE_STEP_TIME_S": "0.02",
            # A slow reader is noticed in a test's time.
            "TOKENMILL_MAX_UNTAKEN_TOKENS": "32",
        },
    ) as cluster:
        yield cluster
