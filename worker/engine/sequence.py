"""State of one generation in flight."""

from __future__ import annotations

import enum

from services.core.blocks import NOTHING_PUBLIC, BlockHash, PublicBlocks, extend_chain
from services.core.logprobs import TokenLogprobs
from services.core.request import FinishReason, RequestClass
from services.core.sampling import SamplingParams
from worker.engine.port import SequenceSpec
from worker.engine.sampling.history import TokenHistory

_RANKS = {request_class: rank for rank, request_class in enumerate(RequestClass)}


class SequenceStatus(enum.Enum):
    """Where a sequence is in the engine."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"


class LiveSequence:
    """One generation: its tokens, what is computed of them, and where.

    Only the engine's thread changes it. `token_ids` is prompt then output, delivered tokens first.
    K/V of the tokens before `num_computed` is in the blocks of `block_table`.
    """

    __slots__ = (
        "arrival_idx",
        "block_hashes",
        "block_table",
        "cached_tokens",
        "draft_token_ids",
        "has_reported",
        "history",
        "max_len",
        "num_computed",
        "num_prompt",
        "prompt_logprobs",
        "public",
        "root",
        "spec",
        "status",
        "token_ids",
        "urgency",
        "was_admitted",
    )

    def __init__(
        self,
        spec: SequenceSpec,
        *,
        arrival_idx: int,
        root: BlockHash,
        public: PublicBlocks = NOTHING_PUBLIC,
        max_model_len: int,
    ) -> None:
        self.spec = spec
        self.arrival_idx = arrival_idx
        self.urgency = _RANKS[spec.request_class], arrival_idx
        """Order of service: the rank of its class, then its arrival."""
        self.root = root
        self.public = public
        self.token_ids = [*spec.prompt_token_ids, *spec.delivered_token_ids]
        self.num_prompt = len(spec.prompt_token_ids)
        self.history = _history_of(spec)
        self.prompt_logprobs: list[TokenLogprobs] = []
        """Of the prompt tokens from the second on whose K/V is there, if they are asked for."""
        max_tokens = spec.sampling.max_tokens
        self.max_len = (
            max_model_len
            if max_tokens is None
            else min(max_model_len, self.num_prompt + max_tokens)
        )
        self.status = SequenceStatus.WAITING
        self.num_computed = 0
        self.block_table: list[int] = []
        self.block_hashes: list[BlockHash] = []
        self.draft_token_ids: tuple[int, ...] = ()
        """Guesses of how it goes on, for the next step."""
        self.cached_tokens = 0
        self.was_admitted = False
        self.has_reported = False

    @property
    def seq_id(self) -> str:
        """Unique among live sequences."""
        return self.spec.seq_id

    @property
    def sampling(self) -> SamplingParams:
        """How its tokens are chosen."""
        return self.spec.sampling

    @property
    def num_output(self) -> int:
        """Output tokens so far; the position of the next one."""
        return len(self.token_ids) - self.num_prompt

    @property
    def is_prefilling(self) -> bool:
        """Whether prompt tokens remain to be computed."""
        return self.num_computed < self.num_prompt

    @property
    def num_pending_prefill(self) -> int:
        """Prompt tokens that remain to be computed."""
        return max(0, self.num_prompt - self.num_computed)

    @property
    def wants_prompt_logprobs(self) -> bool:
        """Whether the next output tells how likely the prompt was."""
        return (
            self.sampling.prompt_logprobs is not None
            and not self.has_reported
            and not self.spec.delivered_token_ids
        )

    def append(self, token_id: int) -> None:
        """The answer goes on with this token."""
        self.token_ids.append(token_id)
        if self.history is not None:
            self.history.add(token_id)

    def hashes(self, num_blocks: int, block_size: int) -> list[BlockHash]:
        """Hashes of the first num_blocks full blocks."""
        extend_chain(
            self.block_hashes,
            self.token_ids,
            num_blocks,
            block_size,
            root=self.root,
            public=self.public,
        )
        return self.block_hashes[:num_blocks]

    def finish_reason(self, eos_token_ids: frozenset[int]) -> FinishReason | None:
        """Whether the output so far is complete, judged by its last token."""
        if len(self.token_ids) > self.num_prompt:
            last = self.token_ids[-1]
            sampling = self.spec.sampling
            is_eos = last in eos_token_ids and not sampling.ignore_eos
            if is_eos or last in sampling.stop_token_ids:
                # min_tokens is the sampler's business: a token that is here was allowed.
                return FinishReason.STOP
        return FinishReason.LENGTH if len(self.token_ids) >= self.max_len else None


def _history_of(spec: SequenceSpec) -> TokenHistory | None:
    """What penalties look at; None if there are none."""
    if not spec.sampling.penalizes:
        return None
    history = TokenHistory(spec.prompt_token_ids)
    for token_id in spec.delivered_token_ids:
        history.add(token_id)
    return history
