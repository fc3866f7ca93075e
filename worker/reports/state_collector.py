"""The state of a worker as Prometheus metrics, read when it is scraped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from services.core.load import WorkerLoad
from services.runtime import names
from worker.reports.gpu_meter import GpuFigures


class ToldLoad:
    """The load as it was last told in a heartbeat: two a second, and at each change.

    Working it out walks over what the event loop changes; a scrape, on a thread of its own, takes
    the last one.
    """

    def __init__(self, work_out: Callable[[], WorkerLoad]) -> None:
        self._work_out = work_out
        self._last = work_out()

    def now(self) -> WorkerLoad:
        """Works it out; on the event loop."""
        self._last = self._work_out()
        return self._last

    def last(self) -> WorkerLoad:
        """As it was last worked out; on any thread."""
        return self._last


class StateCollector(Collector):
    """Reads plain numbers only, so that the scraping thread may run beside the event loop.

    Args:
        model: name that requests carry.
        worker_id: label `engine` of the vllm names.
        load: how busy it is now.
        num_offers_dropped: blocks that were not offered to the cache service.
        gpus: what the driver says of the GPUs; empty without one.
    """

    def __init__(
        self,
        model: str,
        worker_id: str,
        *,
        load: Callable[[], WorkerLoad],
        num_offers_dropped: Callable[[], int],
        gpus: Callable[[], Sequence[GpuFigures]],
    ) -> None:
        self._model = model
        self._labels = [model, worker_id]
        self._load = load
        self._num_offers_dropped = num_offers_dropped
        self._gpus = gpus

    def collect(self) -> Iterator[Metric]:
        """One family per figure."""
        load = self._load()
        num_used = load.num_blocks - load.num_free_blocks
        model = [self._model]
        yield _gauge(
            names.METRIC_WORKER_REQUESTS,
            "Requests here, by state.",
            ["model", "state"],
            {
                (self._model, "running"): load.num_running,
                (self._model, "waiting"): load.num_waiting,
            },
        )
        yield _gauge(
            names.METRIC_WORKER_MAX_REQUESTS,
            "Requests that may be here at once.",
            ["model"],
            {tuple(model): load.max_requests},
        )
        yield _gauge(
            names.METRIC_PENDING_PREFILL,
            "Prompt tokens accepted and not yet computed.",
            ["model"],
            {tuple(model): load.num_pending_prefill_tokens},
        )
        yield _gauge(
            names.METRIC_KV_BLOCKS,
            "Blocks of the K/V pool: held by running sequences, or free to take.",
            ["model", "state"],
            {(self._model, "held"): num_used, (self._model, "free"): load.num_free_blocks},
        )
        yield _gauge(
            names.METRIC_KV_BLOCK_TOKENS,
            "Tokens of a K/V block.",
            ["model"],
            {tuple(model): load.block_size},
        )
        dropped = CounterMetricFamily(
            names.METRIC_OFFERS_DROPPED,
            "Blocks that were not offered to the cache service: its queue was full, or it failed.",
            labels=["model"],
        )
        dropped.add_metric(model, self._num_offers_dropped())
        yield dropped
        yield from self._vllm(load, num_used)
        yield from self._of_gpus()

    def _vllm(self, load: WorkerLoad, num_used: int) -> Iterator[Metric]:
        usage = num_used / load.num_blocks if load.num_blocks else 0.0
        for name, text, value in (
            (names.VLLM_RUNNING, "Requests in the running batch.", load.num_running),
            (names.VLLM_WAITING, "Requests that wait in the worker.", load.num_waiting),
            (names.VLLM_KV_USAGE, "Share of the K/V blocks that is held, 0 to 1.", usage),
        ):
            yield _gauge(name, text, list(names.VLLM_LABELS), {tuple(self._labels): value})
        yield _gauge(
            names.VLLM_CACHE_CONFIG,
            "Shape of the K/V pool, as labels.",
            [*names.VLLM_LABELS, "block_size", "num_gpu_blocks"],
            {(*self._labels, str(load.block_size), str(load.num_blocks)): 1},
        )

    def _of_gpus(self) -> Iterator[Metric]:
        gpus = self._gpus()
        for name, text, values in (
            (
                names.METRIC_GPU_UTILISATION,
                "Share of the last moment in which the GPU ran a kernel, by NVML.",
                [gpu.utilisation for gpu in gpus],
            ),
            (
                names.METRIC_GPU_MEMORY_USED,
                "GPU memory in use, of all processes, by NVML.",
                [gpu.memory_used_bytes for gpu in gpus],
            ),
            (
                names.METRIC_GPU_MEMORY_TOTAL,
                "GPU memory, by NVML.",
                [gpu.memory_total_bytes for gpu in gpus],
            ),
        ):
            samples = {(str(idx),): value for idx, value in enumerate(values)}
            yield _gauge(name, text, ["gpu"], samples)


def _gauge(
    name: str, text: str, labels: Sequence[str], samples: dict[tuple[str, ...], float]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=labels)
    for values, value in samples.items():
        family.add_metric(list(values), value)
    return family
