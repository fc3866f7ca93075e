"""What shall be reached, as a user says it: `p95 ttft < 300ms, max throughput`. Pure.

goal      = term ("," term)*        one of them an objective
limit     = quantity ("<" | ">") number unit
objective = ("max" | "min") quantity
quantity  = ["p50".."p99.9" | "mean"] metric
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

UNITS: Mapping[str, Mapping[str, float]] = {
    "time": {"ms": 1.0, "s": 1000.0},
    "rate": {"": 1.0, "tok/s": 1.0, "tokens/s": 1.0},
    "size": {"mb": 1.0, "gb": 1024.0, "mib": 1.0, "gib": 1024.0},
}
"""Factors to the unit that we keep: ms, tokens per second, MiB."""

METRICS: Mapping[str, str] = {
    "ttft": "time",
    "itl": "time",
    "tpot": "time",
    "latency": "time",
    "throughput": "rate",
    "memory": "size",
}
"""What can be asked for, and how it is counted. itl: each gap between two tokens; tpot: the mean
gap of an answer; latency: of whole answers; memory: of all processes together."""

KEPT_UNITS: Mapping[str, str] = {"time": "ms", "rate": "tokens/s", "size": "MiB"}
EXAMPLE = "p95 ttft < 300ms, max throughput"

_LIMIT = re.compile(
    r"(?P<quantity>[^<>]+?)\s*(?P<sign>[<>]=?)\s*(?P<number>[\d.]+)\s*(?P<unit>\S*)"
)
_OBJECTIVE = re.compile(r"(?P<verb>max|min)\s+(?P<quantity>.+)")
_SHARE = re.compile(r"p(?P<number>\d{1,2}(\.\d+)?)")


class BadGoal(ValueError):
    """The text is no goal; its message says why."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """One measured number.

    Attributes:
        metric: of METRICS.
        share: 0.95 for p95; None: the mean.
    """

    metric: str
    share: float | None = None

    @property
    def is_better_when_low(self) -> bool:
        """Whether less of it is wished for."""
        return self.metric != "throughput"

    def __str__(self) -> str:
        if METRICS[self.metric] != "time":
            return self.metric
        return f"{'mean' if self.share is None else f'p{self.share * 100:g}'} {self.metric}"

    def say(self, value: float) -> str:
        """A value of it, with its unit."""
        return f"{value:,.0f} {KEPT_UNITS[METRICS[self.metric]]}"


class Measured(Protocol):
    """Figures of some load."""

    def value(self, quantity: Quantity) -> float:
        """One of them; inf or 0, whichever is worse, where nothing was measured."""
        ...


@dataclass(frozen=True, slots=True)
class Limit:
    """A quantity that must stay on one side of a value."""

    quantity: Quantity
    is_upper: bool
    value: float

    def excess(self, figures: Measured) -> float:
        """How far it is missed, as a share of the value; 0: it is kept."""
        found = figures.value(self.quantity)
        over = found / self.value - 1 if self.is_upper else 1 - found / self.value
        return max(0.0, over)

    def __str__(self) -> str:
        sign = "<" if self.is_upper else ">"
        return f"{self.quantity} {sign} {self.quantity.say(self.value)}"


@dataclass(frozen=True, slots=True)
class Goal:
    """Limits to keep, and one quantity to push as far as they allow.

    Attributes:
        text: as it was given.
    """

    text: str
    limits: tuple[Limit, ...]
    objective: Quantity

    def excess(self, figures: Measured) -> float:
        """How far the limits are missed, together; 0: all are kept."""
        return sum(limit.excess(figures) for limit in self.limits)

    def broken(self, figures: Measured) -> list[str]:
        """The limits that are missed, in words, with what was measured."""
        return [
            f"{limit.quantity} is {limit.quantity.say(figures.value(limit.quantity))}, not"
            f" {'<' if limit.is_upper else '>'} {limit.quantity.say(limit.value)}"
            for limit in self.limits
            if limit.excess(figures) > 0
        ]

    def gain(self, better: Measured, than: Measured) -> float:
        """The objective as a ratio: above 1 is better, whichever way it points."""
        new, old = better.value(self.objective), than.value(self.objective)
        if self.objective.is_better_when_low:
            new, old = old, new
        return new / old if old > 0 else float("inf" if new > 0 else 1)

    def wants(self, metric: str) -> bool:
        """Whether the goal speaks of a metric at all."""
        return metric in {self.objective.metric, *(limit.quantity.metric for limit in self.limits)}


def parse_goal(text: str) -> Goal:
    """Reads a goal.

    Raises:
        BadGoal: names the part that cannot be read, and what is allowed there.
    """
    limits: list[Limit] = []
    objectives: list[Quantity] = []
    for term in _terms(text):
        if found := _OBJECTIVE.fullmatch(term):
            objectives.append(_objective(term, found["verb"], found["quantity"]))
        elif found := _LIMIT.fullmatch(term):
            limits.append(_limit(term, found))
        else:
            raise BadGoal(
                f"{term!r} is neither a limit nor an objective; an example of both: {EXAMPLE!r}"
            )
    if len(objectives) != 1:
        raise BadGoal(
            f"the goal has {len(objectives)} objectives; exactly one is needed, as in {EXAMPLE!r}"
        )
    return Goal(text.strip(), tuple(limits), objectives[0])


def _terms(text: str) -> Sequence[str]:
    terms = [" ".join(term.lower().split()) for term in text.split(",")]
    if not any(terms):
        raise BadGoal(f"the goal is empty; an example: {EXAMPLE!r}")
    if not all(terms):
        raise BadGoal(f"there is nothing between two commas of {text!r}")
    return terms


def _objective(term: str, verb: str, text: str) -> Quantity:
    quantity = _quantity(term, text)
    sensible = "min" if quantity.is_better_when_low else "max"
    if verb != sensible:
        raise BadGoal(f"{term!r} would make it worse; allowed: {sensible} {text}")
    return quantity


def _limit(term: str, found: re.Match[str]) -> Limit:
    quantity = _quantity(term, found["quantity"])
    is_upper = found["sign"].startswith("<")
    if is_upper != quantity.is_better_when_low:
        raise BadGoal(
            f"{term!r} limits it on the good side; allowed: < for times and memory, > for"
            " throughput"
        )
    units = UNITS[METRICS[quantity.metric]]
    if found["unit"] not in units:
        allowed = ", ".join(unit or "none" for unit in units)
        raise BadGoal(f"unit of {term!r} is {found['unit']!r}; allowed: {allowed}")
    try:
        value = float(found["number"]) * units[found["unit"]]
    except ValueError:
        value = 0.0
    if value <= 0:
        raise BadGoal(f"value of {term!r} is {found['number']!r}; allowed: a number above 0")
    return Limit(quantity, is_upper, value)


def _quantity(term: str, text: str) -> Quantity:
    *before, metric = text.split()
    if metric not in METRICS:
        raise BadGoal(f"metric of {term!r} is {metric!r}; allowed: {', '.join(METRICS)}")
    if len(before) > 1:
        raise BadGoal(f"{term!r} has more than one word before its metric")
    statistic = before[0] if before else "mean"
    if METRICS[metric] != "time":
        if before:
            raise BadGoal(f"{term!r}: {metric} is one number; it takes no {statistic!r}")
        return Quantity(metric)
    if statistic == "mean":
        return Quantity(metric)
    share = _SHARE.fullmatch(statistic)
    if share is None or not 0 < float(share["number"]) < 100:
        raise BadGoal(f"statistic of {term!r} is {statistic!r}; allowed: mean, p1 to p99.9")
    return Quantity(metric, float(share["number"]) / 100)
