"""How soon blocks are used again, learned from those that were and those that were not."""

from __future__ import annotations

import bisect
from collections import OrderedDict

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

_WIDTHS = np.diff(np.array(AGE_BOUNDS_S))


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
        self._num_reuses = np.zeros((0, NUM_AGES))
        self._spent_s = np.zeros((0, NUM_AGES))
        self._waiting: list[list[OrderedDict[BlockHash, float]]] = []
        self._grown_s: list[float] = []
        self.worth: npt.NDArray[np.float64] = np.zeros((0, NUM_AGES))
        """Reuses per second of keeping, by trait row and age class; see `refresh`."""

    @property
    def num_traits(self) -> int:
        """Rows of `worth` to come."""
        return len(self._rows)

    def row_of(self, trait: Trait) -> int:
        """Index of a trait."""
        row = self._rows.setdefault(trait, len(self._rows))
        if row == len(self._waiting):
            self._waiting.append([OrderedDict() for _ in range(NUM_AGES)])
            self._grown_s.append(float("-inf"))
            if row == len(self._num_reuses):
                grown = ((0, max(16, row)), (0, 0))
                self._num_reuses = np.pad(self._num_reuses, grown)
                self._spent_s = np.pad(self._spent_s, grown)
        return row

    def started(self, block_hash: BlockHash, row: int, now_s: float) -> None:
        """A block was used; its next use is awaited from now on."""
        self._waiting[row][0][block_hash] = now_s

    def reused(self, block_hash: BlockHash, row: int, since_s: float, now_s: float) -> None:
        """It was used again."""
        age = self._stop(block_hash, row, since_s, now_s)
        self._num_reuses[row, age] += 1

    def forgotten(self, block_hash: BlockHash, row: int, since_s: float, now_s: float) -> None:
        """Nobody will follow it any further."""
        self._stop(block_hash, row, since_s, now_s)

    def _stop(self, block_hash: BlockHash, row: int, since_s: float, now_s: float) -> int:
        self._grow_older(row, now_s)
        age = age_class(now_s - since_s)
        waiting = self._waiting[row][age]
        if block_hash in waiting:
            del waiting[block_hash]
        else:
            # On a bound of age classes, where rounding may put it to either side.
            age = next(idx for idx, group in enumerate(self._waiting[row]) if block_hash in group)
            del self._waiting[row][age][block_hash]
        self._spent_s[row, age] += max(0.0, now_s - since_s - AGE_BOUNDS_S[age])
        return age

    def _grow_older(self, row: int, now_s: float) -> None:
        if self._grown_s[row] == now_s:
            return
        self._grown_s[row] = now_s
        groups = self._waiting[row]
        for age in range(NUM_AGES - 1):
            group, until_s = groups[age], AGE_BOUNDS_S[age + 1]
            while group:
                block_hash, since_s = next(iter(group.items()))
                if now_s - since_s < until_s:
                    break
                del group[block_hash]
                groups[age + 1][block_hash] = since_s
                self._spent_s[row, age] += _WIDTHS[age]

    def refresh(self, now_s: float) -> None:
        """Works `worth` out anew.

        A block that is kept until some age earns the chance that it is used by then, and costs the
        time until it is used or given up. Its worth is the best such ratio over all ages to come:
        the index of Gittins (1979), which says whom to keep when room is scarce.
        """
        num_rows = self.num_traits
        if not num_rows:
            return
        spent_s = self._spent_s[:num_rows].copy()
        for row, groups in enumerate(self._waiting):
            self._grow_older(row, now_s)
            for age, group in enumerate(groups):
                if group:
                    waited_s = len(group) * (now_s - AGE_BOUNDS_S[age]) - sum(group.values())
                    spent_s[row, age] += max(0.0, waited_s)
        rates = self._rates(self._num_reuses[:num_rows], spent_s)
        chances = 1 - np.exp(-rates * _WIDTHS)
        self.worth = _best_ratio(chances)

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
