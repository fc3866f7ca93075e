"""Which processes make a cluster, with which environment. Pure: nothing is started here."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from services.cli.cluster.cache_shards import shards_path
from services.cli.cluster.options import LOOPBACK, ClusterOptions, ClusterPorts
from services.core.access_policy import AuthMode

LOW_PRIORITY = 10
"""Nice value of all but the workers: a busy neighbour at equal priority triples a 2-thread step."""

GOMP_SPIN_COUNT = 1_000
"""What libgomp itself takes when it knows that a machine is crowded. Its default spins for a
millisecond at the end of each parallel region, which on a machine shared with others steals the
time of the thread that is waited for: measured at load 13 on 2 CPUs, 1 token/s instead of 14."""

STOP_GRACE_S = 10.0
"""Seconds from SIGTERM to SIGKILL of a process that has no requests left to finish."""

QUICK_GRACE_S = 3.0
"""The same for the broker and the trace store, which hold nothing unfinished."""


class Role(enum.StrEnum):
    """What a process is."""

    NATS = "nats"
    TRACES = "traces"
    TOKENIZER = "tokenizer"
    CACHE = "cache"
    SCHEDULER = "scheduler"
    WORKER = "worker"
    GATEWAY = "gateway"


START_ORDER: tuple[frozenset[Role], ...] = (
    frozenset({Role.NATS}),
    frozenset(Role) - {Role.NATS},
)
"""The second wave starts together: each waits for the others by itself."""

STOP_ORDER: tuple[Role, ...] = (
    Role.GATEWAY, Role.SCHEDULER, Role.WORKER, Role.CACHE, Role.TOKENIZER, Role.NATS, Role.TRACES,
)  # fmt: skip
"""The door first; what others still need, last."""


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """One process to run.

    Attributes:
        environment: added to the supervisor's own.
        grpc_port: where the standard health service answers; None: it has none.
        http_port: where http_path answers 200 when ready; None: it has none.
        grace_s: seconds from SIGTERM to SIGKILL.
        metrics_port: where Prometheus finds its metrics; None: it has none.
        has_tls: both of its ports speak TLS.
    """

    name: str
    role: Role
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    nice: int = LOW_PRIORITY
    grpc_port: int | None = None
    http_port: int | None = None
    http_path: str = "/readyz"
    grace_s: float = STOP_GRACE_S
    metrics_port: int | None = None
    has_tls: bool = False


TLS_VARIABLE = "TOKENMILL_TLS_CERT_FILE"
"""With it a gateway's ports speak TLS."""


@dataclass(frozen=True, slots=True)
class Programs:
    """What to run: the interpreter, the broker, and how many CPUs there are."""

    python: str
    nats_server: str
    num_cpus: int


def plan_cluster(
    options: ClusterOptions,
    ports: ClusterPorts,
    programs: Programs,
    environment: Mapping[str, str],
) -> tuple[ProcessSpec, ...]:
    """All processes of a cluster, in order of start.

    Args:
        options: what the user asked for.
        ports: one for each process.
        programs: what to run.
        environment: the supervisor's own; settings that the user made there are kept.
    """
    shared = _shared_environment(options, ports, environment)

    def module(name: str, role: Role, program: str, grpc_port: int) -> ProcessSpec:
        own = {"TOKENMILL_GRPC_PORT": str(grpc_port), "TOKENMILL_INSTANCE_ID": name}
        return ProcessSpec(
            name=name,
            role=role,
            command=(programs.python, "-m", program),
            environment={**shared, **own},
            grpc_port=grpc_port,
        )

    specs = [_nats(options, ports, programs)]
    if options.collect_traces:
        specs.append(_traces(options, ports, programs))
    specs += [
        module("tokenizer", Role.TOKENIZER, "services.tokenizer.main", ports.tokenizer),
        _with_disk(module("cache", Role.CACHE, "cache_service.main", ports.cache), options),
        module("scheduler", Role.SCHEDULER, "services.scheduler.main", ports.scheduler),
    ]
    for idx, port in enumerate(ports.more_caches, start=2):
        shard = module(f"cache-{idx}", Role.CACHE, "cache_service.main", port)
        specs.append(_with_disk(shard, options))
    for idx, port in enumerate(ports.more_schedulers, start=2):
        specs.append(module(f"scheduler-{idx}", Role.SCHEDULER, "services.scheduler.main", port))
    for idx, port in enumerate(ports.workers, start=1):
        worker = module(f"worker-{idx}", Role.WORKER, "worker.main", port)
        engine = _engine_environment(options, programs, environment)
        own = {**engine, "TOKENMILL_WORKER_ID": worker.name}
        specs.append(
            replace(
                worker,
                environment={**worker.environment, **own},
                nice=0,
                # Past its own drain, when there shall be fewer.
                grace_s=options.drain_timeout_s + STOP_GRACE_S,
            )
        )
    for idx, gateway_ports in enumerate(ports.gateways, start=1):
        gateway = module(f"gateway-{idx}", Role.GATEWAY, "gateway.main", gateway_ports.grpc)
        own = {
            "TOKENMILL_HOST": options.host,
            "TOKENMILL_HTTP_PORT": str(gateway_ports.http),
        }
        if options.asks_for_keys:
            own["TOKENMILL_AUTH"] = AuthMode.REQUIRED.value
        if options.collect_traces:
            own["TOKENMILL_TRACES_URL"] = f"http://{LOOPBACK}:{ports.traces}"
        specs.append(
            replace(
                gateway,
                environment={**gateway.environment, **own},
                http_port=gateway_ports.http,
                has_tls=bool(environment.get(TLS_VARIABLE)),
                # Past its own drain: it cuts what is left by itself, with an answer to the client.
                grace_s=options.drain_timeout_s + STOP_GRACE_S,
            )
        )
    broker, *others = specs
    # A process that was added later bears a port of its own; see services.cli.cluster.growth.
    told = [with_metrics(*pair) for pair in zip(others, ports.metrics, strict=False)]
    planned = (broker, *told, *others[len(told) :])
    if options.engine == "fake":
        # Workers that only keep time need no CPU that the others would have to leave them.
        return tuple(replace(spec, nice=0) for spec in planned)
    return planned


