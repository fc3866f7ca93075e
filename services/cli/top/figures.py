"""From scraped metrics to what a process did between two looks. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from services.runtime import names

CPU_SECONDS = "process_cpu_seconds_total"
RESIDENT_BYTES = "process_resident_memory_bytes"
BUSY_SECONDS = f"{names.METRIC_BUSY_SECONDS}_total"
PROMPT_TOKENS = f"{names.METRIC_PROMPT_TOKENS}_total"
_WANTED = {CPU_SECONDS, RESIDENT_BYTES, BUSY_SECONDS, PROMPT_TOKENS}


@dataclass(frozen=True, slots=True)
class Scrape:
    """Counters of one process at one moment; by name, and by source for prompt tokens."""

    at_s: float
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class ProcessFigures:
    """One process between two looks; None where it has no such figure.

    Attributes:
        cpu: CPU seconds per second.
        utilisation: of a worker: time in steps over wall time.
        hit_share: of a worker: prompt tokens that it did not compute, since its start.
    """

    cpu: float | None
    resident_bytes: float | None
    utilisation: float | None
    hit_share: float | None


def read_scrape(text: str, at_s: float) -> Scrape:
    """Takes what is wanted out of Prometheus' text format."""
    values: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name in _WANTED:
                key = sample.name + sample.labels.get("source", "")
                values[key] = values.get(key, 0.0) + sample.value
    return Scrape(at_s, values)


def figures_between(before: Scrape | None, now: Scrape) -> ProcessFigures:
    """What happened between two scrapes; rates are None at the first one."""
    computed = now.values.get(PROMPT_TOKENS + "computed", 0.0)
    found = sum(now.values.get(PROMPT_TOKENS + source, 0.0) for source in ("pool", "cache_service"))
    return ProcessFigures(
        cpu=_rate(before, now, CPU_SECONDS),
        resident_bytes=now.values.get(RESIDENT_BYTES),
        utilisation=_rate(before, now, BUSY_SECONDS),
        hit_share=found / (found + computed) if found + computed else None,
    )


def _rate(before: Scrape | None, now: Scrape, name: str) -> float | None:
    if before is None or name not in now.values or name not in before.values:
        return None
    passed_s = now.at_s - before.at_s
    # A process that was started again counts from 0.
    return max(0.0, now.values[name] - before.values[name]) / passed_s if passed_s > 0 else None
