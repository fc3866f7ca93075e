"""What a peer must do, and the program around it, in the peer's own environment.

Standard library only: that environment holds the peer and nothing of ours but this folder.
`python -m benchmarks.peers.NAME --model DIR ...` says `{"ready": true}` when the weights are
loaded, then takes orders, one JSON line in and one out:

    {"prompts": [[ids], ...], "max_tokens": N, "concurrency": C}   ->   {"wall_s", "num_tokens"}
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, Protocol


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be loaded.

    Attributes:
        model_dir: the weights in Hugging Face layout, float32.
        gguf: the file that they were unpacked from.
        made_dir: keeps what the peer makes of them, for the next run.
        precision: bf16 or int8.
        num_threads: of its kernels.
    """

    model_dir: Path
    gguf: Path
    made_dir: Path
    precision: str
    num_threads: int


class Peer(Protocol):
    """A loaded engine."""

    def generate(self, prompts: Sequence[Sequence[int]], max_tokens: int, concurrency: int) -> int:
        """Completes prompts greedily, each by max_tokens, ends of sequence ignored.

        Args:
            prompts: token ids; nothing computed for an earlier one may be reused.
            max_tokens: of each.
            concurrency: how many run at once; the next starts when one is done.

        Returns:
            How many tokens were generated.
        """
        ...


def run_peer(load: Callable[[Wish], Peer]) -> NoReturn:
    """The program of a peer."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--gguf", type=Path, required=True)
    parser.add_argument("--made", type=Path, required=True)
    parser.add_argument("--precision", required=True)
    parser.add_argument("--threads", type=int, required=True)
    given = parser.parse_args()
    began = time.perf_counter()
    peer = load(Wish(given.model, given.gguf, given.made, given.precision, given.threads))
    _say({"ready": True, "load_s": round(time.perf_counter() - began, 2)})
    for line in sys.stdin:
        order = json.loads(line)
        began = time.perf_counter()
        num_tokens = peer.generate(order["prompts"], order["max_tokens"], order["concurrency"])
        _say({"wall_s": time.perf_counter() - began, "num_tokens": num_tokens})
    # Threads of a library may not end by themselves.
    os._exit(0)


def _say(answer: dict[str, object]) -> None:
    # A line of its own even after a library's progress bar.
    sys.stdout.write("\n" + json.dumps(answer) + "\n")
    sys.stdout.flush()
