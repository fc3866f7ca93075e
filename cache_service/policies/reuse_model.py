"""How soon blocks are used again, learned from those that were and those that were not."""

from __future__ import annotations

import bisect

import numpy as np
import numpy.typing as npt

from services.core.blocks import BlockHash

Trait = tuple[int, ...]
"""What is known of a block, the most telling first: blocks of equal traits share one experience."""

NUM_AGES = 40
_AGE_RATIO = 2**0.5
AGE_BOUNDS_S: tuple[float, ...] = (0.0, *(_AGE_RATIO**power for power in range(NUM_AGES)))
"""Bounds of the age classes: log-scaled, since people and programs think in orders of magnitude."""

_PRIOR_BLOCKS = 20.0
"""How many blocks' worth of experience a coarser group lends to a finer one. Blocks of a request
share one fate, so that a single block tells little."""

_BOUNDS = np.array(AGE_BOUNDS_S)
_WIDTHS = np.diff(_BOUNDS)


def age_class(age_s: float) -> int:
    """Which age class an age falls into."""
    return min(NUM_AGES - 1, bisect.bisect_right(AGE_BOUNDS_S, age_s) - 1)


class ReuseModel:
    """Rates of reuse by traits and age, and what keeping a block is worth.

    A block is followed from each use to its next, stored or not: `started` and `ended`. The rate at
    which blocks of a trait are used again at an age is reuses over time spent there, so that blocks
    still waiting count for what they have waited. A rate of few blocks leans on that of the coarser
    group, with a component less, and in the end on that of all blocks.

    Args:
        prefixes: lengths of the trait prefixes that are groups of their own, rising; the last is
            the trait's length.
    """

    def __init__(self, prefixes: tuple[int, ...]) -> None:
        self._prefixes = prefixes
        self._rows: dict[Trait, int] = {}
        # By row and age class of the end: reuses, all ends, and time since the class's bound.
        self._num_reuses: list[list[int]] = []
        self._num_ends: list[list[int]] = []
        self._beyond_s: list[list[float]] = []
        # By row, the longest waiting first.
        self._waiting: list[dict[BlockHash, float]] = []
        self._age_s, self._age = 0.0, 0
        self.worth: npt.NDArray[np.float64] = np.zeros((0, NUM_AGES))
        """Reuses per second of keeping, by trait row and age class; see `refresh`."""

    def row_of(self, trait: Trait) -> int:
        """Index of a trait."""
        row = self._rows.setdefault(trait, len(self._rows))
        if row == len(self._waiting):
            self._waiting.append({})
            self._num_reuses.append([0] * NUM_AGES)
            self._num_ends.append([0] * NUM_AGES)
            self._beyond_s.append([0.0] * NUM_AGES)
        return row

    def started(self, block_hash: BlockHash, row: int, now_s: float) -> None:
        """A block was used; its next use is awaited from now on."""
        self._waiting[row][block_hash] = now_s

    def reused(self, block_hash: BlockHash, row: int, now_s: float) -> None:
        """It was used again."""
        self._num_reuses[row][self._stop(block_hash, row, now_s)] += 1

    def forgotten(self, block_hash: BlockHash, row: int, now_s: float) -> None:
        """Nobody will follow it any further."""
        self._stop(block_hash, row, now_s)

    def _stop(self, block_hash: BlockHash, row: int, now_s: float) -> int:
        age_s = now_s - self._waiting[row].pop(block_hash)
        # Blocks of a request come one after the other, and are of one age.
        if age_s != self._age_s:
            self._age_s, self._age = age_s, age_class(age_s)
        age = self._age
        self._num_ends[row][age] += 1
        self._beyond_s[row][age] += age_s - AGE_BOUNDS_S[age]
        return age

    def refresh(self, now_s: float) -> None:
        """Works `worth` out anew.

        A block that is kept until some age earns the chance that it is used by then, and costs the
        time until it is used or given up. Its worth is the best such ratio over all ages to come:
        the index of Gittins (1979), which says whom to keep when room is scarce.
        """
        if not self._rows:
            return
        rates = self._rates(np.array(self._num_reuses, float), self._spent_s(now_s))
        chances = 1 - np.exp(-rates * _WIDTHS)
        self.worth = _best_ratio(chances)

    def _spent_s(self, now_s: float) -> npt.NDArray[np.float64]:
        """Seconds spent in each age class, by blocks whose wait ended and by those waiting."""
        num_ends = np.array(self._num_ends, float)
        beyond_s = np.array(self._beyond_s)
        for row, waiting in enumerate(self._waiting):
            if waiting:
                ages_s = now_s - np.fromiter(waiting.values(), float, len(waiting))
                ages = np.searchsorted(_BOUNDS, ages_s, "right") - 1
                ages = np.clip(ages, 0, NUM_AGES - 1)
                num_ends[row] += np.bincount(ages, minlength=NUM_AGES)
                beyond = np.maximum(0.0, ages_s - _BOUNDS[ages])
                beyond_s[row] += np.bincount(ages, weights=beyond, minlength=NUM_AGES)
        # Who ended in an older class went through all of the younger ones.
        num_through = num_ends[:, ::-1].cumsum(1)[:, ::-1] - num_ends
        return beyond_s + num_through * _WIDTHS

    def _rates(
        self, num_reuses: npt.NDArray[np.float64], spent_s: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float64]:
        overall = (num_reuses.sum(0) + 0.02) / (spent_s.sum(0) + _WIDTHS)
        rates = np.tile(overall, (len(num_reuses), 1))
        lent_s = _PRIOR_BLOCKS * _WIDTHS
        traits = list(self._rows)
        for length in self._prefixes:
            groups: dict[Trait, int] = {}
            member = [groups.setdefault(trait[:length], len(groups)) for trait in traits]
            reuses_of = np.zeros((len(groups), NUM_AGES))
            spent_of = np.zeros((len(groups), NUM_AGES))
            np.add.at(reuses_of, member, num_reuses)
            np.add.at(spent_of, member, spent_s)
            rates = (reuses_of[member] + lent_s * rates) / (spent_of[member] + lent_s)
        return rates


def _best_ratio(chances: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """For each row and age, the best of reuse chance over expected time, over all ages to stop."""
    best = np.zeros_like(chances)
    mean_s = _WIDTHS * (1 - chances / 2)
    for age in range(NUM_AGES):
        here = chances[:, age:]
        # Chance to come through all ages before each one, from `age` on.
        survival = np.cumprod(1 - here, axis=1)
        before = np.concatenate((np.ones((len(here), 1)), survival[:, :-1]), axis=1)
        cost_s = np.cumsum(before * mean_s[:, age:], axis=1)
        best[:, age] = ((1 - survival) / cost_s).max(axis=1)
    return best
