import shutil
import subprocess
from pathlib import Path

import pytest
from opentelemetry.context import Context
from prometheus_client import REGISTRY, CollectorRegistry

from services.core.load import WorkerLoad
from services.core.request import QueuedRequest
from services.core.step_time import StepTimeModel
from services.runtime.bounded_label import TENANT_LABEL
from tests.worker.conditions import until
from tests.worker.fake_gateway import FakeGateway
from tests.worker.rig import MODEL, make_request, rig
from worker.engine.fake_engine import FakeEngine
from worker.reports.gpu_meter import GpuFigures, open_gpu_meter
from worker.reports.state_collector import StateCollector, ToldLoad

LOAD = WorkerLoad(
    max_requests=8,
    num_running=2,
    num_waiting=1,
    num_free_blocks=30,
    num_blocks=40,
    block_size=32,
    num_pending_prefill_tokens=100,
)


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def test_an_answer_is_counted_in_steps_tokens_and_times():
    engine = {"model_name": MODEL, "engine": "worker-1"}
    computed = value("tokenmill_worker_prompt_tokens_total", model=MODEL, source="computed")
    decoded = value("tokenmill_worker_step_tokens_total", model=MODEL, phase="decode")
    answers = value("vllm:request_inference_time_seconds_count", **engine)
    async with FakeGateway() as gateway, rig(FakeEngine()) as worker:
        request = make_request("req-1", gateway.address, prompt_token_ids=tuple(range(100, 200)))
        await worker.submit(request)
        await until(lambda: len(worker.table) == 0)
    assert value("tokenmill_worker_prompt_tokens_total", model=MODEL, source="computed") > computed
    assert value("tokenmill_worker_step_tokens_total", model=MODEL, phase="decode") > decoded
    assert value("vllm:request_inference_time_seconds_count", **engine) == answers + 1
    assert value("tokenmill_worker_busy_seconds_total", model=MODEL) > 0


class ThreeBlocks:
    """A fetcher that says it brought three blocks."""

    async def fetch(self, request: QueuedRequest, context: Context) -> int:
        return 3


async def test_what_the_cache_cost_and_what_it_saved_are_counted_by_tenant(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(TENANT_LABEL, "max_values", 10_000)
    labels = {"model": MODEL, "tenant": "tenant-of-this-test"}
    async with FakeGateway() as gateway, rig(FakeEngine(), fetcher=ThreeBlocks()) as worker:
        for request_id in ("req-1", "req-2"):
            request = make_request(
                request_id,
                gateway.address,
                prompt_token_ids=tuple(range(100, 200)),
                tenant=labels["tenant"],
            )
            # Nothing of the first was found by the engine, so nothing is saved.
            assert value("tokenmill_worker_cache_saved_seconds_total", **labels) == 0
            await worker.submit(request)
            await until(lambda: len(worker.table) == 0)
    model = StepTimeModel()
    assert value("tokenmill_worker_cache_load_seconds_total", **labels) > 0
    assert value("tokenmill_worker_cache_saved_seconds_total", **labels) == pytest.approx(
        96 * model.prefill_token_s(0, 0) + model.prefill_pair_s * 96 * 48
    )


def test_state_is_read_at_the_scrape_with_its_gpus():
    registry = CollectorRegistry()
    loads = [LOAD]
    told = ToldLoad(lambda: loads[-1])
    collector = StateCollector(
        "m",
        "worker-1",
        load=told.last,
        num_offers_dropped=lambda: 3,
        gpus=lambda: [GpuFigures(0.5, 10, 80)],
    )
    registry.register(collector)

    def sample(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    assert sample("tokenmill_worker_kv_blocks", model="m", state="held") == 10
    assert sample("vllm:kv_cache_usage_perc", model_name="m", engine="worker-1") == 0.25
    assert sample("tokenmill_worker_cache_offers_dropped_blocks_total", model="m") == 3
    assert sample("tokenmill_worker_gpu_utilisation_ratio", gpu="0") == 0.5


def test_without_a_driver_there_are_no_gpu_figures():
    assert list(open_gpu_meter("libno-such-driver.so")()) == []


FAKE_DRIVER = r"""
struct utilisation { unsigned gpu, memory; };
struct memory { unsigned long long total, free, used; };
int nvmlInit_v2(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned idx, void **handle) {
  *handle = (void *)(0x700000000000ull + idx); return 0; }
int nvmlDeviceGetUtilizationRates(void *handle, struct utilisation *told) {
  told->gpu = (unsigned long long)handle == 0x700000000001ull ? 75 : 25;
  return 0; }
int nvmlDeviceGetMemoryInfo(void *handle, struct memory *told) {
  told->total = 80ull << 30; told->used = 3ull << 30; told->free = 77ull << 30; return 0; }
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_each_gpu_is_asked_of_the_driver_by_its_own_handle(tmp_path: Path):
    source, library = tmp_path / "fake_nvml.c", tmp_path / "libfake_nvml.so"
    source.write_text(FAKE_DRIVER)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    gib = 1 << 30
    assert list(open_gpu_meter(str(library))()) == [
        GpuFigures(0.25, 3 * gib, 80 * gib),
        GpuFigures(0.75, 3 * gib, 80 * gib),
    ]
