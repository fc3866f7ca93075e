"""What the user asked for, and where its ports and files are."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

DEFAULT_HTTP_PORT = 8080
DEFAULT_GRPC_PORT = 50051
ENGINES = ("torch", "fake")
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """A cluster, as `tokenmill up` describes it.

    Attributes:
        model_name: what clients put into `model`.
        model_dir: prepared model, Hugging Face layout.
        dtype, quantization, kv_dtype, itl_target_ms, speculation: None leaves the worker's choice.
        http_port, grpc_port: of the first gateway; 0 takes a free one.
        state_dir: logs, queue, traces and the state file.
        drain_timeout_s: how long running requests may take after Ctrl-C.
        host: address of the gateways' doors; all else listens on loopback.
        asks_for_keys: callers need an API key.
        collect_traces: run the embedded trace store; off when spans go elsewhere.
    """

    model_name: str
    model_dir: str
    state_dir: Path
    num_workers: int = 1
    num_gateways: int = 1
    engine: str = "torch"
    dtype: str | None = None
    quantization: str | None = None
    kv_dtype: str | None = None
    itl_target_ms: float | None = None
    speculation: str | None = None
    http_port: int = DEFAULT_HTTP_PORT
    grpc_port: int = DEFAULT_GRPC_PORT
    drain_timeout_s: float = 30.0
    collect_traces: bool = True
    host: str = LOOPBACK
    asks_for_keys: bool = False


@dataclass(frozen=True, slots=True)
class GatewayPorts:
    """Ports of one gateway."""

    http: int
    grpc: int


@dataclass(frozen=True, slots=True)
class ClusterPorts:
    """One port for everything that listens; kept for the life of the cluster.

    Attributes:
        nats_monitor: HTTP port of the broker, where it tells of its health.
        metrics: of all processes but the broker, in the order of the plan.
        more_schedulers, more_caches: beside the first one.
    """

    nats: int
    nats_monitor: int
    traces: int
    tokenizer: int
    cache: int
    scheduler: int
    workers: tuple[int, ...]
    gateways: tuple[GatewayPorts, ...]
    metrics: tuple[int, ...]
    more_schedulers: tuple[int, ...] = ()
    more_caches: tuple[int, ...] = ()


def default_state_dir() -> Path:
    """TOKENMILL_STATE_DIR, else `.tokenmill` where the command runs: a cluster per checkout."""
    return Path(os.environ.get("TOKENMILL_STATE_DIR") or ".tokenmill").absolute()
