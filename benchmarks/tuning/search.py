"""The loop: look what limits, change one thing, compare, keep or undo. Pure: a port measures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from benchmarks.tuning.bottleneck import Diagnosis, Observation, diagnose
from benchmarks.tuning.figures import Figures, together
from benchmarks.tuning.goal import Goal
from benchmarks.tuning.moves import Candidate, Settings, candidates
from benchmarks.tuning.verdict import Pair, Verdict, is_clear, judge

FINAL_PAIRS = 3
"""Of the last comparison, between the default and the best."""


class CannotRun(Exception):
    """A cluster with these settings does not start or does not answer; the message says why."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Pairs of windows, and what was seen of each side in them."""

    pairs: Sequence[Pair]
    current_seen: Observation
    candidate_seen: Observation


class Bench(Protocol):
    """Measures clusters by their settings; calls come one at a time."""

    def look(self, settings: Settings) -> tuple[Figures, Observation]:
        """One window of a cluster alone.

        Raises:
            CannotRun: it does not start.
        """
        ...

    def compare(
        self, current: Settings, candidate: Settings, enough: Callable[[Sequence[Pair]], bool]
    ) -> Comparison:
        """Windows of both in turn, until there are enough.

        Raises:
            CannotRun: the candidate does not start or answer.
        """
        ...

    def forget(self, settings: Settings) -> None:
        """These settings are not asked for again soon."""
        ...


class Budget(Protocol):
    """Time that may be spent."""

    def fits_another(self) -> bool:
        """Whether one more step fits before the last comparison."""
        ...


@dataclass(frozen=True, slots=True)
class Step:
    """One change that was tried.

    Attributes:
        diagnosis: what limited before it.
        before, after: settings.
        current, candidate: figures of both, measured in turn; None: it did not run.
    """

    diagnosis: Diagnosis
    candidate: Candidate
    before: Settings
    after: Settings
    verdict: Verdict
    current_figures: Figures | None = None
    candidate_figures: Figures | None = None


@dataclass(slots=True)
class Search:
    """One run for one load.

    Attributes:
        goal: what shall be reached.
        precision: the coarsest numbers that are allowed.
        num_cpus: of the machine.
        say: is told of each step as it ends.
    """

    goal: Goal
    bench: Bench
    budget: Budget
    precision: str = "int8"
    num_cpus: int = 1
    say: Callable[[str], None] = lambda text: None
    steps: list[Step] = field(default_factory=list[Step])
    _tried: set[frozenset[tuple[str, str]]] = field(default_factory=set[frozenset[tuple[str, str]]])
    _undone: set[str] = field(default_factory=set[str])

    def run(self, start: Settings) -> Outcome:
        """Searches from these settings on.

        Raises:
            CannotRun: they do not run themselves.
        """
        current: Settings = dict(start)
        figures, seen = self.bench.look(current)
        ended = "the time is up"
        while self.budget.fits_another():
            diagnosis = diagnose(seen)
            self.say(f"limited by {diagnosis.kind.value}: {diagnosis.why}")
            chosen = self._choose(diagnosis, current, figures)
            if chosen is None:
                ended = "nothing is left to try"
                break
            after = {**current, **chosen.changes}
            self._tried.add(frozenset(after.items()))
            try:
                found = self.bench.compare(current, after, lambda p: is_clear(self.goal, p))
            except CannotRun as exc:
                self._note(Step(diagnosis, chosen, current, after, _unable(exc)))
                self.bench.forget(after)
                continue
            verdict = judge(self.goal, found.pairs)
            old, new = _sides(found.pairs)
            self._note(Step(diagnosis, chosen, current, after, verdict, old, new))
            if verdict.is_kept:
                if current != start:
                    self.bench.forget(current)
                current, figures, seen = after, new, found.candidate_seen
            else:
                self._undone.add(chosen.move.name)
                self.bench.forget(after)
                figures, seen = old, found.current_seen
        return self._outcome(start, current, figures, diagnose(seen), ended)

    def _choose(
        self, diagnosis: Diagnosis, current: Settings, figures: Figures
    ) -> Candidate | None:
        fresh = [
            one
            for one in candidates(
                diagnosis,
                current,
                self.goal,
                figures,
                precision=self.precision,
                num_cpus=self.num_cpus,
            )
            if frozenset({**current, **one.changes}.items()) not in self._tried
        ]
        # What was undone once may pay after another change, but the untried comes first.
        fresh.sort(key=lambda one: (one.move.name in self._undone, not one.is_called_for))
        return fresh[0] if fresh else None

    def _note(self, step: Step) -> None:
        self.steps.append(step)
        word = "kept" if step.verdict.is_kept else "undone"
        self.say(f"  {step.candidate.move.name}: {word}; {step.verdict.why}")

    def _outcome(
        self,
        start: Settings,
        best: Settings,
        figures: Figures,
        diagnosis: Diagnosis,
        ended: str,
    ) -> Outcome:
        pairs: Sequence[Pair] = ()
        if best != start:
            # Steps add up noise as well as gains: only this says what the run was worth.
            pairs = self.bench.compare(start, best, lambda p: len(p) >= FINAL_PAIRS).pairs
            _, figures = _sides(pairs)
        return Outcome(
            self.goal, tuple(self.steps), dict(best), figures, diagnosis, ended, tuple(pairs)
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to.

    Attributes:
        best: settings.
        best_figures: as last measured with them.
        diagnosis: what limits with them.
        ended: why it went no further.
        final: default and best in turn; empty: nothing was kept.
    """

    goal: Goal
    steps: tuple[Step, ...]
    best: Settings
    best_figures: Figures
    diagnosis: Diagnosis
    ended: str
    final: tuple[Pair, ...]

    @property
    def verdict(self) -> Verdict | None:
        """The best settings against the default; None: they are the default."""
        return judge(self.goal, self.final) if self.final else None


def _sides(pairs: Sequence[Pair]) -> tuple[Figures, Figures]:
    return together(p.current for p in pairs), together(p.candidate for p in pairs)


def _unable(exc: CannotRun) -> Verdict:
    return Verdict(False, f"it does not run: {exc}", 0.0, ())
