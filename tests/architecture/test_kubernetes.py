"""Manifests under deploy/kubernetes: readable, and of metrics and limits that exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.runtime import names

FOLDER = Path(__file__).parents[2] / "deploy/kubernetes"
MANIFESTS: dict[str, dict[str, Any]] = {
    path.name: yaml.safe_load(path.read_text()) for path in sorted(FOLDER.glob("*.yaml"))
}
KINDS = {
    "worker-scaledobject.yaml": ("keda.sh/v1alpha1", "ScaledObject"),
    "worker-hpa.yaml": ("autoscaling/v2", "HorizontalPodAutoscaler"),
    "gateway-hpa.yaml": ("autoscaling/v2", "HorizontalPodAutoscaler"),
}


def test_every_manifest_is_what_its_name_says():
    found = {name: (body["apiVersion"], body["kind"]) for name, body in MANIFESTS.items()}
    assert found == KINDS


@pytest.mark.parametrize("name", [name for name in KINDS if name.startswith("worker-")])
def test_workers_scale_by_a_gauge_that_schedulers_export(name: str):
    text = (FOLDER / name).read_text()
    assert set(re.findall(r"tokenmill_\w+", text)) == {names.METRIC_DESIRED_WORKERS}


@pytest.mark.parametrize("name", KINDS)
def test_a_manifest_scales_a_deployment_of_ours_between_bounds(name: str):
    spec = MANIFESTS[name]["spec"]
    assert spec["scaleTargetRef"]["kind"] == "Deployment"
    assert spec["scaleTargetRef"]["name"] == "tokenmill-" + name.partition("-")[0]
    least = spec.get("minReplicaCount", spec.get("minReplicas"))
    most = spec.get("maxReplicaCount", spec.get("maxReplicas"))
    assert 1 <= least < most


def test_the_query_is_in_workers_and_a_threshold_of_one_makes_it_replicas():
    (trigger,) = MANIFESTS["worker-scaledobject.yaml"]["spec"]["triggers"]
    assert trigger["type"] == "prometheus"
    assert trigger["metadata"]["threshold"] == "1"
    assert trigger["metadata"]["query"].startswith("max(")
