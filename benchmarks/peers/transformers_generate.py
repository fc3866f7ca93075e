"""transformers' own `generate`: groups that start together, padded on the left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.peers.port import Wish, run_peer


class Generate:
    """A model of transformers."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def generate(self, prompts: Sequence[Sequence[int]], max_tokens: int, concurrency: int) -> int:
        """As the port says, but the next group starts when the whole one before it is done."""
        return sum(
            self._group(prompts[start : start + concurrency], max_tokens)
            for start in range(0, len(prompts), concurrency)
        )

    def _group(self, prompts: Sequence[Sequence[int]], max_tokens: int) -> int:
        import torch

        longest = max(len(ids) for ids in prompts)
        padding = [longest - len(ids) for ids in prompts]
        rows = [[0] * pad + list(ids) for pad, ids in zip(padding, prompts, strict=True)]
        masks = [[0] * pad + [1] * (longest - pad) for pad in padding]
        with torch.inference_mode():
            produced = self._model.generate(
                torch.tensor(rows),
                attention_mask=torch.tensor(masks),
                max_new_tokens=max_tokens,
                min_new_tokens=max_tokens,
                do_sample=False,
                pad_token_id=0,
            )
        return (produced.shape[1] - longest) * len(prompts)


def load(wish: Wish) -> Generate:
    """Loads in bfloat16."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(wish.num_threads)
    model = AutoModelForCausalLM.from_pretrained(wish.model_dir, dtype=torch.bfloat16)
    return Generate(model.eval())


if __name__ == "__main__":
    run_peer(load)
