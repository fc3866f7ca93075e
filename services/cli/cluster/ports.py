"""Ports: the public ones checked, the others found."""

from __future__ import annotations

import errno
import random
import socket
from contextlib import ExitStack
from dataclasses import dataclass

from services.cli.cluster.options import LOOPBACK, ClusterOptions, ClusterPorts, GatewayPorts
from services.cli.failure import CommandFailed

# Below the range from which kernels draw ports of outgoing connections: a port that a dead child
# leaves stays free until the child is back.
_PRIVATE_PORTS = range(20_000, 32_000)
_MAX_DRAWS = 2_000
_MAX_PORT = 65_535


def choose_ports(options: ClusterOptions) -> ClusterPorts:
    """A port for every process.

    Raises:
        CommandFailed: a port that the user named, or a public default, is in use.
    """
    with ExitStack() as held:
        gateways = _gateway_ports(options, held)

        def free() -> int:
            return _hold_free_port(held)

        # Trace store, tokenizer, cache service and scheduler; then those that are counted.
        num_metrics = 4 + options.num_workers + options.num_gateways

        return ClusterPorts(
            nats=free(),
            nats_monitor=free(),
            traces=free(),
            tokenizer=free(),
            cache=free(),
            scheduler=free(),
            workers=tuple(free() for _ in range(options.num_workers)),
            gateways=gateways,
            metrics=tuple(free() for _ in range(num_metrics)),
        )


@dataclass(frozen=True, slots=True)
class MorePorts:
    """Of one more process; http: gateways alone use it."""

    http: int
    grpc: int
    metrics: int


def choose_more_ports(beside: GatewayPorts | None = None) -> MorePorts:
    """Ports for one more process; above those of a gateway if one is named.

    Raises:
        CommandFailed: there are none.
    """
    with ExitStack() as held:
        metrics = _hold_free_port(held)
        if beside is None:
            return MorePorts(_hold_free_port(held), _hold_free_port(held), metrics)
        return MorePorts(
            _hold_next_port(beside.http + 1, held),
            _hold_next_port(beside.grpc + 1, held),
            metrics,
        )


def _gateway_ports(options: ClusterOptions, held: ExitStack) -> tuple[GatewayPorts, ...]:
    first = GatewayPorts(
        http=_hold_public_port(options.http_port, "--http-port", held),
        grpc=_hold_public_port(options.grpc_port, "--grpc-port", held),
    )
    gateways = [first]
    while len(gateways) < options.num_gateways:
        last = gateways[-1]
        gateways.append(
            GatewayPorts(
                http=_hold_next_port(last.http + 1, held),
                grpc=_hold_next_port(last.grpc + 1, held),
            )
        )
    return tuple(gateways)


def _hold_public_port(port: int, flag: str, held: ExitStack) -> int:
    if port == 0:
        return _hold_free_port(held)
    try:
        _hold(port, held)
    except OSError as exc:
        if exc.errno == errno.EADDRINUSE:
            raise CommandFailed(
                f"port {port} is in use; stop what listens there or choose another with {flag}"
            ) from exc
        raise CommandFailed(
            f"cannot listen on port {port} ({exc.strerror}); choose another with {flag}"
        ) from exc
    return port


def _hold_next_port(start: int, held: ExitStack) -> int:
    for port in range(start, _MAX_PORT + 1):
        if _try_hold(port, held):
            return port
    raise CommandFailed(f"no free port above {start} for another gateway")


def _hold_free_port(held: ExitStack) -> int:
    for _ in range(_MAX_DRAWS):
        port = random.choice(_PRIVATE_PORTS)
        if _try_hold(port, held):
            return port
    raise CommandFailed(
        f"no free port found from {_PRIVATE_PORTS.start} to {_PRIVATE_PORTS.stop - 1}"
    )


def _try_hold(port: int, held: ExitStack) -> bool:
    try:
        _hold(port, held)
    except OSError:
        return False
    return True


def _hold(port: int, held: ExitStack) -> None:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        # As servers do: connections that linger from an earlier run are no reason to refuse.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((LOOPBACK, port))
        # Binding alone succeeds beside another socket of ours; listening does not.
        listener.listen(1)
    except OSError:
        listener.close()
        raise
    held.enter_context(listener)
