"""What the sessions talk about: pieces of a book, and questions about them."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer

BOOK_FILE = Path(__file__).parents[1] / "data" / "quality.txt"
_QUESTIONS = (
    "What happens next, in your opinion?",
    "Who is speaking here, and to whom?",
    "Put the last part into other words.",
    "Which word would you take out, and why?",
    "Where does this take place?",
)
SETTING = (
    "You are a patient companion for readers. You are given a book piece by piece, as the reader"
    " gets on with it. Answer in one or two short sentences, in plain words, without quoting the"
    " text at length. Never tell what comes later in the book, even if you know it. If something"
    " is not clear from what was read so far, say so instead of guessing. Names stay as the book"
    " spells them. Be kind: the reader may be a child, or may be learning the language."
)
"""Stands at the beginning of each conversation, as a product's own words do."""


class Book:
    """A text of which pieces of any length are cut.

    Args:
        token_ids: of the text.
        tokenizer: turns them into text again.
    """

    def __init__(self, token_ids: list[int], tokenizer: Tokenizer) -> None:
        self._ids = token_ids
        self._tokenizer = tokenizer

    @classmethod
    def of_model(cls, model_dir: Path) -> Book:
        """The book in the tokens of a model."""
        tokenizer = Tokenizer.from_file(str(model_dir / "tokenizer.json"))
        return cls(tokenizer.encode(BOOK_FILE.read_text(encoding="utf-8")).ids, tokenizer)

    def piece(self, start: int, num_tokens: int) -> str:
        """So many tokens from a place on; after the end the book begins again."""
        ids = [self._ids[(start + idx) % len(self._ids)] for idx in range(num_tokens)]
        return self._tokenizer.decode(ids)

    def opening(self, session_idx: int, num_tokens: int) -> str:
        """A first message, which no other session's begins like."""
        return f"({session_idx}) {self.piece(session_idx * 997, num_tokens)}"

    def next_page(self, session_idx: int, turn_idx: int, num_tokens: int) -> str:
        """A message of a conversation that goes on."""
        start = session_idx * 997 + turn_idx * num_tokens
        return f"{self.piece(start, num_tokens)}\n{question(session_idx + turn_idx)}"


def question(idx: int) -> str:
    """A short message."""
    return _QUESTIONS[idx % len(_QUESTIONS)]