def with_metrics(spec: ProcessSpec, port: int) -> ProcessSpec:
    """The same process with this port for its metrics."""
    environment = {**spec.environment, "TOKENMILL_METRICS_PORT": str(port)}
    return replace(spec, environment=environment, metrics_port=port)


def nats_config(options: ClusterOptions, ports: ClusterPorts) -> str:
    """Configuration file of the broker."""
    return (
        f'server_name: "tokenmill"\n'
        f'listen: "{LOOPBACK}:{ports.nats}"\n'
        f'http: "{LOOPBACK}:{ports.nats_monitor}"\n'
        f'jetstream {{ store_dir: "{options.state_dir / "nats"}", max_file_store: 4GB }}\n'
    )


def engine_environment(
    options: ClusterOptions, programs: Programs, environment: Mapping[str, str]
) -> dict[str, str]:
    """Environment that gives an engine elsewhere the settings of the cluster's workers."""
    return _model_environment(options) | _engine_environment(options, programs, environment)


def _nats(options: ClusterOptions, ports: ClusterPorts, programs: Programs) -> ProcessSpec:
    return ProcessSpec(
        name="nats",
        role=Role.NATS,
        command=(programs.nats_server, "-c", str(options.state_dir / "nats.conf")),
        http_port=ports.nats_monitor,
        http_path="/healthz",
        grace_s=QUICK_GRACE_S,
    )


def _traces(options: ClusterOptions, ports: ClusterPorts, programs: Programs) -> ProcessSpec:
    return ProcessSpec(
        name="traces",
        role=Role.TRACES,
        command=(programs.python, "-m", "services.cli.traces.main"),
        environment={
            "TOKENMILL_HTTP_PORT": str(ports.traces),
            "TOKENMILL_TRACES_FILE": str(options.state_dir / "traces.sqlite"),
            "TOKENMILL_INSTANCE_ID": "traces",
            "TOKENMILL_NATS_URL": f"nats://{LOOPBACK}:{ports.nats}",
            # It must not trace itself into an endpoint that the user's shell names.
            "OTEL_SDK_DISABLED": "true",
        },
        http_port=ports.traces,
        grace_s=QUICK_GRACE_S,
    )


def _with_disk(cache: ProcessSpec, options: ClusterOptions) -> ProcessSpec:
    path = options.state_dir / f"{cache.name}.blocks"
    return replace(cache, environment={**cache.environment, "TOKENMILL_DISK_PATH": str(path)})


def _shared_environment(
    options: ClusterOptions, ports: ClusterPorts, environment: Mapping[str, str]
) -> dict[str, str]:
    shared = _model_environment(options) | {
        "TOKENMILL_HOST": LOOPBACK,
        "TOKENMILL_NATS_URL": f"nats://{LOOPBACK}:{ports.nats}",
        "TOKENMILL_TOKENIZER_TARGET": f"{LOOPBACK}:{ports.tokenizer}",
        "TOKENMILL_CACHE_TARGET": f"file://{shards_path(options.state_dir)}",
        "TOKENMILL_DRAIN_TIMEOUT_S": str(options.drain_timeout_s),
        "PYTHONUNBUFFERED": "1",
    }
    # grpc and requests obey proxy variables, and a proxy cannot reach this machine's loopback.
    for name in ("no_proxy", "NO_PROXY"):
        known = environment.get(name, "")
        shared[name] = ",".join(part for part in (known, LOOPBACK, "localhost") if part)
    if options.collect_traces:
        shared["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://{LOOPBACK}:{ports.traces}"
        shared["OTEL_EXPORTER_OTLP_PROTOCOL"] = "http/protobuf"
    return shared


def _model_environment(options: ClusterOptions) -> dict[str, str]:
    return {
        "TOKENMILL_MODEL_DIR": options.model_dir,
        "TOKENMILL_MODEL_NAME": options.model_name,
    }


def _engine_environment(
    options: ClusterOptions, programs: Programs, environment: Mapping[str, str]
) -> dict[str, str]:
    own = {"TOKENMILL_ENGINE": options.engine}
    if options.dtype is not None:
        own["TOKENMILL_DTYPE"] = options.dtype
    if options.quantization is not None:
        own["TOKENMILL_QUANTIZATION"] = options.quantization
    if options.kv_dtype is not None:
        own["TOKENMILL_KV_DTYPE"] = options.kv_dtype
    if options.itl_target_ms is not None:
        own["TOKENMILL_ITL_TARGET_MS"] = str(options.itl_target_ms)
    if options.speculation is not None:
        own["TOKENMILL_SPECULATION"] = options.speculation
    if "TOKENMILL_NUM_THREADS" not in environment and options.num_workers > 1:
        # Workers that each take all CPUs spend their time waiting for each other.
        own["TOKENMILL_NUM_THREADS"] = str(max(1, programs.num_cpus // options.num_workers))
    if not environment.keys() & {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}:
        own["GOMP_SPINCOUNT"] = str(GOMP_SPIN_COUNT)
    return own
