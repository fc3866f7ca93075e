"""Decode steps as CUDA graphs: one launch instead of hundreds.

Where there is no GPU the same code runs its steps eagerly, which is how it is tested.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from worker.engine.cuda.buckets import batch_buckets, bucket_of
from worker.engine.cuda.inputs import DecodeInputs
from worker.engine.cuda.model import CudaModel
from worker.engine.cuda.step_arrays import DecodeRows

_NUM_WARM_UPS = 2
"""Before a capture: libraries allocate and choose kernels on their first calls."""


@dataclass(slots=True)
class _Bucket:
    inputs: DecodeInputs
    graph: torch.cuda.CUDAGraph | None = None
    logits: torch.Tensor | None = None


class DecodeGraphs:
    """A graph per batch size, captured when the size is first met or by `capture_all`."""

    def __init__(self, model: CudaModel, max_rows: int, device: torch.device) -> None:
        self._model = model
        self._device = device
        self.sizes = batch_buckets(max_rows)
        self._buckets: dict[int, _Bucket] = {}
        # Shared: only one graph runs at a time, so all may use the same memory.
        self._memory = torch.cuda.graph_pool_handle() if device.type == "cuda" else None

    def capture_all(self) -> None:
        """Captures every size, largest first: smaller ones then fit into its memory."""
        for size in reversed(self.sizes):
            bucket = self._bucket(size)
            bucket.inputs.lay_out(DecodeRows())
            bucket.inputs.send([])
            self._run(bucket)

    def lay_out(self, rows: DecodeRows) -> int | None:
        """Puts a step down but for its token ids; its size for `run`, None if it is too large."""
        size = bucket_of(len(rows.positions), self.sizes)
        if size is not None:
            self._bucket(size).inputs.lay_out(rows)
        return size

    def run(self, size: int, token_ids: Sequence[int]) -> torch.Tensor:
        """Starts the step that was laid down last: (size, vocab_size) float32, good until the next.

        Returns before the device is done.
        """
        bucket = self._bucket(size)
        bucket.inputs.send(token_ids)
        return self._run(bucket)

    def _bucket(self, size: int) -> _Bucket:
        if size not in self._buckets:
            inputs = DecodeInputs(size, self._model.pool_shape, self._device)
            self._buckets[size] = _Bucket(inputs)
        return self._buckets[size]

    def _run(self, bucket: _Bucket) -> torch.Tensor:
        if self._device.type != "cuda":
            return self._compute(bucket)
        if bucket.graph is None:
            self._capture(bucket)
        assert bucket.graph is not None
        assert bucket.logits is not None
        bucket.graph.replay()
        return bucket.logits

    def _capture(self, bucket: _Bucket) -> None:
        current = torch.cuda.current_stream()
        aside = torch.cuda.Stream()
        aside.wait_stream(current)
        with torch.cuda.stream(aside):
            for _ in range(_NUM_WARM_UPS):
                self._compute(bucket)
        current.wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._memory):
            bucket.logits = self._compute(bucket)
        bucket.graph = graph

    def _compute(self, bucket: _Bucket) -> torch.Tensor:
        return self._model.logits(self._model.hidden(bucket.inputs.step))
