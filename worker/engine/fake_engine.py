"""An engine without a model: the real step loop, deterministic tokens, a configurable clock.

Everything around an engine is tested against this one: scheduling, the pool, prefix hits,
preemption, cancels and resumption are the real code; only the forward pass is not there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from struct import pack

from services.core.blocks import BlockLayout
from services.core.logprobs import TokenLogprobs
from worker.engine.engine_loop import LoopEngine
from worker.engine.fake_pace import StepPace
from worker.engine.runner import SampledTokens, StepResult, accepted
from worker.engine.settings import EngineSettings
from worker.engine.step_plan import SequenceSlice

_DEFAULT_NUM_BLOCKS = 1024
_MAX_KNOWN_PROMPTS = 4096


@dataclass(frozen=True, slots=True)
class FakeModel:
    """What the fake engine pretends to be.

    Attributes:
        vocab_size: ids 0 .. vocab_size - 1 are accepted; answers use those from first_token_id on,
            without the end-of-sequence id.
        eos_after: output position of the end-of-sequence token; None never ends by itself.
        step_time_s: time that every step takes, what Python spends on it included.
        prefill_s_per_token: time that every prompt token adds.
        delay_s: asked at each step for time that it takes on top.
        revision: stands in for the digest of weights.
        failing_token_id: a sequence whose slice holds this id fails its step; None never fails.
    """

    vocab_size: int = 32000
    first_token_id: int = 3
    eos_token_id: int = 2
    eos_after: int | None = None
    max_model_len: int = 8192
    step_time_s: float = 0.0
    prefill_s_per_token: float = 0.0
    delay_s: Callable[[], float] = lambda: 0.0
    revision: str = "fake-1"
    failing_token_id: int | None = None


def fake_token(model: FakeModel, prompt: Sequence[int], seed: int | None, position: int) -> int:
    """The token at one output position: a pure function of its arguments.

    Args:
        model: vocabulary and end of sequence.
        prompt: prompt token ids.
        seed: of a sampled sequence; None if it is greedy.
        position: output position, from 0.
    """
    if model.eos_after is not None and position >= model.eos_after:
        return model.eos_token_id
    digest = _prompt_digest(tuple(prompt)).copy()
    digest.update(repr((seed, position)).encode())
    span = model.vocab_size - model.first_token_id
    token_id = model.first_token_id + int.from_bytes(digest.digest(), "little") % span
    if token_id == model.eos_token_id:
        token_id = model.first_token_id + (token_id - model.first_token_id + 1) % span
    return token_id


@lru_cache(maxsize=_MAX_KNOWN_PROMPTS)
def _prompt_digest(prompt: tuple[int, ...]) -> blake2b:
    return blake2b(pack(f"<{len(prompt)}I", *prompt), digest_size=8)


def fake_logprobs(model: FakeModel, token_id: int, num_top: int) -> TokenLogprobs:
    """A token's made-up log-probabilities: itself the likeliest, the ids after it each less so."""
    own = -0.5 * (1 + token_id % 7)
    ids = tuple((token_id + i) % model.vocab_size for i in range(num_top))
    return TokenLogprobs(own, ids, tuple(own - 0.5 * i for i in range(num_top)))


