"""What a tuning run found, as JSON and as a page. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.tuning.bottleneck import Diagnosis
from benchmarks.tuning.figures import Figures, together
from benchmarks.tuning.moves import DEFAULTS, Settings
from benchmarks.tuning.search import Outcome, Step
from benchmarks.tuning.verdict import Verdict
from benchmarks.tuning.workloads import Workload


def as_json(workload: Workload, outcome: Outcome) -> dict[str, Any]:
    """One workload's run."""
    verdict = outcome.verdict
    final = None
    if verdict is not None:
        final = {
            "gain": round(verdict.gain, 3),
            "gains": [round(gain, 3) for gain in verdict.gains],
            "default": together(p.current for p in outcome.final).shown(),
            "best": together(p.candidate for p in outcome.final).shown(),
        }
    return {
        "workload": workload.name,
        "what": workload.what,
        "goal": outcome.goal.text,
        "is_goal_met": is_goal_met(outcome),
        "steps": [_step(step) for step in outcome.steps],
        "settings": dict(outcome.best),
        "limited_by": _diagnosis(outcome.diagnosis),
        "ended": outcome.ended,
        "against_default": final,
    }


def is_goal_met(outcome: Outcome) -> bool:
    """Whether the limits hold with the best settings, as last measured."""
    return not broken_limits(outcome)


def broken_limits(outcome: Outcome) -> list[str]:
    """The limits that the best settings miss, as last measured."""
    return outcome.goal.broken(outcome.best_figures)


def as_markdown(runs: Sequence[tuple[Workload, Outcome]], facts: Mapping[str, str]) -> str:
    """The page of all workloads.

    Args:
        runs: each workload and its outcome.
        facts: of the run: machine, command, model and the like, one line each.
    """
    lines = ["# Tuned by measurement", ""]
    lines += [f"- {name}: {value}" for name, value in facts.items()]
    lines += ["", "| load | goal | met | default | tuned | gain | settings |", "|" + "---|" * 7]
    lines += [_summary_row(workload, outcome) for workload, outcome in runs]
    lines += [
        "",
        "Default and tuned are measured in turn at the end of the run, who begins changes from pair"
        " to pair; the gain is the median of the pairs.",
    ]
    for workload, outcome in runs:
        lines += ["", *_section(workload, outcome)]
    return "\n".join(lines) + "\n"


def _summary_row(workload: Workload, outcome: Outcome) -> str:
    objective, verdict = outcome.goal.objective, outcome.verdict
    met = "yes" if is_goal_met(outcome) else "no"
    if verdict is None:
        figures = objective.say(outcome.best_figures.value(objective))
        return f"| {workload.name} | {outcome.goal.text} | {met} | {figures} | - | - | default |"
    old = together(p.current for p in outcome.final).value(objective)
    new = together(p.candidate for p in outcome.final).value(objective)
    return (
        f"| {workload.name} | {outcome.goal.text} | {met} | {objective.say(old)} |"
        f" {objective.say(new)} | {verdict.gain - 1:+.0%} | {_words(outcome.best)} |"
    )


def _section(workload: Workload, outcome: Outcome) -> list[str]:
    lines = [f"## {workload.name}", "", f"{workload.what}.", ""]
    if outcome.steps:
        lines += [
            "| step | limited by | because | changed | result | why |",
            "|" + "---|" * 6,
            *(_step_row(idx, step) for idx, step in enumerate(outcome.steps, start=1)),
            "",
        ]
    lines.append(
        f"It ended because {outcome.ended}. What limits now: {outcome.diagnosis.kind.value}, as"
        f" {outcome.diagnosis.why}."
    )
    lines += [f"Missed: {missed}." for missed in broken_limits(outcome)]
    if outcome.final:
        sides = {
            "default": together(p.current for p in outcome.final),
            "tuned": together(p.candidate for p in outcome.final),
        }
        lines += ["", *_figures_table(sides)]
    prices = [
        f"- {step.candidate.move.name}: {step.candidate.move.price}"
        for step in outcome.steps
        if step.verdict.is_kept and step.candidate.move.price
    ]
    if prices:
        lines += ["", "What it gives up:", "", *prices]
    return lines


def _figures_table(sides: Mapping[str, Figures]) -> list[str]:
    shown = {name: figures.shown() for name, figures in sides.items()}
    names = list(next(iter(shown.values())))
    rows = [
        f"| {name} | {' | '.join(str(figures[name]) for figures in shown.values())} |"
        for name in names
    ]
    return [f"| | {' | '.join(shown)} |", "|" + "---|" * (len(shown) + 1), *rows]


def _step_row(idx: int, step: Step) -> str:
    changed = f"{step.candidate.move.name} ({_words(step.candidate.changes, step.before)})"
    word = "kept" if step.verdict.is_kept else "undone"
    return (
        f"| {idx} | {step.diagnosis.kind.value} | {step.diagnosis.why} | {changed} | {word} |"
        f" {step.verdict.why} |"
    )


def _words(settings: Settings, before: Settings | None = None) -> str:
    old = {**DEFAULTS, **(before or {})}
    return ", ".join(f"{name} {old[name]} -> {value}" for name, value in settings.items())


def _step(step: Step) -> dict[str, Any]:
    return {
        "limited_by": _diagnosis(step.diagnosis),
        "move": step.candidate.move.name,
        "is_called_for": step.candidate.is_called_for,
        "changes": dict(step.candidate.changes),
        "before": dict(step.before),
        "verdict": _verdict(step.verdict),
        "current": None if step.current_figures is None else step.current_figures.shown(),
        "candidate": None if step.candidate_figures is None else step.candidate_figures.shown(),
    }


def _diagnosis(diagnosis: Diagnosis) -> dict[str, Any]:
    shares = {name: round(share, 3) for name, share in diagnosis.shares.items()}
    return {"kind": diagnosis.kind.value, "why": diagnosis.why, "shares": shares}


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {**asdict(verdict), "gains": [round(gain, 3) for gain in verdict.gains]}
