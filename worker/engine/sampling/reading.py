"""Which rows of a step need logits, and what becomes of these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile

import torch

from services.core.logprobs import TokenLogprobs
from worker.engine.runner import SampledTokens, StepResult, accepted
from worker.engine.sampling.logprobs import logprobs_of
from worker.engine.sampling.row import SampleRow
from worker.engine.sampling.sampler import sample
from worker.engine.step_plan import SequenceSlice


@dataclass(slots=True)
class WantedRows:
    """Rows of a packed step that need logits; those that sample come first.

    Attributes:
        rows: of the step; logits come in this order.
        samplers: slices that sample, each by its last token that is no draft and by its drafts.
        prompts: slices whose prompt is to be told the likelihood of; their rows follow.
    """

    rows: list[int] = field(default_factory=list[int])
    samplers: list[SequenceSlice] = field(default_factory=list[SequenceSlice])
    prompts: list[SequenceSlice] = field(default_factory=list[SequenceSlice])


def rows_wanted(slices: Sequence[SequenceSlice]) -> WantedRows:
    """The rows of slices that are packed one after the other."""
    wanted = WantedRows()
    prompt_rows: list[int] = []
    num_rows = 0
    for piece in slices:
        if piece.is_prefill and piece.seq.wants_prompt_logprobs:
            wanted.prompts.append(piece)
            prompt_rows.extend(range(num_rows, num_rows + len(piece.next_prompt_token_ids)))
        num_rows += piece.num_tokens
        if piece.samples:
            wanted.rows.extend(range(num_rows - 1 - len(piece.draft_token_ids), num_rows))
            wanted.samplers.append(piece)
    wanted.rows += prompt_rows
    return wanted


def read_logits(
    logits: torch.Tensor, wanted: WantedRows, eos_token_ids: frozenset[int]
) -> StepResult:
    """Tokens and log-probabilities: (len(wanted.rows), vocab_size) to a result."""
    rows = [row for piece in wanted.samplers for row in _sample_rows(piece)]
    tokens: dict[str, SampledTokens] = {}
    errors: dict[str, str] = {}
    if rows:
        own = logits[: len(rows)]
        sampled = sample(own, rows, eos_token_ids)
        logprobs = _sampled_logprobs(own, rows, sampled)
        first = 0
        for piece in wanted.samplers:
            end = first + 1 + len(piece.draft_token_ids)
            usable = list(takewhile(lambda token_id: token_id is not None, sampled[first:end]))
            chosen = accepted([i for i in usable if i is not None], piece.draft_token_ids)
            if chosen:
                told = [logprobs[i] for i in range(first, first + len(chosen)) if i in logprobs]
                tokens[piece.seq.seq_id] = SampledTokens(chosen, told)
            else:
                errors[piece.seq.seq_id] = "no token can be chosen: logits not finite or all banned"
            first = end
    return StepResult(tokens, errors, _prompt_logprobs(logits[len(rows) :], wanted.prompts))


def _sample_rows(piece: SequenceSlice) -> list[SampleRow]:
    """Each draft's row is sampled as if the drafts before it, and itself, were right."""
    seq, drafts = piece.seq, piece.draft_token_ids
    return [
        SampleRow(
            seq.sampling,
            seq.num_output + num_before,
            None if seq.history is None else seq.history.followed_by(drafts[:num_before]),
        )
        for num_before in range(len(drafts) + 1)
    ]


def _sampled_logprobs(
    logits: torch.Tensor, rows: Sequence[SampleRow], chosen: Sequence[int | None]
) -> dict[int, TokenLogprobs]:
    """By row, of those that ask for them and have a token."""
    asking: list[int] = []
    token_ids: list[int] = []
    num_top: list[int] = []
    for row_idx, (row, token_id) in enumerate(zip(rows, chosen, strict=True)):
        if row.params.logprobs is not None and token_id is not None:
            asking.append(row_idx)
            token_ids.append(token_id)
            num_top.append(row.params.logprobs)
    if not asking:
        return {}
    found = logprobs_of(logits[asking], token_ids, num_top)
    return dict(zip(asking, found, strict=True))


def _prompt_logprobs(
    logits: torch.Tensor, pieces: Sequence[SequenceSlice]
) -> dict[str, Sequence[TokenLogprobs]]:
    found: dict[str, Sequence[TokenLogprobs]] = {}
    first = 0
    for piece in pieces:
        token_ids = piece.next_prompt_token_ids
        num_top = piece.seq.sampling.prompt_logprobs or 0
        rows = logits[first : first + len(token_ids)]
        found[piece.seq.seq_id] = logprobs_of(rows, token_ids, [num_top] * len(token_ids))
        first += len(token_ids)
    return found
