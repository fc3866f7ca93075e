"""llama.cpp through the low-level interface of llama-cpp-python, batching as its server does."""
# pyright: reportMissingImports=false

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers.port import Wish, run_peer

_MAX_SEQUENCES = 32
_CONTEXT_EACH = 1024
_MAX_STEP_TOKENS = 512


@dataclass(slots=True)
class _Sequence:
    """One completion.

    Attributes:
        slot: llama.cpp's sequence id.
        fed: tokens of its own that are in the cache.
        pending: tokens that are not: the prompt at first, then the last token drawn.
    """

    slot: int
    pending: list[int]
    fed: int = 0
    num_drawn: int = 0


class LlamaCpp:
    """A context of llama.cpp.

    Args:
        lib: the module llama_cpp.
        context: of a loaded model.
        num_words: size of its vocabulary.
    """

    def __init__(self, lib: Any, context: Any, num_words: int) -> None:
        self._lib = lib
        self._context = context
        self._num_words = num_words
        self._batch = lib.llama_batch_init(_MAX_STEP_TOKENS, 0, 1)

    def generate(self, prompts: Sequence[Sequence[int]], max_tokens: int, concurrency: int) -> int:
        """As the port says."""
        waiting = list(prompts)[::-1]
        free = list(range(concurrency))
        running: list[_Sequence] = []
        num_tokens = 0
        while waiting or running:
            while waiting and free:
                running.append(_Sequence(free.pop(), list(waiting.pop())))
            for sequence, row in self._step(running):
                sequence.pending = [self._best(row)]
                sequence.num_drawn += 1
                if sequence.num_drawn == max_tokens:
                    running.remove(sequence)
                    free.append(sequence.slot)
                    num_tokens += max_tokens
                    memory = self._lib.llama_get_memory(self._context)
                    self._lib.llama_memory_seq_rm(memory, sequence.slot, -1, -1)
        return num_tokens

    def _step(self, running: Sequence[_Sequence]) -> list[tuple[_Sequence, int]]:
        """One forward pass; answers which sequences have a next token, and at which row."""
        ready: list[tuple[_Sequence, int]] = []
        num_rows = 0
        # Those that decode first, so that no prompt keeps them waiting.
        for sequence in sorted(running, key=lambda one: one.num_drawn == 0):
            taken = sequence.pending[: _MAX_STEP_TOKENS - num_rows]
            for idx, token_id in enumerate(taken):
                row = num_rows + idx
                self._batch.token[row] = token_id
                self._batch.pos[row] = sequence.fed + idx
                self._batch.n_seq_id[row] = 1
                self._batch.seq_id[row][0] = sequence.slot
                self._batch.logits[row] = False
            del sequence.pending[: len(taken)]
            sequence.fed += len(taken)
            num_rows += len(taken)
            if taken and not sequence.pending:
                self._batch.logits[num_rows - 1] = True
                ready.append((sequence, num_rows - 1))
        self._batch.n_tokens = num_rows
        if self._lib.llama_decode(self._context, self._batch) != 0:
            raise RuntimeError("llama_decode failed")
        return ready

    def _best(self, row: int) -> int:
        import numpy as np

        logits = self._lib.llama_get_logits_ith(self._context, row)
        return int(np.ctypeslib.as_array(logits, shape=(self._num_words,)).argmax())


def load(wish: Wish) -> LlamaCpp:
    """Loads, making the file in this precision first if there is none yet."""
    import llama_cpp

    llama_cpp.llama_backend_init()
    path = _made(llama_cpp, wish)
    model = llama_cpp.llama_model_load_from_file(
        str(path).encode(), llama_cpp.llama_model_default_params()
    )
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = _MAX_SEQUENCES * _CONTEXT_EACH
    params.n_seq_max = _MAX_SEQUENCES
    params.kv_unified = True
    params.n_batch = params.n_ubatch = _MAX_STEP_TOKENS
    params.n_threads = params.n_threads_batch = wish.num_threads
    context = llama_cpp.llama_init_from_model(model, params)
    if not context:
        raise RuntimeError("llama_init_from_model failed")
    vocabulary = llama_cpp.llama_model_get_vocab(model)
    return LlamaCpp(llama_cpp, context, llama_cpp.llama_vocab_n_tokens(vocabulary))


def _made(llama_cpp: Any, wish: Wish) -> Path:
    file_types = {
        "bf16": llama_cpp.LLAMA_FTYPE_MOSTLY_BF16,
        "int8": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0,
    }
    path = wish.made_dir / f"{wish.precision}.gguf"
    if not path.is_file():
        params = llama_cpp.llama_model_quantize_default_params()
        params.ftype = file_types[wish.precision]
        params.allow_requantize = True
        params.nthread = wish.num_threads
        unfinished = path.with_suffix(".unfinished")
        if llama_cpp.llama_model_quantize(
            str(wish.gguf).encode(), str(unfinished).encode(), ctypes.byref(params)
        ):
            raise RuntimeError(f"llama.cpp cannot write {path.name}")
        unfinished.rename(path)
    return path


if __name__ == "__main__":
    run_peer(load)