class FakeRunner:
    """A StepRunner that writes token ids where K/V would be and sleeps where work would be."""

    def __init__(self, model: FakeModel, settings: EngineSettings) -> None:
        self._model = model
        self._num_blocks = settings.num_blocks or _DEFAULT_NUM_BLOCKS
        self._layout = BlockLayout(
            dtype="uint8", num_layers=1, num_kv_heads=1, head_dim=1, block_size=settings.block_size
        )
        self._block_bytes = 2 * settings.block_size
        self._content = bytearray(self._num_blocks * self._block_bytes)
        self.pace = StepPace()
        self.num_tokens_computed = 0
        """Tokens over all steps: what a prefix hit saves."""

    @property
    def layout(self) -> BlockLayout:
        """Layout of the K/V blocks."""
        return self._layout

    @property
    def model_revision(self) -> str:
        """Digest of the weights."""
        return self._model.revision

    @property
    def num_blocks(self) -> int:
        """Blocks in the pool."""
        return self._num_blocks

    @property
    def block_bytes(self) -> int:
        """Bytes of one block."""
        return self._block_bytes

    @property
    def vocab_size(self) -> int:
        """Ids 0 .. vocab_size - 1 are valid."""
        return self._model.vocab_size

    @property
    def max_model_len(self) -> int:
        """Longest prompt plus answer."""
        return self._model.max_model_len

    @property
    def eos_token_ids(self) -> frozenset[int]:
        """Ids that end an answer."""
        return frozenset({self._model.eos_token_id})

    def run(self, slices: Sequence[SequenceSlice]) -> StepResult:
        """Takes the time of a step and gives each sampling sequence its next token."""
        tokens: dict[str, SampledTokens] = {}
        prompt_logprobs: dict[str, Sequence[TokenLogprobs]] = {}
        num_prefill = 0
        for piece in slices:
            self._write(piece)
            if piece.is_prefill:
                num_prefill += piece.num_tokens
                if piece.seq.wants_prompt_logprobs:
                    prompt_logprobs[piece.seq.seq_id] = self._logprobs(
                        piece.next_prompt_token_ids, piece.seq.sampling.prompt_logprobs
                    )
            if piece.samples:
                seq = piece.seq
                seed = seq.sampling.seed if seq.sampling.temperature > 0 else None
                prompt, first = seq.spec.prompt_token_ids, seq.num_output
                chosen = accepted(
                    [
                        fake_token(self._model, prompt, seed, first + num_before)
                        for num_before in range(1 + len(piece.draft_token_ids))
                    ],
                    piece.draft_token_ids,
                )
                logprobs = self._logprobs(chosen, seq.sampling.logprobs)
                tokens[seq.seq_id] = SampledTokens(chosen, logprobs)
        self.num_tokens_computed += sum(piece.num_tokens for piece in slices)
        delay_s = self._model.step_time_s + num_prefill * self._model.prefill_s_per_token
        self.pace.step(delay_s + self._model.delay_s())
        return StepResult(tokens, prompt_logprobs=prompt_logprobs)

    def export_block(self, block_id: int) -> bytes:
        """A copy of one block's bytes."""
        start = block_id * self._block_bytes
        return bytes(self._content[start : start + self._block_bytes])

    def import_block(self, block_id: int, content: bytes | memoryview) -> None:
        """Overwrites one block.

        Raises:
            ValueError: not the size of a block.
        """
        if len(content) != self._block_bytes:
            raise ValueError(f"block has {len(content)} bytes; expected {self._block_bytes}")
        start = block_id * self._block_bytes
        self._content[start : start + self._block_bytes] = content

    def _logprobs(self, token_ids: Sequence[int], num_top: int | None) -> tuple[TokenLogprobs, ...]:
        if num_top is None:
            return ()
        return tuple(fake_logprobs(self._model, token_id, num_top) for token_id in token_ids)

    def _write(self, piece: SequenceSlice) -> None:
        seq, block_size = piece.seq, self._layout.block_size
        for position, token_id in enumerate(piece.token_ids, start=piece.start):
            if token_id == self._model.failing_token_id:
                raise RuntimeError(f"token {token_id} fails on purpose")
            block_id = seq.block_table[position // block_size]
            slot = block_id * self._block_bytes + position % block_size
            self._content[slot] = token_id & 0xFF


class FakeEngine(LoopEngine):
    """A LoopEngine over a FakeRunner; tests may look at `runner`."""

    def __init__(
        self, model: FakeModel | None = None, settings: EngineSettings | None = None
    ) -> None:
        settings = settings or EngineSettings()
        self.runner = FakeRunner(model or FakeModel(), settings)
        super().__init__(self.runner, settings)

    def _rest(self) -> None:
        self.runner.pace.rest()
        super()._rest()
