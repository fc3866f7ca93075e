"""The two sides of a comparison: a peer in its environment, and we."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.children import Child, ChildFailed
from benchmarks.peers.catalogue import PeerSpec
from benchmarks.peers.compare import Figure
from benchmarks.peers.workload import (
    NEW_TOKENS,
    REQUESTS_OF,
    Cell,
    Clients,
    Decode,
    decode_tps,
    prefill_tps,
)
from benchmarks.prose import TokenStream
from benchmarks.quiet import alone

_ROOT = Path(__file__).parents[2]
_CLIENT_TIMEOUT_S = 900.0


class PeerSide:
    """A peer.

    Args:
        child: runs its adapter.
        stream: prompts of any length.
        prose: the prompts of the clients.
    """

    def __init__(self, child: Child, stream: TokenStream, prose: Sequence[Sequence[int]]) -> None:
        self._child = child
        self._stream = stream
        self._prose = prose

    def measure(self, cell: Cell) -> Figure:
        """One cell, once."""
        with alone():
            match cell:
                case Clients(num_clients):
                    prompts = self._prose[: REQUESTS_OF[num_clients]]
                    seconds = self.run(prompts, NEW_TOKENS, num_clients)
                    return Figure(len(prompts) * NEW_TOKENS / seconds)
                case Decode():
                    return Figure(decode_tps(self, self._stream))
                case _:
                    return Figure(prefill_tps(self, self._stream))

    def run(self, prompts: Sequence[Sequence[int]], max_tokens: int, concurrency: int) -> float:
        """As workload.Runs says.

        Raises:
            ChildFailed: the peer failed, or generated another number of tokens than it was asked.
        """
        answer = self._child.ask(
            {"prompts": prompts, "max_tokens": max_tokens, "concurrency": concurrency}
        )
        if answer["num_tokens"] != len(prompts) * max_tokens:
            wanted = len(prompts) * max_tokens
            raise ChildFailed(self._child.name, f"{answer['num_tokens']} tokens, not {wanted}")
        return answer["wall_s"]


class OurSide:
    """We: the bare engine for one sequence, the HTTP door for clients.

    Args:
        engine: runs `worker.bench.engine`.
        url: of a cluster in the same precision.
        stream: prompts of any length.
    """

    def __init__(self, engine: Child, url: str, stream: TokenStream) -> None:
        self._engine = engine
        self._url = url
        self._stream = stream

    def measure(self, cell: Cell) -> Figure:
        """One cell, once."""
        if isinstance(cell, Clients):
            return self._through_the_door(cell.num_clients)
        with alone():
            measure = decode_tps if isinstance(cell, Decode) else prefill_tps
            return Figure(measure(self, self._stream))

    def run(self, prompts: Sequence[Sequence[int]], max_tokens: int, concurrency: int) -> float:
        """As workload.Runs says; all prompts at once, of which there is one."""
        order = {"do": "generate", "prompts": prompts, "max_tokens": max_tokens}
        return self._engine.ask(order)["wall_s"]

    def machine(self) -> dict[str, Any]:
        """What the machine could do at this time."""
        with alone():
            return self._engine.ask({"do": "roofline"})

    def _through_the_door(self, num_clients: int) -> Figure:
        # In a process of its own: it gives way to the servers, as a client elsewhere would.
        command = [sys.executable, "-m", "services.cli.main", "bench", "serve", "--json"]
        command += ["--url", self._url, "--concurrency", str(num_clients)]
        command += ["--requests", str(REQUESTS_OF[num_clients]), "--max-tokens", str(NEW_TOKENS)]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_CLIENT_TIMEOUT_S, check=False
        )
        if done.returncode != 0:
            raise ChildFailed("the load client", done.stderr.strip()[-300:])
        figures: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        if figures["errors"]:
            raise ChildFailed("our cluster", f"errors: {figures['error_kinds']}")
        felt = {name: figures[name] for name in ("ttft_ms", "itl_ms")}
        return Figure(figures["output_tps"], felt)


def start_peer(
    spec: PeerSpec, python: Path, precision: str, model_dir: Path, gguf: Path, log_file: Path
) -> Child:
    """Loads a peer.

    Raises:
        ChildFailed: it does not load.
    """
    made_dir = python.parents[2] / "made"
    made_dir.mkdir(exist_ok=True)
    command = [str(python), "-m", spec.program, "--model", str(model_dir), "--gguf", str(gguf)]
    command += ["--made", str(made_dir), "--precision", precision]
    command += ["--threads", str(os.cpu_count())]
    return Child(
        f"{spec.title} {spec.precisions[precision]}",
        command,
        log_file=log_file,
        # What it loads lies here; nothing is to be asked of a hub.
        environment={"PYTHONPATH": str(_ROOT), "HF_HUB_OFFLINE": "1"},
    )
