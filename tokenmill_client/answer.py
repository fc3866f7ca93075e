"""A whole answer, joined from its parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.core.logprobs import TokenLogprobs
from services.core.request import FinishReason, Usage
from services.wire.inference import AnswerPart


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the answers to a request; token_ids only if they were asked for."""

    text: str
    finish_reason: FinishReason
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprobs, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """All choices of a request, in order; usage counts them all."""

    request_id: str
    choices: tuple[Choice, ...]
    usage: Usage

    @property
    def text(self) -> str:
        """Of the first choice."""
        return self.choices[0].text

    @property
    def finish_reason(self) -> FinishReason:
        """Of the first choice."""
        return self.choices[0].finish_reason


def joined(parts: Sequence[AnswerPart]) -> Answer:
    """All parts of an answer as one."""
    by_choice: dict[int, list[AnswerPart]] = {}
    for part in parts:
        by_choice.setdefault(part.choice_idx, []).append(part)
    return Answer(
        request_id=parts[0].request_id,
        choices=tuple(_choice(by_choice[choice_idx]) for choice_idx in sorted(by_choice)),
        usage=next((part.usage for part in parts if part.usage is not None), Usage()),
    )


def _choice(parts: Sequence[AnswerPart]) -> Choice:
    return Choice(
        text="".join(part.text for part in parts),
        finish_reason=parts[-1].finish_reason or FinishReason.STOP,
        token_ids=tuple(token_id for part in parts for token_id in part.token_ids),
        logprobs=tuple(entry for part in parts for entry in part.logprobs),
    )
