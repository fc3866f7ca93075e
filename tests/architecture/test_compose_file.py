"""What docker-compose.yml and the files beside it must hold, checked without an engine."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.runtime import names

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {"gateway", "tokenizer", "scheduler", "worker", "cache"}
CORE = OURS | {"nats"}
OBSERVABILITY = {"otel-collector", "jaeger", "prometheus", "grafana"}
DASHBOARDS = [
    json.loads(path.read_text())
    for path in sorted((ROOT / "deploy/grafana/dashboards").glob("*.json"))
]
PANELS = [panel for board in DASHBOARDS for panel in board["panels"]]


def _seconds(duration: str) -> int:
    match = re.fullmatch(r"(\d+)s", duration)
    assert match, duration
    return int(match[1])


def test_services_are_the_cluster_and_its_observability():
    assert set(SERVICES) == CORE | OBSERVABILITY
    assert {name for name, service in SERVICES.items() if "profiles" not in service} == CORE


@pytest.mark.parametrize("name", sorted(CORE))
def test_core_service_has_a_health_check(name):
    check = SERVICES[name]["healthcheck"]
    assert check["test"][0] in {"CMD", "CMD-SHELL"}
    assert _seconds(check["start_period"]) >= 60


def test_no_service_has_a_fixed_container_name():
    assert not [name for name, service in SERVICES.items() if "container_name" in service]


def test_only_the_gateway_of_the_core_has_host_ports():
    assert [name for name in sorted(CORE) if "ports" in SERVICES[name]] == ["gateway"]


@pytest.mark.parametrize("name", sorted(OBSERVABILITY))
def test_observability_is_reachable_from_this_machine_alone(name):
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", []))


@pytest.mark.parametrize("name", sorted(OURS))
def test_our_services_run_one_image_without_privileges(name):
    service = SERVICES[name]
    assert service["image"] == SERVICES["gateway"]["image"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["command"][:2] == ["python", "-m"]


@pytest.mark.parametrize("name", sorted(OURS))
def test_module_that_a_service_runs_exists(name):
    module = SERVICES[name]["command"][2]
    assert (ROOT / f"{module.replace('.', '/')}.py").is_file()


@pytest.mark.parametrize("name", sorted(OURS))
def test_nobody_is_killed_before_the_drain_is_over(name):
    drain_s = int(SERVICES[name]["environment"]["TOKENMILL_DRAIN_TIMEOUT_S"])
    assert _seconds(SERVICES[name]["stop_grace_period"]) > drain_s


@pytest.mark.parametrize("name", ["gateway", "scheduler", "worker"])
def test_users_of_the_broker_wait_until_it_is_healthy(name):
    assert SERVICES[name]["depends_on"]["nats"] == {"condition": "service_healthy"}


def test_worker_does_not_wait_for_the_cache_service():
    assert SERVICES["worker"]["depends_on"]["cache"] == {"condition": "service_started"}


@pytest.mark.parametrize("name", sorted(OURS))
def test_health_check_asks_the_port_that_the_service_listens_on(name):
    environment = SERVICES[name]["environment"]
    key = "TOKENMILL_HTTP_PORT" if name == "gateway" else "TOKENMILL_GRPC_PORT"
    assert f"127.0.0.1:{environment[key]}" in SERVICES[name]["healthcheck"]["test"][-1]


def test_targets_name_services_with_their_ports():
    for service in SERVICES.values():
        for key, value in service.get("environment", {}).items():
            if key.endswith("_TARGET"):
                peer, port = value.removeprefix("dns:///").split(":")
                assert SERVICES[peer]["environment"]["TOKENMILL_GRPC_PORT"] == port


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_images_are_pinned_and_named_in_full(name):
    image = SERVICES[name]["image"]
    if name in OURS:
        return
    registry, _, rest = image.partition("/")
    assert "." in registry
    assert not rest.endswith(":latest")
    assert ":" in rest


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_files_that_are_mounted_exist(name):
    for volume in SERVICES[name].get("volumes", []):
        source = volume.split(":")[0]
        if source.startswith("."):
            assert (ROOT / source).exists(), source
        else:
            assert source in COMPOSE["volumes"]


def test_traces_are_off_unless_the_observability_settings_are_used():
    for name in OURS:
        assert SERVICES[name]["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"].endswith(":-}")
    lines = (ROOT / "deploy/observability.env").read_text().splitlines()
    assert "COMPOSE_PROFILES=observability" in lines
    assert "OTEL_EXPORTER_OTLP_ENDPOINT=http://otel-collector:4318" in lines


def test_prometheus_scrapes_every_process_on_its_metrics_port():
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    (discovery,) = config["scrape_configs"][0]["dns_sd_configs"]
    assert set(discovery["names"]) == OURS
    ports = {SERVICES[name]["environment"]["TOKENMILL_METRICS_PORT"] for name in OURS}
    assert ports == {str(discovery["port"])}


def test_collector_pipelines_use_what_is_configured():
    config = yaml.safe_load((ROOT / "deploy/otel/collector.yaml").read_text())
    for pipeline in config["service"]["pipelines"].values():
        for kind, used in pipeline.items():
            assert set(used) <= set(config[kind])


def test_dashboards_and_alerts_ask_only_for_metrics_that_exist():
    known = {
        value for key, value in vars(names).items() if key.startswith(("METRIC_", "VLLM_"))
    } | {"process_resident_memory_bytes", "process_cpu_seconds_total"}
    rules = yaml.safe_load((ROOT / "deploy/prometheus/rules.yml").read_text())
    queries = [target["expr"] for panel in PANELS for target in panel.get("targets", [])]
    queries += [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    assert len(queries) > 60
    for query in queries:
        for metric in re.findall(r"\b(?:[a-z]+:)?[a-z0-9]+(?:_[a-z0-9]+){2,}\b", query):
            if metric in {"http_response_status_code", "rpc_status_code"}:
                continue
            base = re.sub(r"_(total|bucket|count|sum)$", "", metric)
            assert {metric, base} & known, metric


def test_every_metric_is_on_the_page_of_metrics():
    page = (ROOT / "docs/metrics.md").read_text()
    metrics = [
        value
        for key, value in vars(names).items()
        if key.startswith(("METRIC_", "VLLM_"))
        if isinstance(value, str)
    ]
    assert not [name for name in metrics if f"| `{name}" not in page]


def test_every_dashboard_has_a_name_of_its_own_that_its_file_bears():
    uids = [board["uid"] for board in DASHBOARDS]
    files = [path.stem for path in sorted((ROOT / "deploy/grafana/dashboards").glob("*.json"))]
    assert uids == files


def test_grafana_panels_use_a_datasource_that_is_provisioned():
    path = ROOT / "deploy/grafana/provisioning/datasources/datasources.yaml"
    provisioned = {source["uid"] for source in yaml.safe_load(path.read_text())["datasources"]}
    used = {panel["datasource"]["uid"] for panel in PANELS if "datasource" in panel}
    assert used <= provisioned


def test_image_is_built_in_stages_and_runs_as_nobody_special():
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    assert sum(line.startswith("FROM ") for line in lines) > 1
    assert "USER 10001:10001" in lines
