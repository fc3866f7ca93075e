import sys
from pathlib import Path

import pytest

from benchmarks.children import Child, ChildFailed
from benchmarks.peers.sides import PeerSide
from benchmarks.peers.workload import Clients
from benchmarks.prose import TokenStream

ROOT = Path(__file__).parents[3]
FAKE_PEER = """
from benchmarks.peers.port import run_peer

class FakePeer:
    def generate(self, prompts, max_tokens, concurrency):
        print("progress 100 %", end="")
        return len(prompts) * (max_tokens - NUM_LOST)

run_peer(lambda wish: FakePeer())
"""


def fake_peer(tmp_path: Path, num_lost: int = 0) -> Child:
    wish = ["--model", "m", "--gguf", "g", "--made", "d", "--precision", "bf16", "--threads", "2"]
    program = f"NUM_LOST = {num_lost}\n{FAKE_PEER}"
    return Child(
        "fake peer",
        [sys.executable, "-c", program, *wish],
        log_file=tmp_path / "log",
        environment={"PYTHONPATH": str(ROOT)},
    )


def test_a_peer_answers_orders_even_if_its_library_prints(tmp_path: Path):
    with fake_peer(tmp_path) as child:
        side = PeerSide(child, TokenStream([1, 2, 3]), [[1, 2]] * 32)
        assert side.measure(Clients(8)).tps > 0


def test_a_peer_that_stops_early_is_not_measured(tmp_path: Path):
    with fake_peer(tmp_path, num_lost=1) as child:
        side = PeerSide(child, TokenStream([1, 2, 3]), [[1, 2]] * 32)
        with pytest.raises(ChildFailed, match="4064 tokens, not 4096"):
            side.measure(Clients(32))
