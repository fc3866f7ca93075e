"""What limits a cluster under a load, told from what was measured. Pure."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from services.core.step_time import StepTimeModel

FULL_POOL = 0.95
"""Share of K/V blocks in use above which sequences are given up for others."""

FULL_BATCH = 0.25
"""Share of the time with every place of a step taken, above which requests wait for one."""

IDLE_WORKER = 0.35
"""Share of the time without a step, while requests are under way, that is not the load's."""

IDLE_MACHINE = 0.25
"""Share of the CPUs that must be free too; else what the worker waited for was a CPU."""

NOISY_CORES = 0.3
"""CPU of other programs that is worth a word."""


class Bottleneck(enum.Enum):
    """What there is too little of."""

    COMPUTE = "compute"
    MEMORY = "memory"
    QUEUE = "queue"
    IO = "I/O"


@dataclass(frozen=True, slots=True)
class Observation:
    """What was seen of a cluster during a load; means over its windows.

    Attributes:
        seconds: seen for so long.
        output_tokens, prompt_tokens: computed in that time, cached ones left out.
        num_running: sequences in a step, of all workers together.
        num_waiting: requests under way that were in no step.
        num_places: sequences that the steps may hold, of all workers together.
        full_share: of the time, with all those places taken.
        kv_used_peak: largest share of K/V blocks in use.
        context_tokens: that a decoding sequence attends to.
        cpu_s: CPU seconds by role of process.
        num_cpus: of the machine.
        free_cpus: that nobody used, on average.
        foreign_cpus: that programs beside the cluster and its load used, on average.
        step_time: how the worker says its steps take; None: it had not measured.
        num_workers: that take steps.
    """

    seconds: float
    output_tokens: int
    prompt_tokens: int
    num_running: float
    num_waiting: float
    num_places: int
    full_share: float
    kv_used_peak: float
    context_tokens: float
    cpu_s: Mapping[str, float] = field(default_factory=dict[str, float])
    num_cpus: int = 1
    free_cpus: float = 0.0
    foreign_cpus: float = 0.0
    step_time: StepTimeModel | None = None
    num_workers: int = 1


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What limits, and the figures that say so.

    Attributes:
        shares: of the workers' time: `weights` (of each step, whatever is in it: reading weights),
            `prefill`, `decode` (of each sequence), `idle`.
    """

    kind: Bottleneck
    why: str
    shares: Mapping[str, float]


def diagnose(seen: Observation) -> Diagnosis:
    """The one thing that limits most.

    Room before speed: a full pool or a full batch makes requests wait, whatever the steps cost.
    """
    shares = step_shares(seen)
    if seen.kv_used_peak >= FULL_POOL:
        why = f"{seen.kv_used_peak:.0%} of the K/V blocks were in use"
        return Diagnosis(Bottleneck.MEMORY, why, shares)
    if seen.num_waiting >= 1 and seen.full_share >= FULL_BATCH:
        why = (
            f"all {seen.num_places} places in a step were taken {seen.full_share:.0%} of the time"
            f" and {seen.num_waiting:.1f} requests waited for one"
        )
        return Diagnosis(Bottleneck.QUEUE, why, shares)
    if shares["idle"] >= IDLE_WORKER and seen.free_cpus >= IDLE_MACHINE * seen.num_cpus:
        others = {role: s for role, s in seen.cpu_s.items() if role != "worker"}
        busiest = max(others, key=lambda role: others[role], default="none")
        why = (
            f"the worker took no step in {shares['idle']:.0%} of the time; of the others, the"
            f" {busiest} used most CPU, {others.get(busiest, 0.0) / seen.seconds:.2f} cores"
        )
        return Diagnosis(Bottleneck.IO, why, shares)
    used = f"worker on {seen.cpu_s.get('worker', 0.0) / seen.seconds:.1f} of {seen.num_cpus} cores"
    if seen.foreign_cpus >= NOISY_CORES:
        used += f", other programs on {seen.foreign_cpus:.1f}"
    if shares["weights"] >= max(shares["prefill"], shares["decode"]):
        why = (
            f"{shares['weights']:.0%} of the workers' time is what any step costs, reading the"
            f" weights for {seen.num_running:.1f} sequences; prefill takes {shares['prefill']:.0%},"
            f" the sequences themselves {shares['decode']:.0%}; {used}"
        )
        return Diagnosis(Bottleneck.MEMORY, why, shares)
    larger = "prefill" if shares["prefill"] >= shares["decode"] else "decode"
    work = {
        "prefill": f"computing {seen.prompt_tokens / seen.seconds:.0f} prompt tokens/s",
        "decode": f"work for each of {seen.num_running:.1f} sequences in a step",
    }[larger]
    why = (
        f"{shares[larger]:.0%} of the workers' time is {work}; reading the weights takes"
        f" {shares['weights']:.0%}; {used}"
    )
    return Diagnosis(Bottleneck.COMPUTE, why, shares)


def step_shares(seen: Observation) -> dict[str, float]:
    """Where the workers' time went, by their own model of their steps.

    The number of steps is not counted anywhere outside: it is what the tokens needed at so many a
    step, and a worker that idles takes none.
    """
    model = seen.step_time
    if model is None:
        return {"weights": 0.0, "prefill": 0.0, "decode": 0.0, "idle": 0.0}
    available_s = seen.seconds * seen.num_workers
    prefill_s = seen.prompt_tokens * (
        model.prefill_s + model.prefill_pair_s * seen.context_tokens / 2
    )
    decode_s = seen.output_tokens * (model.decode_s + model.decode_pair_s * seen.context_tokens)
    per_step = max(1.0, seen.num_running / seen.num_workers)
    num_steps = max(
        seen.output_tokens / per_step, seen.prompt_tokens / max(1, model.max_batched_tokens)
    )
    weights_s = num_steps * model.base_s
    scale = max(1.0, (prefill_s + decode_s + weights_s) / available_s)
    found = {
        "weights": weights_s / available_s / scale,
        "prefill": prefill_s / available_s / scale,
        "decode": decode_s / available_s / scale,
    }
    return {**found, "idle": max(0.0, 1.0 - sum(found.values()))}
