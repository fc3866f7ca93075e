"""Fits a worker's step times to the steps that it ran."""

from __future__ import annotations

from collections.abc import Sequence

from services.core.step_time import StepTimeModel, StepWork

PRIOR_WEIGHT = 1e-6
"""Pull towards the prior, as a share of what was seen: it decides only what nothing else does."""

_NUM_TERMS = 5
_PREFILL_PAIRS = 2
_TINY = 1e-30


class StepTimeFit:
    """Least squares of relative errors, coefficients never below zero.

    Relative, because steps differ a hundredfold in length and the short ones are as many waits.
    Old steps may fade, so that a worker that slows down is believed after a while.

    Args:
        prior: what is assumed of terms that no step told anything of.
        keep_share: what is left of earlier steps' weight with each new one.
    """

    def __init__(self, prior: StepTimeModel | None = None, keep_share: float = 1.0) -> None:
        self._prior = prior or StepTimeModel()
        self._keep_share = keep_share
        self._normal = [[0.0] * _NUM_TERMS for _ in range(_NUM_TERMS)]
        self._moment = [0.0] * _NUM_TERMS
        self.num_steps = 0

    def add(self, work: StepWork, seconds: float) -> None:
        """Learns of one step; one that took no time says nothing."""
        if seconds <= 0:
            return
        terms = [term / seconds for term in _terms(work)]
        keep_share = self._keep_share
        for row, term in zip(self._normal, terms, strict=True):
            for idx, other in enumerate(terms):
                row[idx] = row[idx] * keep_share + term * other
        self._moment = [
            old * keep_share + term for old, term in zip(self._moment, terms, strict=True)
        ]
        self.num_steps += 1

    def model(self, max_batched_tokens: int, *, with_prefill_pairs: bool = True) -> StepTimeModel:
        """The best model so far; the prior's where nothing was seen.

        Args:
            max_batched_tokens: tokens of a step at most.
            with_prefill_pairs: False leaves what a prompt's attention costs as in the prior.
        """
        prior = self._prior
        wanted = [
            prior.base_s,
            prior.prefill_s,
            prior.prefill_pair_s,
            prior.decode_s,
            prior.decode_pair_s,
        ]
        free = [
            idx
            for idx in range(_NUM_TERMS)
            if self._normal[idx][idx] > _TINY and (idx != _PREFILL_PAIRS or with_prefill_pairs)
        ]
        seen = set(free)
        found = [0.0 if idx in seen else wanted[idx] for idx in range(_NUM_TERMS)]
        while free:
            solved = self._solve(free, wanted)
            negative = [idx for idx, value in zip(free, solved, strict=True) if value < 0]
            if not negative:
                for idx, value in zip(free, solved, strict=True):
                    found[idx] = value
                break
            free = [idx for idx in free if idx not in negative]
        return StepTimeModel(*found, max_batched_tokens=max_batched_tokens)

    def _solve(self, free: Sequence[int], wanted: Sequence[float]) -> list[float]:
        """Coefficients of the free terms alone, by Gaussian elimination.

        Terms are scaled to one size first: pairs are counted in millions and steps in ones.
        """
        scale = [self._normal[idx][idx] ** 0.5 for idx in free]
        rows: list[list[float]] = []
        for i, row_idx in enumerate(free):
            row = [
                self._normal[row_idx][j_idx] / scale[i] / scale[j] for j, j_idx in enumerate(free)
            ]
            row[i] += PRIOR_WEIGHT
            row.append(self._moment[row_idx] / scale[i] + PRIOR_WEIGHT * wanted[row_idx] * scale[i])
            rows.append(row)
        for i in range(len(rows)):
            pivot = max(range(i, len(rows)), key=lambda k: abs(rows[k][i]))
            rows[i], rows[pivot] = rows[pivot], rows[i]
            scaled = [value / rows[i][i] for value in rows[i]]
            rows[i] = scaled
            for k, row in enumerate(rows):
                if k != i:
                    rows[k] = [a - row[i] * b for a, b in zip(row, scaled, strict=True)]
        return [row[-1] / unit for row, unit in zip(rows, scale, strict=True)]


def _terms(work: StepWork) -> tuple[float, float, float, float, float]:
    return (
        1.0,
        float(work.num_prefill_tokens),
        work.num_prefill_pairs,
        float(work.num_decodes),
        float(work.num_decode_pairs),
    )
