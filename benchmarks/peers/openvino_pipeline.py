"""OpenVINO GenAI: its continuous batching, stepped by hand, on a model that Optimum exports."""
# pyright: reportMissingImports=false

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers.port import Wish, run_peer

_WEIGHT_FORMATS = {"bf16": "fp16", "int8": "int8"}
"""What the exporter calls them; the CPU computes in bf16 by default where it can."""
_CACHE_GIB = 2
_MAX_SEQUENCES = 32
_MAX_STEP_TOKENS = 512


class OpenVino:
    """A pipeline."""

    def __init__(self, pipeline: Any) -> None:
        self._pipeline = pipeline
        self._num_asked = 0

    def generate(self, prompts: Sequence[Sequence[int]], max_tokens: int, concurrency: int) -> int:
        """As the port says."""
        import numpy as np
        import openvino
        from openvino_genai import GenerationConfig, GenerationStatus

        config = GenerationConfig()
        config.max_new_tokens = max_tokens
        config.ignore_eos = True
        config.do_sample = False
        waiting = list(prompts)[::-1]
        running: list[Any] = []
        num_tokens = 0
        while waiting or running:
            while waiting and len(running) < concurrency:
                ids = openvino.Tensor(np.array([waiting.pop()], dtype=np.int64))
                running.append(self._pipeline.add_request(self._num_asked, ids, config))
                self._num_asked += 1
            self._pipeline.step()
            done = [h for h in running if h.get_status() != GenerationStatus.RUNNING]
            for handle in done:
                running.remove(handle)
                num_tokens += sum(len(output.generated_ids) for output in handle.read_all())
        return num_tokens


def load(wish: Wish) -> OpenVino:
    """Loads, exporting the model first if that was not done yet."""
    from openvino_genai import ContinuousBatchingPipeline, SchedulerConfig

    scheduling = SchedulerConfig()
    scheduling.cache_size = _CACHE_GIB
    scheduling.max_num_seqs = _MAX_SEQUENCES
    scheduling.max_num_batched_tokens = _MAX_STEP_TOKENS
    scheduling.enable_prefix_caching = False
    properties = {"INFERENCE_NUM_THREADS": wish.num_threads}
    return OpenVino(ContinuousBatchingPipeline(str(_exported(wish)), scheduling, "CPU", properties))


def _exported(wish: Wish) -> Path:
    weight_format = _WEIGHT_FORMATS[wish.precision]
    directory = wish.made_dir / weight_format
    if not (directory / "openvino_model.xml").is_file():
        command = [sys.executable, "-m", "optimum.commands.optimum_cli", "export", "openvino"]
        command += ["--model", str(wish.model_dir), "--task", "text-generation-with-past"]
        command += ["--weight-format", weight_format, str(directory)]
        subprocess.run(command, check=True, stdout=sys.stderr)
    return directory


if __name__ == "__main__":
    run_peer(load)
