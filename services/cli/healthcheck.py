"""Whether a process serves: `python -m services.cli.healthcheck --grpc HOST:PORT | --http URL`.

Exit status 0 if it does, 1 if not; made for container health checks, so it imports little.
"""

from __future__ import annotations

import argparse
import http.client
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any


def check_grpc(address: str, timeout_s: float) -> str:
    """Asks the standard gRPC health service; returns what is wrong, empty if it serves."""
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with grpc.insecure_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            reply = stub.Check(health_pb2.HealthCheckRequest(), timeout=timeout_s)
        except grpc.RpcError as exc:
            return str(exc.code().name) if isinstance(exc, grpc.Call) else str(exc)
    if reply.status == health_pb2.HealthCheckResponse.SERVING:
        return ""
    return health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status)


def check_http(url: str, timeout_s: float) -> str:
    """Asks an HTTP readiness path; returns what is wrong, empty if it answers with 2xx."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=timeout_s):
            return ""
    except urllib.error.HTTPError as exc:
        with exc:
            return f"HTTP {exc.code}"
    except (OSError, http.client.HTTPException) as exc:
        return str(exc)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="healthcheck", description=__doc__)
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("--grpc", metavar="HOST:PORT")
    kind.add_argument("--http", metavar="URL")
    parser.add_argument("--timeout-s", type=float, default=3.0)
    chosen = parser.parse_args(arguments)
    wrong = (
        check_grpc(chosen.grpc, chosen.timeout_s)
        if chosen.grpc
        else check_http(chosen.http, chosen.timeout_s)
    )
    if wrong:
        sys.stderr.write(f"not healthy: {wrong}\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
