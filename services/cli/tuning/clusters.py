"""Real clusters to compare, each started when it is first asked for."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from types import TracebackType
from urllib.parse import urlsplit

from benchmarks.load_client import Server
from benchmarks.tuning.bottleneck import Observation
from benchmarks.tuning.figures import Figures
from benchmarks.tuning.load import run_window
from benchmarks.tuning.moves import DEFAULTS, Settings
from benchmarks.tuning.search import CannotRun, Comparison
from benchmarks.tuning.verdict import Pair
from benchmarks.tuning.workloads import Workload
from benchmarks.usage import memory_mib
from services.cli.cluster.plan import LOW_PRIORITY
from services.cli.cluster.state import ClusterState
from services.cli.failure import CommandFailed
from services.cli.own_cluster import own_cluster
from services.cli.settings_file import PREFIX
from services.cli.tuning.watch import watching

_Key = frozenset[tuple[str, str]]


@dataclass(slots=True)
class _Running:
    state: ClusterState
    settings: Settings
    stack: contextlib.ExitStack


class ClusterBench:
    """Clusters by their settings, under one workload at a time.

    Only one is under load at any time; the others idle, which costs them next to nothing.

    Args:
        model, engine: as `up` takes them.
        texts: prompts are cut from them.
    """

    def __init__(self, *, model: str | None, engine: str, texts: Sequence[str]) -> None:
        self._model = model
        self._engine = engine
        self._texts = texts
        self._running: dict[_Key, _Running] = {}
        self._kept: set[_Key] = set()
        self._workload: Workload | None = None
        # Clusters are started from our own thread, so only the load's is made less urgent.
        self._load_thread = ThreadPoolExecutor(1, "load", initializer=_lower_own_priority)

    def __enter__(self) -> ClusterBench:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.ExitStack() as stops:
            # All of them, also if Ctrl-C comes again meanwhile.
            for key in list(self._running):
                stops.callback(self._stop, key)
            stops.callback(self._load_thread.shutdown)

    def take(self, workload: Workload) -> None:
        """From here on windows have this load."""
        self._workload = workload

    def keep(self, settings: Settings) -> None:
        """The cluster with these settings stays, whoever forgets it."""
        self._kept.add(_key(settings))

    def look(self, settings: Settings) -> tuple[Figures, Observation]:
        """As Bench says. The first window finds caches and step times unmeasured: not counted."""
        self.warm_up(settings)
        return self.window(settings)

    def warm_up(self, settings: Settings) -> None:
        """A window that does not count.

        Raises:
            CannotRun: the cluster does not start or answer.
        """
        self._window(self._get(settings))

    def window(self, settings: Settings) -> tuple[Figures, Observation]:
        """One window.

        Raises:
            CannotRun: the cluster does not start or answer.
        """
        return self._window(self._get(settings))

    def memory_mib(self, settings: Settings) -> float:
        """Memory of all processes of a cluster that may have done nothing yet.

        Raises:
            CannotRun: it does not start.
        """
        processes = self._get(settings).state.processes
        return sum(memory_mib(one.pid) for one in processes if one.pid is not None)

    def compare(
        self, current: Settings, candidate: Settings, enough: Callable[[Sequence[Pair]], bool]
    ) -> Comparison:
        """As Bench says. Who begins changes from pair to pair."""
        old = self._get(current)
        is_new = _key(candidate) not in self._running
        new = self._get(candidate)
        if is_new:
            self._window(new)
        pairs: list[Pair] = []
        seen: dict[str, list[Observation]] = {"old": [], "new": []}
        while not enough(pairs):
            sides = [("old", old), ("new", new)]
            if len(pairs) % 2:
                sides.reverse()
            found: dict[str, Figures] = {}
            for name, side in sides:
                found[name], observation = self._window(side)
                seen[name].append(observation)
            pairs.append(Pair(found["old"], found["new"]))
        return Comparison(pairs, seen["old"][-1], seen["new"][-1])

    def forget(self, settings: Settings) -> None:
        """Stops the cluster with these settings, unless it is kept."""
        key = _key(settings)
        if key not in self._kept:
            self._stop(key)

    def _get(self, settings: Settings) -> _Running:
        key = _key(settings)
        if key not in self._running:
            stack = contextlib.ExitStack()
            variables = {k: v for k, v in settings.items() if k != "workers"}
            try:
                with _environment(variables):
                    state = stack.enter_context(
                        own_cluster(
                            model=self._model,
                            engine=self._engine,
                            num_workers=int(settings.get("workers", DEFAULTS["workers"])),
                        )
                    )
            except CommandFailed as exc:
                raise CannotRun(exc.message) from exc
            self._running[key] = _Running(state, settings, stack)
        return self._running[key]

    def _stop(self, key: _Key) -> None:
        running = self._running.pop(key, None)
        if running is not None:
            # It may have died under the load; then there is nothing to stop.
            with contextlib.suppress(CommandFailed):
                running.stack.close()

    def _window(self, running: _Running) -> tuple[Figures, Observation]:
        return self._load_thread.submit(asyncio.run, self._load(running)).result()

    async def _load(self, running: _Running) -> tuple[Figures, Observation]:
        assert self._workload is not None
        parts = urlsplit(running.state.http_url)
        server = Server(str(parts.hostname), parts.port or 80)
        places = int({**DEFAULTS, **running.settings}["max_num_seqs"])
        async with watching(running.state, places) as watch:
            figures = await run_window(
                server, running.state.model_name, self._workload, self._texts
            )
            observation = watch.observation(figures)
            figures = replace(figures, memory_mib=watch.memory_mib())
        if not figures.output_tokens:
            raise CannotRun(f"none of its {figures.errors} requests was answered")
        return figures, observation


def _key(settings: Settings) -> _Key:
    return frozenset(settings.items())


@contextlib.contextmanager
def _environment(fields: Settings) -> Iterator[None]:
    """The settings as variables, for the processes that are started in the block."""
    before = dict(os.environ)
    os.environ.update({PREFIX + name.upper(): value for name, value in fields.items()})
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _lower_own_priority() -> None:
    # Priority is a thread's own on Linux: a client elsewhere would not take the workers' time.
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOW_PRIORITY)
