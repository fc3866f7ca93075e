"""transformers' continuous batching, on its own thread, fed through its manager."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.peers.port import Wish, run_peer

_PAGE_SIZE = 64
_NUM_BLOCKS = 512
_MAX_STEP_TOKENS = 1024
_NO_TOKEN = -1
"""As the end of a sequence: none is ever drawn."""


class ContinuousBatching:
    """A running manager of transformers."""

    def __init__(self, manager: Any) -> None:
        self._manager = manager

    def generate(self, prompts: Sequence[Sequence[int]], max_tokens: int, concurrency: int) -> int:
        """As the port says."""
        waiting = list(prompts)[::-1]
        num_running = num_tokens = 0
        while waiting or num_running:
            while waiting and num_running < concurrency:
                self._manager.add_request(
                    list(waiting.pop()), max_new_tokens=max_tokens, eos_token_id=_NO_TOKEN
                )
                num_running += 1
            result = self._manager.get_result(timeout=1)
            if result is None:
                if not self._manager.is_running():
                    raise RuntimeError("the manager ended")
            elif result.is_finished():
                if result.error is not None:
                    raise RuntimeError(result.error)
                num_running -= 1
                num_tokens += len(result.generated_tokens)
        return num_tokens


def load(wish: Wish) -> ContinuousBatching:
    """Loads in bfloat16 and starts the manager."""
    import torch
    from transformers import AutoModelForCausalLM, ContinuousBatchingConfig, GenerationConfig

    torch.set_num_threads(wish.num_threads)
    model: Any = AutoModelForCausalLM.from_pretrained(
        wish.model_dir, dtype=torch.bfloat16, attn_implementation="sdpa"
    ).eval()
    manager = model.init_continuous_batching(
        generation_config=GenerationConfig(do_sample=False, eos_token_id=_NO_TOKEN, pad_token_id=0),
        continuous_batching_config=ContinuousBatchingConfig(
            page_size=_PAGE_SIZE,
            num_blocks=_NUM_BLOCKS,
            max_batch_tokens=_MAX_STEP_TOKENS,
            allow_block_sharing=False,
        ),
    )
    manager.start()
    return ContinuousBatching(manager)


if __name__ == "__main__":
    run_peer(load)
