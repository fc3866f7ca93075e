"""A bench that computes what it says it measured."""

from collections.abc import Callable, Sequence

from benchmarks.tuning.bottleneck import Observation
from benchmarks.tuning.figures import Figures
from benchmarks.tuning.moves import Settings
from benchmarks.tuning.search import CannotRun, Comparison
from benchmarks.tuning.verdict import Pair
from services.core.step_time import StepTimeModel

FACTORS = {
    ("quantization", "int8"): 1.5,
    ("speculation", "ngram"): 0.9,
    ("itl_target_ms", "0.0"): 1.2,
}
"""What each value does to throughput; all others do nothing."""


class FakeBench:
    """Throughput by FACTORS; first tokens take `ttft_ms(settings)`."""

    def __init__(
        self,
        ttft_ms: Callable[[Settings], float] = lambda settings: 100.0,
        broken: Sequence[str] = (),
    ) -> None:
        self.ttft_ms = ttft_ms
        self.broken = broken
        self.alive: list[Settings] = []

    def figures(self, settings: Settings) -> Figures:
        tps = 100.0
        for item in settings.items():
            tps *= FACTORS.get(item, 1.0)
        return Figures(
            seconds=1.0,
            output_tokens=round(tps),
            samples={"ttft": [self.ttft_ms(settings)]},
            memory_mib=1.0,
        )

    def seen(self, settings: Settings) -> Observation:
        return Observation(
            seconds=1.0, output_tokens=round(self.figures(settings).output_tokens),
            prompt_tokens=0, num_running=1.0, num_waiting=0.0, num_places=32, full_share=0.0,
            kv_used_peak=0.1, context_tokens=10.0, cpu_s={"worker": 1.0}, num_cpus=2,
            step_time=StepTimeModel(base_s=9e-3, decode_s=1e-3),
        )  # fmt: skip

    def look(self, settings: Settings) -> tuple[Figures, Observation]:
        self.alive.append(settings)
        return self.figures(settings), self.seen(settings)

    def compare(
        self, current: Settings, candidate: Settings, enough: Callable[[Sequence[Pair]], bool]
    ) -> Comparison:
        if set(self.broken) & set(candidate):
            raise CannotRun("it said no")
        if candidate not in self.alive:
            self.alive.append(candidate)
        pairs: list[Pair] = []
        while not enough(pairs):
            pairs.append(Pair(self.figures(current), self.figures(candidate)))
        return Comparison(pairs, self.seen(current), self.seen(candidate))

    def forget(self, settings: Settings) -> None:
        if settings in self.alive:
            self.alive.remove(settings)


class StepsBudget:
    """So many steps."""

    def __init__(self, num_steps: int) -> None:
        self.left = num_steps

    def fits_another(self) -> bool:
        self.left -= 1
        return self.left >= 0
