"""Finds where a sequence said the same before."""

from __future__ import annotations

from collections.abc import Sequence

NUM_MATCHED = 3
"""Tokens that must have stood there before: with fewer, most guesses are wrong."""


class PromptLookup:
    """Continues a sequence as it went on after the last place with the same tokens.

    Source: prompt lookup decoding, Saxena 2023.
    """

    def __init__(self) -> None:
        self._end_of: dict[tuple[int, ...], int] = {}
        self._num_indexed = 0

    def guess(self, token_ids: Sequence[int], max_tokens: int) -> tuple[int, ...]:
        """What may follow; empty if the end of the sequence is new.

        Args:
            token_ids: of the sequence; each call has those of the call before, and more.
            max_tokens: longest guess.
        """
        num_tokens = len(token_ids)
        if num_tokens < NUM_MATCHED:
            return ()
        # All ends but the last, which would find itself.
        for end in range(max(self._num_indexed, NUM_MATCHED), num_tokens):
            self._end_of[tuple(token_ids[end - NUM_MATCHED : end])] = end
        self._num_indexed = num_tokens
        found = self._end_of.get(tuple(token_ids[num_tokens - NUM_MATCHED :]))
        return () if found is None else tuple(token_ids[found : found + max_tokens])
