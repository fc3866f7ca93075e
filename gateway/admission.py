"""From an ask to requests that can be queued: checked, tokenized, fitted, paid for."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import replace

from gateway.ask import Ask, ChatPrompt
from gateway.catalog import ServedModel
from gateway.length import fit_answer
from gateway.prompts import PromptReader
from gateway.quota.quotas import Grant
from gateway.requests.request_ids import choice_request_id
from gateway.sessions.sessions import Turn
from gateway.sessions.trimming import trim
from services.core.request import QueuedRequest
from services.core.sampling import SamplingParams, check_sampling, seed_of_choice


def num_tokens_of(requests: Sequence[QueuedRequest], *, num_choices: int) -> int:
    """Tokens that an ask can use at most; a prompt counts once."""
    prompts = sum(len(request.prompt_token_ids) for request in requests[::num_choices])
    return prompts + sum(request.sampling.max_tokens or 0 for request in requests)


class Admission:
    """Makes requests; keeps nothing.

    Args:
        prompts: tokenizes.
        default_max_tokens: see GatewaySettings.
    """

    def __init__(self, prompts: PromptReader, default_max_tokens: int | None) -> None:
        self._prompts = prompts
        self._default_max_tokens = default_max_tokens

    async def trimmed(self, ask: Ask, turn: Turn, model: ServedModel) -> ChatPrompt:
        """The turn's prompt without the oldest turns that do not fit."""

        async def count(prompt: ChatPrompt) -> int:
            deadline = ask.deadline_unix_ms
            return len(await self._prompts.token_ids(prompt, model, deadline_unix_ms=deadline))

        return await trim(
            turn.prompt,
            num_new=turn.num_new_messages,
            max_tokens=ask.sampling.max_tokens,
            max_model_len=model.description.max_model_len,
            count=count,
        )

    async def requests(
        self, ask: Ask, model: ServedModel, grant: Grant, reply_to: str
    ) -> list[QueuedRequest]:
        """One request for each choice; those of a prompt on a worker share its blocks.

        Nothing is reserved yet: see num_tokens_of.

        Raises:
            TokenmillError: refused, or no tokenizer answers.
        """
        accepted_unix_ms = int(time.time() * 1000)
        check_sampling(ask.sampling, vocab_size=model.description.vocab_size)
        fitted: list[tuple[tuple[int, ...], SamplingParams]] = []
        for prompt in ask.prompts:
            token_ids = await self._prompts.token_ids(
                prompt, model, deadline_unix_ms=ask.deadline_unix_ms
            )
            sampling = fit_answer(
                ask.sampling,
                num_prompt_tokens=len(token_ids),
                prompt_field=prompt.field,
                max_model_len=model.description.max_model_len,
                default_max_tokens=ask.default_max_tokens or self._default_max_tokens,
                max_total_tokens=grant.max_tokens,
            )
            fitted.append((token_ids, sampling))
        seed = secrets.randbits(63) if ask.sampling.seed is None else ask.sampling.seed
        # All of them is 0; the wire's field is narrower than a caller's number.
        top_k = ask.sampling.top_k if ask.sampling.top_k < model.description.vocab_size else 0
        return [
            QueuedRequest(
                request_id=choice_request_id(
                    ask.request_id, prompt_idx * ask.num_choices + choice_idx
                ),
                attempt=1,
                model=model.name,
                prompt_token_ids=token_ids,
                sampling=replace(sampling, seed=seed_of_choice(seed, choice_idx), top_k=top_k),
                tenant=ask.tenant,
                session_id=ask.session_id,
                deadline_unix_ms=ask.deadline_unix_ms,
                reply_to=reply_to,
                request_class=ask.request_class,
                accepted_unix_ms=accepted_unix_ms,
            )
            for prompt_idx, (token_ids, sampling) in enumerate(fitted)
            for choice_idx in range(ask.num_choices)
        ]
