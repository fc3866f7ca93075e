"""The text that a client sees: whole characters, ended by stop strings that it never sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.text.detokenizer import KnownText, TokenVocabulary, open_detokenizer


@dataclass(frozen=True, slots=True)
class TextDelta:
    """News of a stream's text.

    Attributes:
        text: new text; may be empty.
        stopped: a stop string is complete; nothing comes after this.
        num_tokens: tokens of the whole stream that count, the one that completed the stop string
            included and those after it not.
    """

    text: str
    stopped: bool
    num_tokens: int


class TextStream:
    """Token ids of one answer to text.

    The stop string that is complete first wins, the longest of those that are complete at the same
    character. Without one, all texts join to the decoded ids.

    Args:
        vocabulary: of the model.
        stop: texts that end the answer and are not part of it; none of them empty.
        prompt_token_ids: see Detokenizer.
    """

    def __init__(
        self,
        vocabulary: TokenVocabulary,
        *,
        stop: Sequence[str] = (),
        prompt_token_ids: Sequence[int] = (),
    ) -> None:
        self._detokenizer = open_detokenizer(vocabulary, prompt_token_ids)
        self._stop = tuple(stop)
        self._max_held_chars = max((len(text) for text in self._stop), default=1) - 1
        # Text that may turn out to be the beginning of a stop string.
        self._held = ""
        self._stopped = False
        self._stop_string: str | None = None
        self._num_tokens = 0

    @property
    def stop_string(self) -> str | None:
        """The stop string that ended the text, if one did."""
        return self._stop_string

    def feed(self, token_ids: Sequence[int]) -> TextDelta:
        """Takes the next ids. After a stop string they are ignored."""
        if not self._stop:
            self._num_tokens += len(token_ids)
            return self._delta(self._detokenizer.feed(token_ids))
        pieces: list[str] = []
        for token_id in token_ids:
            if self._stopped:
                break
            self._num_tokens += 1
            pieces.append(self._pass_on(self._detokenizer.feed((token_id,))))
        return self._delta("".join(pieces))

    def known(self, token_id: int) -> KnownText | None:
        """Takes the next id if its text is known at once and nothing is held back; else not."""
        if self._stop:
            return None
        found = self._detokenizer.known(token_id)
        if found is not None:
            self._num_tokens += 1
        return found

    def finish(self) -> TextDelta:
        """No more ids come: what was held back. Nothing after a stop string."""
        if self._stopped:
            return self._delta("")
        text = self._pass_on(self._detokenizer.flush())
        if not self._stopped:
            text, self._held = text + self._held, ""
        return self._delta(text)

    def _delta(self, text: str) -> TextDelta:
        return TextDelta(text, self._stopped, self._num_tokens)

    def _pass_on(self, piece: str) -> str:
        """Text that can be shown, now that `piece` is known."""
        if not piece:
            return ""
        text = self._held + piece
        matches = [(text.find(stop) + len(stop), -len(stop)) for stop in self._stop if stop in text]
        if matches:
            end, minus_length = min(matches)
            self._stopped, self._held = True, ""
            self._stop_string = text[end + minus_length : end]
            return text[: end + minus_length]
        num_held = self._num_held_chars(text)
        self._held = text[len(text) - num_held :]
        return text[: len(text) - num_held]

    def _num_held_chars(self, text: str) -> int:
        """Length of the longest end of `text` that is the beginning of a stop string."""
        for length in range(min(self._max_held_chars, len(text)), 0, -1):
            end = text[-length:]
            if any(stop.startswith(end) for stop in self._stop):
                return length
        return 0
