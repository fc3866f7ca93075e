"""More processes for a running cluster."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from services.cli.cluster.options import ClusterOptions, ClusterPorts, GatewayPorts
from services.cli.cluster.plan import ProcessSpec, Programs, Role, plan_cluster, with_metrics
from services.cli.cluster.ports import choose_more_ports


@dataclass(frozen=True, slots=True)
class Growth:
    """Plans the nth process of a role as the plan of a larger cluster would have it.

    Attributes:
        options, ports, programs: of the cluster as it was started.
    """

    options: ClusterOptions
    ports: ClusterPorts
    programs: Programs

    def spec(self, role: Role, number: int) -> ProcessSpec:
        """The nth process, on free ports.

        Raises:
            CommandFailed: there is no free port.
        """
        fresh = choose_more_ports(self.ports.gateways[-1] if role is Role.GATEWAY else None)
        options, ports = self.options, self.ports
        match role:
            case Role.WORKER:
                options = replace(options, num_workers=number)
                ports = replace(ports, workers=(fresh.grpc,) * number)
            case Role.GATEWAY:
                options = replace(options, num_gateways=number)
                more = GatewayPorts(fresh.http, fresh.grpc)
                ports = replace(ports, gateways=(more,) * number)
            case Role.CACHE:
                ports = replace(ports, more_caches=(fresh.grpc,) * (number - 1))
            case _:
                ports = replace(ports, more_schedulers=(fresh.grpc,) * (number - 1))
        specs = plan_cluster(options, ports, self.programs, os.environ)
        spec = next(spec for spec in specs if spec.name == f"{role.value}-{number}")
        return with_metrics(spec, fresh.metrics)
