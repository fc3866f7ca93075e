"""Which tokens a sequence has, for penalties."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]

_MIN_ROOM = 64


class TokenHistory:
    """The distinct tokens of prompt and answer, and how often the answer has each.

    Kept as it grows, so that a step costs the distinct tokens and not the vocabulary.
    """

    def __init__(self, prompt_token_ids: Iterable[int]) -> None:
        distinct = list(dict.fromkeys(prompt_token_ids))
        self._place_of = {token_id: place for place, token_id in enumerate(distinct)}
        self._ids: Ids = np.array(distinct, dtype=np.int64)
        self._counts: Ids = np.zeros(len(distinct), dtype=np.int64)

    @property
    def token_ids(self) -> Ids:
        """Distinct ids, of prompt and answer."""
        return self._ids[: len(self._place_of)]

    @property
    def answer_counts(self) -> Ids:
        """How often the answer has each of token_ids."""
        return self._counts[: len(self._place_of)]

    def add(self, token_id: int) -> None:
        """The answer goes on with this token."""
        place = self._place_of.setdefault(token_id, len(self._place_of))
        if place == len(self._ids):
            room = max(_MIN_ROOM, place)
            self._ids = np.concatenate((self._ids, np.zeros(room, dtype=np.int64)))
            self._counts = np.concatenate((self._counts, np.zeros(room, dtype=np.int64)))
        self._ids[place] = token_id
        self._counts[place] += 1

    def followed_by(self, token_ids: Sequence[int]) -> TokenHistory:
        """This history if the answer went on so; this one stays as it is."""
        if not token_ids:
            return self
        copy: Any = object.__new__(TokenHistory)
        copy._place_of = dict(self._place_of)
        copy._ids, copy._counts = self._ids.copy(), self._counts.copy()
        for token_id in token_ids:
            copy.add(token_id)
        return copy
