"""vLLM's CPU build, its engine in this process, stepped by hand: no server in the way."""
# pyright: reportMissingImports=false

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from benchmarks.peers.port import Wish, run_peer

_MAX_SEQUENCES = 32
_MAX_MODEL_LEN = 1024


class Vllm:
    """A vLLM engine."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._num_asked = 0

    def generate(self, prompts: Sequence[Sequence[int]], max_tokens: int, concurrency: int) -> int:
        """As the port says."""
        from vllm import SamplingParams

        sampling = SamplingParams(
            temperature=0.0, max_tokens=max_tokens, ignore_eos=True, detokenize=False
        )
        waiting = list(prompts)[::-1]
        num_running = num_tokens = 0
        while waiting or num_running:
            while waiting and num_running < concurrency:
                self._num_asked += 1
                prompt = {"prompt_token_ids": list(waiting.pop())}
                self._engine.add_request(str(self._num_asked), prompt, sampling)
                num_running += 1
            for output in self._engine.step():
                if output.finished:
                    num_running -= 1
                    num_tokens += len(output.outputs[0].token_ids)
        return num_tokens


def load(wish: Wish) -> Vllm:
    """Loads and compiles."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")
    os.environ["VLLM_CPU_OMP_THREADS_BIND"] = f"0-{wish.num_threads - 1}"
    os.environ["VLLM_NO_USAGE_STATS"] = "1"
    from vllm import LLM

    llm = LLM(
        model=str(wish.model_dir),
        dtype="bfloat16",
        max_model_len=_MAX_MODEL_LEN,
        max_num_seqs=_MAX_SEQUENCES,
        enable_prefix_caching=False,
        disable_log_stats=True,
    )
    return Vllm(llm.llm_engine)


if __name__ == "__main__":
    run_peer(load)
