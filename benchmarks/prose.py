"""Real prose for prompts; where it is from stands beside each text (data/README.md)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

PROSE_FILE = Path(__file__).with_name("data") / "prose.json"


@dataclass(frozen=True, slots=True)
class Prose:
    """One prompt.

    Attributes:
        num_tokens: in the default model's vocabulary.
    """

    source: str
    num_tokens: int
    text: str


def load_prose(path: Path = PROSE_FILE) -> list[Prose]:
    """The prompts, in an order of which every beginning has the same mix of lengths."""
    return [Prose(**entry) for entry in json.loads(path.read_text())]


class TokenStream:
    """All prose as one run of token ids, from which prompts of any length are cut.

    Args:
        token_ids: at least one.
    """

    def __init__(self, token_ids: Sequence[int]) -> None:
        self._ids = list(token_ids)
        self._next_start = 0

    @classmethod
    def of_model(cls, model_dir: Path) -> TokenStream:
        """The prose in the ids of a model."""
        tokenizer = Tokenizer.from_file(str(model_dir / "tokenizer.json"))
        return cls([i for prose in load_prose() for i in tokenizer.encode(prose.text).ids])

    def cut(self, num_tokens: int) -> list[int]:
        """A prompt that begins where no prompt of this stream began for long."""
        # A step that shares no divisor with most lengths, so that wrapping round begins elsewhere.
        start = self._next_start
        self._next_start = (start + 997) % len(self._ids)
        return [self._ids[(start + idx) % len(self._ids)] for idx in range(num_tokens)]

    def prompts(self, count: int, num_tokens: int) -> list[list[int]]:
        """Several prompts of one length."""
        return [self.cut(num_tokens) for _ in range(count)]
